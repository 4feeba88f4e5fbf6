"""The command behind setup.sh's words: python -m downloads openai bloom."""

from __future__ import annotations

import sys

from common import command
from downloads.arguments import read_arguments


def run(argv: list[str] | None) -> None:
    """Do what the command line asks for.  Raises UserError."""
    words, wanted = read_arguments(argv)
    from downloads.downloading import download  # not above: --help needs none of the hosts' libraries

    download(words, wanted)


def main(argv: list[str] | None = None) -> int:
    return command.run(
        lambda: run(argv),
        interrupted="what has arrived is kept; run the same command again to go on",
    )


if __name__ == "__main__":
    sys.exit(main())
