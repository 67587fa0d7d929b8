"""What tests of several folders use: meters, damage, raw documents, the search for leftovers."""
