"""Fetch what is asked for and not there yet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from common.errors import UserError
from common.progress import bar, say
from downloads.arguments import Wanted
from downloads.fetching import Item
from downloads.items import items_of


def download(words: list[str], wanted: Wanted) -> None:
    """Fetch what is not there yet.  Raises UserError, before the first byte where that can be seen."""
    items = [item for word in words for item in items_of(word, wanted)]
    todo = []
    for item in bar(items, desc="look what is here"):
        if not item.is_here():
            todo.append((item, item.missing(item.ask())))
    if len(todo) < len(items):
        say(f"{len(items) - len(todo)} of {len(items)} are here already")
    _require_room([(item, item.bytes_left(remotes)) for item, remotes in todo])
    for item, remotes in todo:
        item.download(remotes)
        say(f"done: {item.label}, {item.path}")


def _require_room(todo: list[tuple[Item, int]]) -> None:
    """Say how much is to come, and raise UserError if a disk has no room for it."""
    needs: dict[int, list[tuple[Path, int]]] = {}
    for item, size in todo:
        folder = next(parent for parent in item.path.parents if parent.exists())
        needs.setdefault(os.stat(folder).st_dev, []).append((folder, size))
    for needed in needs.values():
        folder, size = needed[0][0], sum(size for _, size in needed)
        free = shutil.disk_usage(folder).free
        say(f"{len(needed)} to download, {_gb(size)}; the disk of {folder} has {_gb(free)} free")
        if size > free:
            raise UserError(
                f"{_gb(size)} are needed and {_gb(free)} are free on the disk of {folder}; make room, or ask for less"
            )


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"
