"""The one kind of error that a user can put right."""


class UserError(Exception):
    """Something the user can put right: what was wrong, where, and what to do.

    Its text is one line; commands print it as ``error: ...`` and exit with 2.
    Anything else that escapes is a bug of ours and keeps its traceback.
    """
