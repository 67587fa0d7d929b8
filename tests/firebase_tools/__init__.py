"""What Node does for other tests: validation by firebase-tools, and its queue of tasks."""
