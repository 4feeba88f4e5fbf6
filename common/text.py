"""Names shortened to a column's width."""


def shortened(name: str, width: int) -> str:
    """The end of a long name tells more than its beginning: '...its end'."""
    return name if len(name) <= width else "..." + name[3 - width :]
