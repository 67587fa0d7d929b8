"""Dispatchers: Cloud Tasks, by a server of the tests, and the queue of firebase-tools."""
