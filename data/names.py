"""The words of the experiment that the command line, result files and figures share; imports nothing heavy."""

PAPER = ("country", "continent")  # the attributes of Chaudhary & Geiger 2024
# RAVEL's entity types and what it knows of them (Huang et al. 2024), in the order of its files.
RAVEL = {
    "city": ("country", "continent", "latitude", "longitude", "language", "timezone"),
    "nobel_prize_winner": ("field", "award_year", "birth_year", "country_of_birth", "gender"),
    "occupation": ("duty", "gender_bias", "industry", "work_location"),
    "physical_object": ("category", "color", "size", "texture"),
    "verb": ("definition", "singular", "past_tense", "pronunciation"),
}
CALLED = {  # an entity of a type, and several, in running text
    "city": ("city", "cities"),
    "nobel_prize_winner": ("Nobel Prize winner", "Nobel Prize winners"),
    "occupation": ("occupation", "occupations"),
    "physical_object": ("object", "objects"),
    "verb": ("verb", "verbs"),
}
ENTITY = "entity"  # what intervals may take to be independent, besides the values of an attribute

# few-shot: the paper's.  bare: the tokenizer's start token and the question alone, for models
# that were trained on the question itself (the toy world).  ravel: RAVEL's own, many for an attribute.
PROMPT_STYLES = ("few-shot", "bare", "ravel")

MODES = ("paper", "strict", "ravel")
SPLITS = ("pairs", "cities", "ravel")
KINDS = ("cause", "isolation")
PARTS = {"train": 0.7, "validation": 0.1, "test": 0.2}
# Test sets: what no training pair has.  The first is a result's "test", the other its "test_templates".
HELD_OUT = {"entities": "test", "templates": "test_templates"}
SCORING = ("first", "whole")  # token of the answer; all of its tokens


def default_split(mode: str) -> str:
    return {"paper": "pairs", "strict": "cities", "ravel": "ravel"}[mode]


def attribute_named(text: str) -> str:
    """'Country of Birth' -> 'country_of_birth'."""
    return "_".join(text.split()).casefold()


def in_order(attributes) -> list[str]:
    """Attributes, each once: those of the paper and of RAVEL in their order, then others by name."""
    known = list(dict.fromkeys(name for names in (PAPER, *RAVEL.values()) for name in names))
    return sorted(set(attributes), key=lambda name: (known.index(name) if name in known else len(known), name))


def is_attribute(value: object) -> bool:
    """Whether something could be an attribute's name, which is also that of a folder."""
    return isinstance(value, str) and 0 < len(value) < 80 and value.replace("_", "").isalnum() and value.islower()


def isolation(attribute: str) -> str:
    """The kind of the isolation pairs that ask for this attribute."""
    return f"{KINDS[1]}:{attribute}"


def is_isolation(kind: str) -> bool:
    return kind == KINDS[1] or kind.startswith(f"{KINDS[1]}:")


def plural(unit: str) -> str:
    """Of a cluster's unit, in words: countries, cities, values of work_location."""
    if unit in CALLED:
        return CALLED[unit][1]
    if "_" in unit:
        return f"values of {unit}"
    return unit[:-1] + "ies" if unit.endswith("y") else unit + "s"


def other(attribute: str, attributes: tuple[str, ...] = PAPER) -> str:
    """The attribute that must stay as it is when this one of two is the target."""
    (found,) = (name for name in attributes if name != attribute)
    return found


def sentence(attribute: str, city: str, value: str = "") -> str:
    """The paper's sentence: a solved example, or (without value) the question, cut off before the value."""
    question = f"{city} is a city in the {attribute} of"
    return f"{question} {value}." if value else question
