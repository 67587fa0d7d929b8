"""`_rpc/`: calls, deadlines, channels, forks, loops, Listen."""
