"""`_query/`: queries, tokens and the indexes that they need."""
