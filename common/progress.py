"""Progress bars: one line that is written over in a terminal, now and then a line of its own in a file."""

import sys

from imports import tqdm

PAUSE = 15.0  # seconds between two lines where stderr is not a terminal; shorter work leaves none there


class Lines:
    """Stands for a stream: what a bar would write over, with blanks and carriage returns, becomes a line."""

    def __init__(self, stream):
        self.stream = stream
        self.last = ""  # tqdm writes the end twice

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text and text != self.last:
            self.stream.write(text + "\n")
            self.last = text

    def flush(self) -> None:
        self.stream.flush()


def bar(iterable=None, **about):
    """tqdm's bar on stderr, which goes when its work is done unless `leave` is given; about: as tqdm takes it."""
    about = {"leave": False, **about}
    if not sys.stderr.isatty():
        every = {"mininterval": PAUSE, "maxinterval": PAUSE, "delay": 0 if about["leave"] else PAUSE}
        about = {"file": Lines(sys.stderr), "ncols": 79, "ascii": True, **about, **every}
    return tqdm.tqdm(iterable, **about)


def describe(shown, text: str) -> None:
    """Say what a bar is at; in a file that waits for its next line."""
    shown.set_description(text, refresh=sys.stderr.isatty())


def say(line: str) -> None:
    """Print a line on stderr, above a bar if one is shown."""
    tqdm.tqdm.write(line, file=sys.stderr)
