"""Text files of facts as users have them: any of the encodings that are common, and json without surprises."""

import codecs
import json
from pathlib import Path

from common.errors import UserError


def decoded(path: Path, what: str = "cities") -> tuple[str, str]:
    """A file's text, and in which encoding it is: by the mark at its beginning, else UTF-8.

    what: is in the file.  Raises UserError.
    """
    try:
        content = path.read_bytes()
        encoding = "UTF-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "UTF-8"
        text = content.decode("utf-8-sig" if encoding == "UTF-8" else encoding)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or f"it is not {encoding} text; save it in that encoding"
        raise UserError(f"cannot read the {what} in {path}: {reason}; name a csv or json with --cities") from None
    if "\0" in text:  # UTF-16 or -32 without a mark, or no text at all
        raise UserError(
            f"{path} is in an encoding that cannot be told; save it as UTF-8, or name another with --cities"
        )
    return text, encoding


def parsed(text: str, path: Path):
    """The content of a json file.  Raises UserError, also if a key occurs twice with different content."""

    def unique(pairs: list) -> dict:  # json itself would keep the last of two and say nothing
        found = dict(pairs)
        for name, value in pairs if len(found) < len(pairs) else ():
            if found[name] != value:
                raise UserError(f"{path}: {name!r} occurs twice with different content; keep one of the two")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid json ({error}); download it again or use a csv") from None
