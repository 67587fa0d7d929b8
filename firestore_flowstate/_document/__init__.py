"""The stored format: pure functions between flow states and Firestore documents. No I/O.

The specification is docs/format.md. Modules that fill protobuf messages import google.*, so nothing is
imported here: a store is constructed, and ids are checked, without it.
"""
