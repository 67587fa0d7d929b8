"""The package as a whole: its rooms, exports, types, wheel and release."""
