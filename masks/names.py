"""Names that the command line, result files and figures share; imports nothing heavy."""

ENGINE_NAMES = ("fast", "nnsight")  # keys of engines.ENGINES
PRECISIONS = ("fp32", "tf32", "bf16")  # of the products with the model's weights while training
MASKS = ("soft", "hard")
SCORES = ("cause", "isolation", "disentangle")
