"""`testing/`: the pytest plugin."""
