"""Text for a terminal: names shortened to a column's width, lines of 79 columns, lists that stay one line."""

import difflib
import textwrap


def shortened(name: str, width: int) -> str:
    """The end of a long name tells more than its beginning: '...its end'."""
    return name if len(name) <= width else "..." + name[3 - width :]


def filled(text: str) -> str:
    """Lines of at most 79 columns; what follows the first is indented, and no word or path is broken."""
    return textwrap.fill(text, 79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def abridged(items: list[str], most: int = 6) -> str:
    """'a; b; c and 4 more': a list that stays one line."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + rest


def one_line(text: str) -> str:
    """Text with names from outside as one line that a terminal can show."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def meant(word: str, known) -> str:
    """' (did you mean ..?)', or '' if no known word is near."""
    near = difflib.get_close_matches(word, known, 1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


def duration(seconds: float) -> str:
    """'40 s', '12 min', '3 h 05 min', '2 d 04 h'."""
    seconds = round(seconds)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24:02d} h"
    if hours:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{seconds} s"
