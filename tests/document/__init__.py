"""`_document/`: pure functions between states and documents, and documents that are damaged."""
