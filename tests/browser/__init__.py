"""The page of examples/firebase, driven in a headless browser."""
