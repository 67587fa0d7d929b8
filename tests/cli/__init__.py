"""The command `flowstate`: its answers, what its pages show, its terminal."""
