"""RAVEL's files (Huang et al. 2024): entities, values of their attributes, templates, and the splits of both.

Of each entity type there are four, in one folder:

    ravel_TYPE_entity_attributes.json      {entity: {attribute: value}}
    ravel_TYPE_attribute_to_prompts.json   {attribute: [template with one %s]}
    ravel_TYPE_entity_to_split.json        {entity: train, val or test}
    ravel_TYPE_prompt_to_split.json        {template: train, val or test}

An attribute's name here is RAVEL's in lower case, with _ for blanks.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from common.errors import UserError
from common.text import meant
from data.facts import Entity, Facts, Template
from data.names import RAVEL, attribute_named, in_order, is_attribute
from data.texts import decoded, parsed

FILES = ("entity_attributes", "attribute_to_prompts", "entity_to_split", "prompt_to_split")
PARTS = {"train": "train", "val": "validation", "test": "test"}
GAP = "%s"
AGAIN = "./setup.sh data fetches RAVEL's files"


def place_of(text: str, fetched: Path) -> tuple[Path, str] | None:
    """The folder and the entity type that --facts means, by a type's name or by one of its files; None: neither.

    fetched: the folder where RAVEL's files are looked for by a type's name.
    """
    if text in RAVEL:
        return fetched, text
    match = re.fullmatch(rf"ravel_(\w+?)_(?:{'|'.join(FILES)})\.json", Path(text).name)
    return (Path(text).parent, match[1]) if match else None


def read_ravel(folder: Path, entity_type: str, attributes: Iterable[str] | None = None) -> Facts:
    """The facts of an entity type.  attributes: those that take part, by our names; None: all that have values.

    Raises UserError if a file is missing or is not what it should be, or an attribute does not exist.
    """
    table, templates, entity_parts, template_parts = (_read(folder, entity_type, what) for what in FILES)
    named = {attribute_named(name): name for name in templates[1]}
    entities = _entities(*table)
    parts = _parts(*entity_parts, names=entities, what="entity")
    valued = {name for values in entities.values() for name in values}
    strange = [name for name in {**named, **dict.fromkeys(valued)} if not is_attribute(name)]
    if strange:  # it will be the name of a folder
        raise UserError(f"{table[0]} or {templates[0]}: {strange[0][:40]!r} is no name of an attribute; {AGAIN}")
    chosen = in_order(attributes if attributes is not None else valued & set(named))
    for name in chosen:
        if name not in named:
            known = ", ".join(in_order(named))
            raise UserError(f"{entity_type} has no attribute {name!r}{meant(name, list(named))}; it has {known}")
        if name not in valued:
            raise UserError(f"{table[0]} has no value of {named[name]}; leave {name} out of --attributes")
    found = [(name, text) for name in chosen for text in dict.fromkeys(_texts(templates[0], named[name], templates[1]))]
    part_of = _parts(*template_parts, names=[text for _, text in found], what="template")
    return Facts(
        entity_type,
        tuple(chosen),
        [Entity(name, values, parts[name]) for name, values in entities.items()],
        [Template(name, *text.split(GAP), part_of[text]) for name, text in found],
    )


def _read(folder: Path, entity_type: str, what: str) -> tuple[Path, dict]:
    path = folder / f"ravel_{entity_type}_{what}.json"
    if not path.exists():
        raise UserError(f"there is no {path}; {AGAIN} (remove the folder first if it has only some)")
    content = parsed(decoded(path, "facts")[0], path)
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} is not RAVEL's: it holds no object; {AGAIN}")
    return path, content


def _entities(path: Path, table: dict) -> dict[str, dict[str, str]]:
    """By entity, its values by attribute; an empty value or null is none."""
    found: dict[str, dict[str, str]] = {}
    for name, values in table.items():
        if not isinstance(values, dict):
            raise UserError(f"{path}, {name!r}: no object of attributes and values; {AGAIN}")
        found[name] = {}
        for attribute, value in values.items():
            if isinstance(value, bool | list | dict):
                raise UserError(f"{path}, {name!r}: {attribute} is no text but {str(value)[:40]}; {AGAIN}")
            if value is not None and str(value).strip():
                found[name][attribute_named(attribute)] = str(value).strip()
    return found


def _texts(path: Path, attribute: str, templates: dict) -> list[str]:
    """The templates of an attribute."""
    texts = templates[attribute]
    if not isinstance(texts, list) or not texts:
        raise UserError(f"{path}: {attribute} has no list of templates; {AGAIN}")
    for text in texts:
        if not isinstance(text, str) or text.count(GAP) != 1:
            n = text.count(GAP) if isinstance(text, str) else "no text"
            raise UserError(f"{path}, {attribute}: a template needs one {GAP}, this has {n}: {str(text)[-60:]!r}")
    return texts


def _parts(path: Path, split: dict, names: Iterable[str], what: str) -> dict[str, str]:
    """The part of each of these names in our words."""
    names = list(names)
    lacking = [name for name in names if name not in split]
    if lacking:
        raise UserError(
            f"{path} has no part for {len(lacking)} of {len(names)} {what} names, such as {lacking[0][-60:]!r}; "
            "are its files of one entity type?"
        )
    for name in names:
        if split[name] not in list(PARTS):
            raise UserError(f"{path}, {name[-60:]!r}: {str(split[name])[:20]!r} is none of {', '.join(PARTS)}")
    return {name: PARTS[split[name]] for name in names}
