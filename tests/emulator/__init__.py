"""`emulator/`: finding, starting and stopping the emulator."""
