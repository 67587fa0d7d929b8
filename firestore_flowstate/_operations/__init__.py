"""What a Firestore store does, in the order it happens, on top of `_document`, `_query` and `_rpc`.

Imports google.*: `firestore` imports this at the first call, after the connection has done so on a thread.
"""
