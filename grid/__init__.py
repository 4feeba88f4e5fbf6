"""A grid of runs: its settings, what is to do, training layer by layer, result files and their table."""
