"""Documents, texts and stores made to do harm."""
