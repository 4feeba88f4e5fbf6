"""The words of the experiment that the command line, result files and figures share; imports nothing heavy."""

ATTRIBUTES = ("country", "continent")
UNITS = ("country", "continent", "city")  # what intervals may take to be independent of each other

# few-shot: the paper's.  bare: the tokenizer's start token and the question alone, for models
# that were trained on the question itself (the toy world).
PROMPT_STYLES = ("few-shot", "bare")

MODES = ("paper", "strict")
SPLITS = ("pairs", "cities")
KINDS = ("cause", "isolation")
PARTS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def default_split(mode: str) -> str:
    return "cities" if mode == "strict" else "pairs"


def other(attribute: str) -> str:
    """The attribute that must stay as it is when this one is the target."""
    return ATTRIBUTES[1 - ATTRIBUTES.index(attribute)]


def sentence(attribute: str, city: str, value: str = "") -> str:
    """A solved example, or (without value) the question, cut off before the value."""
    question = f"{city} is a city in the {attribute} of"
    return f"{question} {value}." if value else question
