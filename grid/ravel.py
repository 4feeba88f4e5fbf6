"""RAVEL's facts and templates on the command line, and its prompts as a model knows them."""

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import UserError
from common.paths import HOME
from data.names import RAVEL, SCORING

FETCHED = HOME / "data" / "ravel"
LIMITS = {  # flag -> what it means
    "max_entities": "of RAVEL's, ask about N, drawn evenly from its parts (all)",
    "max_templates": "of RAVEL's, ask N of each attribute, likewise (all)",
    "top_entities": "keep the N that the model knows best (500)",
    "top_templates": "of each attribute keep the N that it answers best (90)",
}
ALIKE = 0.05  # of pairs with different values: if more answers begin alike, answers count as a whole


@dataclass(frozen=True)
class RavelSettings:
    """What of RAVEL takes part.

    facts: data.facts.Facts, with the attributes that take part; scored: one of data.names.SCORING, or 'auto'.
    limits: as data.asking.Limits has them; None: its default.
    """

    facts: object
    scored: str
    limits: dict[str, int | None]


def add_flags(group: argparse._ArgumentGroup) -> None:
    flag = group.add_argument
    flag("--attributes", nargs="+", metavar="NAME", help="that take part (csv: country continent; RAVEL's: all)")
    flag("--scored", choices=("auto", *SCORING), default="auto", help="RAVEL: by an answer's first token or whole")
    for name, text in LIMITS.items():
        flag(f"--{name.replace('_', '-')}", type=int, metavar="N", help=text)


def read_flags(args: Mapping) -> RavelSettings | None:
    """What --templates ravel asks for; None with other templates.  Raises UserError for flags that do not fit."""
    from data.ravel import place_of, read_ravel

    facts = str(args["facts"] or "city")
    if args["prompt"] != "ravel":
        given = [name for name in (*LIMITS, "attributes") if args[name] is not None]
        if given or args["scored"] != "auto":
            flag = f"--{(given or ['scored'])[0].replace('_', '-')}"
            raise UserError(f"{flag} is for RAVEL's prompts; add --templates ravel, or leave it out")
        if args["mode"] == "ravel" or args["split"] == "ravel":
            raise UserError("--mode and --split ravel are for RAVEL's prompts; add --templates ravel")
        return None
    for flag in ("mode", "split"):
        if args[flag] != "ravel":
            raise UserError(f"--templates ravel goes with --{flag} ravel, not {args[flag]}; leave --{flag} out")
    for flag in ("unfiltered", "one_token"):
        if args[flag]:
            raise UserError(f"--{flag.replace('_', '-')} is for the paper's prompts, not for RAVEL's; leave it out")
    place = place_of(facts, FETCHED)
    if place is None:
        raise UserError(
            f"--templates ravel needs RAVEL's facts, not {facts}; --facts is one of {', '.join(RAVEL)}, or one of the "
            "files of such a type"
        )
    attributes = None if args["attributes"] is None else [name.casefold() for name in args["attributes"]]
    found = read_ravel(*place, attributes)
    if len(found.attributes) < 2:
        raise UserError("isolation needs a second attribute; name more with --attributes")
    limits = {name: args[name] for name in LIMITS}
    return RavelSettings(found, args["scored"], limits)


# ---------------------------------------------------------------- as a model knows them


@dataclass
class Knowledge:
    """The prompts that a model answers rightly, and the file that keeps what it answered.

    prompts: of data.prompts.Prompts; report: for cities.json; content: of the file.
    """

    prompts: object
    report: dict
    content: dict


def ask(settings, subject, model_digest: str, kept: Path) -> Knowledge:
    """Ask the model, or read what it answered when it was asked the same before.

    settings: of main.py; kept: the file of an earlier time, which may be missing.  It is written if its folder is
    there: then of several commands that start at once one asks, and the others wait for it.
    Raises UserError if nothing can be asked.
    """
    from common.files import write_json
    from common.leases import alone
    from data.asking import Limits, known, questions
    from results.reading import digest_of

    limits = Limits(**{name: n for name, n in settings.ravel.limits.items() if n is not None})
    asked = questions(settings.ravel.facts, subject.tokenizer, limits)
    key = {
        "model_digest": model_digest,
        "dtype": settings.dtype,
        "questions": digest_of({"rows": [[*row.tokens, row.at] for row in asked.rows], "answers": asked.answers}),
    }

    def content_of(written: dict) -> dict:
        return {"key": key, "written": {str(row): list(answer) for row, answer in written.items()}}

    written = _read_kept(kept, key, len(asked.rows))
    if written is None:
        is_shared = kept.parent.is_dir()  # without the folder there is nothing to agree on
        lease = alone(kept.parent / "tasks" / f"{kept.stem}.lease", pause=1) if is_shared else contextlib.nullcontext()
        with lease:
            written = _read_kept(kept, key, len(asked.rows))  # by the command that we waited for
            if written is None:
                print(f"asking {settings.model} {len(asked.rows):,} prompts", file=sys.stderr)
                written = asked.written(subject.likeliest)
                if is_shared:
                    write_json(kept, content_of(written))
    prompts, report = known(asked, written, limits)
    content = content_of(written)
    return Knowledge(prompts, report | {"limits": asdict(limits)}, content)


def _read_kept(path: Path, key: dict, n_rows: int) -> dict[int, tuple[int, ...]] | None:
    """What was written before, if the file is of this model and these questions."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["key"] != key:
            return None
        written = {int(row): tuple(int(token) for token in answer) for row, answer in content["written"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return written if all(0 <= row < n_rows and answer for row, answer in written.items()) else None
