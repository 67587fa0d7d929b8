"""The collection of a store: the names in it, how its values are packed, and what a process knows of it."""
