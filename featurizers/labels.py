"""Labels: names that a user gives to SAEs of their own, for tables and figures; imports nothing heavy."""

import os
from collections.abc import Iterable

from common.errors import UserError
from common.text import meant
from featurizers.methods import is_method, parts_of
from saes.names import OWN, is_own, normalised

LONGEST = 40


def label_of(method: str, labels: dict[str, str]) -> str:
    """What a method is called in tables and figures: its label if it has one; a size or a variant by its method's."""
    parts = parts_of(method)
    if method not in labels and parts.base in labels:
        return labels[parts.base] + parts.suffix
    return labels.get(method, method)


def why_no_label(text: object) -> str:
    """What is wrong with a label, in a few words; '' if nothing is."""
    if not isinstance(text, str) or not text or text != text.strip():
        return "a label is text without blanks at its ends"
    if not text.isprintable() or len(text) > LONGEST:
        return f"a label is one line of at most {LONGEST} characters"
    return "that is the name of a method" if is_method(text) else ""


def are_labels(content: object) -> bool:
    """Whether something is a table of sound labels, no two of them alike, by the method of an own SAE."""
    is_table = isinstance(content, dict) and len(set(map(str, content.values()))) == len(content)
    return is_table and all(is_own(method) and not why_no_label(text) for method, text in content.items())


def parse_labels(given: list[str], methods: Iterable[str]) -> dict[str, str]:
    """--label METHOD=TEXT, each split at the '=' behind one of these methods or a folder, else at the first.

    Raises UserError for what is no own SAE of `methods`, and for a text that is no label.
    """
    own, labels = list(dict.fromkeys(parts_of(name).base for name in methods if is_own(name))), {}
    for both in given:
        cuts = [i for i, character in enumerate(both) if character == "=" and i > len(OWN)]
        if not is_own(both) or not cuts:
            raise UserError(f"--label is {both!r}; give an own SAE and a name for it, as in {OWN}runs/mine=mine")
        known = [i for i in cuts if normalised(both[:i]) in own or os.path.isdir(both[len(OWN) : i])]
        cut = (known or cuts)[0]
        method, text = normalised(both[:cut]), both[cut + 1 :]
        if method not in own:
            there = f"the own SAEs are {', '.join(own)}" if own else "no own SAE is among the methods"
            raise UserError(f"--label names {method}{meant(method, own)}; {there}")
        if why := why_no_label(text):
            raise UserError(f"--label is {both!r}: {why}; give another")
        labels[method] = text
    return labels
