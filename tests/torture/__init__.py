"""The torture test: many kinds of writers and readers at once, while connections break and Firestore is killed.

`plan` draws operations and faults from a seed, `actors` and `faults` do them, `history` records what was asked and
answered, and `checking` looks whether one order of the operations explains all of it. `model` says what an operation
does to a flow state. It shares no code with the package.
"""
