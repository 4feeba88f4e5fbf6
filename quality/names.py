"""Names that the scores' file, tables and figures share; imports nothing heavy."""

# Where x_hat is measured and spliced in.
PLACES = {"city": "at the city's position", "all": "at all positions"}
SCORES_FILE = "sae-quality.json"
WORK = "scores-"  # of the shares of this work (grid.shares)
