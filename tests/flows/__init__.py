"""`flows/`: durable flows, in memory, on the emulator and under kills."""
