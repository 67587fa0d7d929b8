"""The tests, in folders that follow the rooms of the package. tests/README.md says which test goes into which."""
