"""Text as it may stand in LaTeX and in markdown, whatever is in it."""

import unicodedata

LATEX = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "`": r"\textasciigrave{}", "'": r"\textquotesingle{}"},
    **{c: f"{{{c}}}" for c in "[]*"},  # behind a row's end these would be its options
}
MARKDOWN = set("\\|`*_[]<>~&$#")


def latex_text(text: str) -> str:
    """Escape what LaTeX reads as a command or a ligature; of letters beyond ASCII the accents are left out."""
    return "".join(LATEX.get(c, c) for c in _ascii(text)).replace("--", "-{}-").replace("--", "-{}-")


def _ascii(text: str) -> str:
    """What pdflatex can print with any font; '?' stands for what has no such form."""
    split = unicodedata.normalize("NFKD", text)
    kept = (c for c in split if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else " " if c.isspace() else "?" for c in kept)


def markdown_text(text: str) -> str:
    """Escape what markdown, or the html in it, would read as a mark; one line."""
    shown = (c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return "".join(f"\\{c}" if c in MARKDOWN else c for c in shown)
