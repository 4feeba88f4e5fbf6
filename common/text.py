"""Text for a terminal: names shortened to a column's width, lines of 79 columns."""

import textwrap


def shortened(name: str, width: int) -> str:
    """The end of a long name tells more than its beginning: '...its end'."""
    return name if len(name) <= width else "..." + name[3 - width :]


def filled(text: str) -> str:
    """Lines of at most 79 columns; what follows the first is indented, and no word or path is broken."""
    return textwrap.fill(text, 79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
