"""Calls to Firestore: connections, deadlines, retries and error mapping. The only room that knows grpc."""
