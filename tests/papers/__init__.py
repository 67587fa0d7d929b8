"""README, docs, demo, benchmarks and site: their code runs, and they say what is so."""
