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


def with_kept(folder: Path, given: dict[str, str]) -> dict[str, str]:
    """Labels together with those that are kept.

    Raises UserError if two SAEs would have the same one, or if the file is damaged.
    """
    try:
        labels = read_labels(folder) | given
    except Damaged as why:
        raise UserError(f"cannot read {folder / FILE}: {why}; remove it and give --label anew") from None
    for method, text in given.items():
        alike = [other for other, its in labels.items() if its == text and other != method]
        if alike:
            raise UserError(f"--label gives {text!r} to {method}, and {alike[0]} has it; give each its own")
    return labels


def keep_labels(folder: Path, given: dict[str, str]) -> dict[str, str]:
    """Add labels to those that are kept, and return them all.  Raises UserError as `with_kept` does."""
    labels = with_kept(folder, given)
    if given:
        write_json(folder / FILE, labels)
    return labels
