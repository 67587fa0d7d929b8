"""Requests and replies that are lost, late or doubled, calls that are cancelled, and the round trips of each call."""
