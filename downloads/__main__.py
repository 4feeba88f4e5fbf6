"""Download RAVEL's cities, GPT-2 small and the published SAEs.

    ./setup.sh openai bloom           both families, all layers
    ./setup.sh apollo --layers 1 5    two layers of the end-to-end SAEs
    ./setup.sh apollo --mirror        copies on the Hugging Face hub; no account
    ./setup.sh all                    everything

What is there is skipped; after a break the same command goes on from the
bytes that are there. SAEs land in saved_models/saes, GPT-2 in the Hugging
Face cache, RAVEL in data/ravel.
"""

import sys
from argparse import Namespace, RawDescriptionHelpFormatter

from common import command
from common.errors import UserError
from grid.settings import Parser
from saes.releases import N_LAYERS, RELEASES

WORDS = {  # what they fetch, and how large that is, as published in 2026; the last three are families of SAEs
    "data": "RAVEL's facts and templates (2 MB), to data/ravel",
    "model": "GPT-2 small with its tokenizer (0.55 GB), to the hub's cache",
    "openai": "OpenAI's SAEs (12 x 0.20 GB)",
    "bloom": "Joseph Bloom's SAEs (12 x 0.15 GB)",
    "apollo": "Apollo Research's SAEs (6 x 0.28 GB)",
}


def read_arguments(argv: list[str] | None) -> Namespace:
    """words, without `all`, which is `everything`; layers: None for all there are; mirror.  Raises UserError."""
    lines = [f"  {word:<8}{what}" for word, what in WORDS.items()]
    p = Parser(
        prog="./setup.sh",
        description=__doc__ + "\nwords:\n" + "\n".join([*lines, "  all     all of these"]),
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("words", nargs="+", metavar="WORD", help="what to download, see above")
    p.add_argument("--layers", nargs="+", metavar="L", help="of the SAEs, 0 to 11 (default: all there are)")
    p.add_argument("--mirror", action="store_true", help="Apollo's SAEs from the Hugging Face hub (layers 1 and 5)")
    args = p.parse_args(argv)
    for word in args.words:
        if word not in (*WORDS, "all"):
            raise UserError(f"unknown word {word!r}; known are {', '.join(WORDS)}, all")
    args.everything = "all" in args.words
    args.words = [word for word in WORDS if word in args.words or args.everything]
    for text in args.layers or ():
        if not (text.isdecimal() and int(text) < N_LAYERS):
            raise UserError(f"--layers {text}: layers are 0 to {N_LAYERS - 1}, as in openai --layers 1 5 9")
    if args.layers and not {release.family for release in RELEASES.values()}.intersection(args.words):
        raise UserError(f"--layers is for SAEs, and {' '.join(args.words)} has none; leave it out")
    if args.mirror and "apollo" not in args.words:
        raise UserError("--mirror is for Apollo's SAEs; add the word apollo or leave it out")
    args.layers = sorted(set(map(int, args.layers))) if args.layers else None
    return args


def main(argv: list[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""

    def work() -> None:
        args = read_arguments(argv)
        from downloads.items import download  # not above: --help needs none of the hosts' libraries

        download(args)

    return command.run(work, interrupted="what has arrived is kept; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(main())
