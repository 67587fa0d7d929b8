"""Large states: parts, compaction, compression, encryption."""
