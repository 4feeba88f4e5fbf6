"""The labels of users' own SAEs (featurizers.labels) as they are kept beside results, in OUTPUT/MODEL/labels.json."""

from pathlib import Path

from common.errors import UserError
from common.files import write_json
from featurizers.labels import are_labels
from results.reading import Damaged, read_json

FILE = "labels.json"


def read_labels(folder: Path) -> dict[str, str]:
    """By method; none where there is no such file.  Raises Damaged."""
    path = folder / FILE
    return read_json(path, are_labels) if path.exists() else {}


def keep_labels(folder: Path, given: dict[str, str]) -> dict[str, str]:
    """Add labels to those that are kept, and return them all.

    Raises UserError if two SAEs would have the same one, or if the file is damaged.
    """
    try:
        kept = read_labels(folder)
    except Damaged as why:
        raise UserError(f"cannot read {folder / FILE}: {why}; remove it and give --label anew") from None
    labels = kept | given
    for method, text in given.items():
        alike = [other for other, its in labels.items() if its == text and other != method]
        if alike:
            raise UserError(f"--label gives {text!r} to {method}, and {alike[0]} has it; give each its own")
    if labels != kept:
        write_json(folder / FILE, labels)
    return labels
