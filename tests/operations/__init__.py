"""What an operation of the store does and bills, on the emulator."""
