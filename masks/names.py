"""Names that the command line, result files and figures share; imports nothing heavy."""

ENGINE_NAMES = ("fast", "nnsight")  # keys of engines.ENGINES
PRECISIONS = ("fp32", "tf32", "bf16")  # of the products with the model's weights while training
BATCHING_NAMES = ("mixed", "original")  # keys of batching.BATCHINGS
MASKS = ("soft", "hard")
SCORES = ("cause", "isolation", "disentangle")


def default_batching(mode: str) -> str:
    """How pairs are cut into batches: in mode paper as the paper's code does."""
    return "original" if mode == "paper" else "mixed"


def default_mask(mode: str) -> str:
    """The mask whose scores are compared and drawn: the paper's figures show the soft one."""
    return "soft" if mode == "paper" else "hard"
