"""Download RAVEL's cities, GPT-2 small and the published SAEs.

    ./setup.sh openai bloom           both families, all layers
    ./setup.sh apollo --layers 1 5    two layers of the end-to-end SAEs
    ./setup.sh apollo --mirror        copies on the Hugging Face hub; no account
    ./setup.sh all                    everything

What is there is skipped; after a break the same command goes on from the
bytes that are there. SAEs land in saved_models/saes, GPT-2 in the Hugging
Face cache, RAVEL in data/ravel.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from common.errors import UserError
from grid.settings import Parser

N_LAYERS = 12  # of GPT-2 small


@dataclass(frozen=True)
class Wanted:
    """The command line."""

    layers: list[int] | None  # None: all there are
    everything: bool  # `all` was said, so a layer that a family lacks is no mistake
    mirror: bool


@dataclass(frozen=True)
class Source:
    """A word of the command line: what it fetches, how large that is (as published, in 2026), and which SAEs."""

    what: str
    releases: tuple[str, ...] = ()


SOURCES = {
    "data": Source("RAVEL's city files (1 MB), to data/ravel"),
    "model": Source("GPT-2 small with its tokenizer (0.55 GB), to the hub's cache"),
    "openai": Source("OpenAI's SAEs (12 x 0.20 GB)", ("openai",)),
    "bloom": Source("Joseph Bloom's SAEs (12 x 0.15 GB)", ("bloom",)),
    "apollo": Source("Apollo Research's SAEs (6 x 0.28 GB)", ("apollo-e2e", "apollo-e2e+ds")),
}


def read_arguments(argv: list[str] | None) -> tuple[list[str], Wanted]:
    """Raises UserError."""
    lines = [f"  {word:<8}{source.what}" for word, source in SOURCES.items()]
    p = Parser(
        prog="./setup.sh",
        description=__doc__ + "\nwords:\n" + "\n".join([*lines, "  all     all of these"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("words", nargs="+", metavar="WORD", help="what to download, see above")
    p.add_argument("--layers", nargs="+", metavar="L", help="of the SAEs, 0 to 11 (default: all there are)")
    p.add_argument("--mirror", action="store_true", help="Apollo's SAEs from the Hugging Face hub (layers 1 and 5)")
    args = p.parse_args(argv)
    for word in args.words:
        if word not in (*SOURCES, "all"):
            raise UserError(f"unknown word {word!r}; known are {', '.join(SOURCES)}, all")
    words = [word for word in SOURCES if word in args.words or "all" in args.words]
    for text in args.layers or ():
        if not (text.isdecimal() and int(text) < N_LAYERS):
            raise UserError(f"--layers {text}: layers are 0 to {N_LAYERS - 1}, as in openai --layers 1 5 9")
    if args.layers and not any(SOURCES[word].releases for word in words):
        raise UserError(f"--layers is for SAEs, and {' '.join(words)} has none; leave it out")
    if args.mirror and "apollo" not in words:
        raise UserError("--mirror is for Apollo's SAEs; add the word apollo or leave it out")
    layers = sorted({int(text) for text in args.layers}) if args.layers else None
    return words, Wanted(layers, "all" in args.words, args.mirror)
