"""Getting a file from its host: resumed after a break, checked, noted, and never half under its own name.

Bytes gather in a hidden folder beside what is wanted (.NAME.part), are compared with what
the host says (size, digest), and are then moved. What is there is skipped, after its
sha256 was compared with the one noted in the manifest.
"""

import datetime
import fnmatch
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from common.errors import UserError
from common.files import write_json, writing
from common.leases import Lease
from common.progress import bar
from common.text import shortened
from downloads.hosts import AGAIN, Broken, RemoteFile, look

TRIES = 3  # connections in a row that may break without a byte gained
PAUSE = 1.0  # seconds before the next one
KEPT = f" and {AGAIN} (what is here is kept)"


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file; git: of git's blob object, which is sha1 with a header; size: its size."""
    if algorithm == "size":
        return str(path.stat().st_size)
    total = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    if algorithm == "git":
        total.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: total).hexdigest()


def require_same(path: Path, digests: dict[str, str], what: str, remedy: str) -> None:
    """Raises UserError unless a file has these digests."""
    for algorithm, expected in digests.items():
        if (found := digest_of(path, algorithm)) != expected:
            told = f"its {algorithm} is {found[:16]}, expected {expected[:16]}"
            raise UserError(f"{path} {what}: {told}; {remedy} the same command again")


def gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def require_room(folder: Path, size: int, remedy: str) -> int:
    """The bytes that are free on a folder's disk.  Raises UserError if more are needed."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"{gb(size)} are needed and {gb(free)} are free on the disk of {folder}; {remedy}")
    return free


# ---------------------------------------------------------------- what is there


@dataclass(frozen=True)
class Manifest:
    """What was downloaded under a folder: {"files": {path: {size, sha256, address, revision, date, mirror_of?}}}.

    It is read each time, as the items of one command share it.
    """

    root: Path
    path: Path

    def read(self) -> dict[str, dict]:
        """Its records by path.  Raises UserError."""
        if not self.path.exists():
            return {}
        try:
            files = json.loads(self.path.read_text(encoding="utf-8"))["files"]
            if all(isinstance(record[key], str) for record in files.values() for key in ("sha256", "address")):
                return files
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        raise UserError(
            f"{self.path} is damaged; remove it and {AGAIN} (files that are there are then compared with their host's)"
        )

    def note(self, files: dict[Path, RemoteFile], mirror_of: str) -> None:
        """Add what was downloaded from where, with today's date; mirror_of: "" if it is no copy."""
        records = self.read()
        for path, remote in files.items():
            records[str(path.relative_to(self.root))] = {
                "size": path.stat().st_size,
                "sha256": digest_of(path, "sha256"),
                "address": remote.address,
                "revision": remote.revision,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                **({"mirror_of": mirror_of} if mirror_of else {}),
            }
        write_json(self.path, {"files": records})

    def has(self, pattern: Path) -> bool:
        """Whether files of this name are there as noted.  Raises UserError for one that has changed since."""
        records = self.read()
        names = fnmatch.filter(records, str(pattern.relative_to(self.root)))
        here = [name for name in names if (self.root / name).is_file()]
        for name in here:
            digests = {"sha256": records[name]["sha256"]}
            require_same(self.root / name, digests, "has changed since its download", "remove it and run")
        return bool(names) and here == names


# ---------------------------------------------------------------- one file


def fetch(remote: RemoteFile, part: Path) -> None:
    """Make `part` hold a remote file, from the bytes that are there on.

    Raises UserError; what has arrived is kept unless it is wrong.
    """
    about = {"total": remote.size, "desc": shortened(remote.address, 40), "unit": "B", "unit_scale": True}
    with writing(f"write {part}", KEPT):
        part.parent.mkdir(parents=True, exist_ok=True)
        lease = Lease.take(lease_of(part))
        if lease is None:
            raise UserError(f"another process is downloading {part}; wait for it, or end it")
        with lease, open(part, "ab") as file, bar(initial=file.tell(), **about) as done:
            breaks = 0
            while file.tell() < remote.size:
                before = file.tell()
                try:
                    _append(remote, file, done)
                except Broken:
                    breaks = 1 if file.tell() > before else breaks + 1
                    if breaks >= TRIES:
                        raise
                    time.sleep(PAUSE)
        try:
            require_same(part, remote.digests, f"is not {remote.address}", "it was removed, run")
        except UserError:
            part.unlink()  # as it cannot be continued
            raise


def lease_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.lease")


def _append(remote: RemoteFile, file: BinaryIO, done) -> None:
    for chunk in remote.read(file.tell()):
        file.write(chunk)
        done.update(len(chunk))
    if file.tell() < remote.size:
        raise Broken(f"{remote.address} ended after {file.tell()} of {remote.size} bytes; {AGAIN}")


# ---------------------------------------------------------------- one thing that is wanted


@dataclass
class Item:
    """Files that are put in place when all have arrived: those of a folder, or one.

    label: which it is, for people.  names: of its files, as patterns.  address: where its
    publisher has them.  mirror_of: what it is a copy of, for the manifest.
    """

    label: str
    path: Path
    manifest: Manifest
    names: tuple[str, ...]
    address: str
    mirror_of: str = ""

    @property
    def stage(self) -> Path:
        """Where its files gather."""
        return self.path.with_name(f".{self.path.name}.part")

    def part(self, name: str, remote: RemoteFile) -> Path:
        """Where the bytes of a file gather; another version of it at its host gathers elsewhere."""
        about = (remote.address, remote.revision, remote.digests)
        return self.stage / f"{name}.{hashlib.sha256(repr(about).encode()).hexdigest()[:8]}.part"

    def place(self, name: str) -> Path:
        """Where a file belongs; an item of one file is that file."""
        return self.path if name == self.path.name else self.path / name

    def is_here(self) -> bool:
        """Whether all its files are there as noted.  Raises UserError for one that has changed since."""
        return all(self.manifest.has(self.place(name)) for name in self.names)

    def ask(self) -> dict[str, RemoteFile]:
        """Ask the host which files lie where.  Raises UserError."""
        return look(self.address, self.names)

    def missing(self, remotes: dict[str, RemoteFile]) -> dict[str, RemoteFile]:
        """What is not there yet.  A file that was put there by hand is taken if it equals its host's."""
        for name, remote in remotes.items():
            path = self.place(name)
            if path.exists() and not self.manifest.has(path):
                require_same(path, remote.digests, f"is not {remote.address}", "move it away and run")
                self.manifest.note({path: remote}, self.mirror_of)
        return {name: remote for name, remote in remotes.items() if not self.place(name).exists()}

    def bytes_left(self, remotes: dict[str, RemoteFile]) -> int:
        """How many bytes are still to come."""
        parts = [self.part(*about) for about in remotes.items()]
        have = sum(part.stat().st_size for part in parts if part.exists())
        return sum(remote.size for remote in remotes.values()) - have

    def download(self, remotes: dict[str, RemoteFile]) -> None:
        """Fetch these files and put all in place.  Raises UserError; what has arrived is kept."""
        for name, remote in remotes.items():
            fetch(remote, self.part(name, remote))
        with writing(f"put {self.path} in place", KEPT):
            self.manifest.note(self.finish(remotes), self.mirror_of)

    def finish(self, remotes: dict[str, RemoteFile]) -> dict[Path, RemoteFile]:
        """Move what was fetched to its place."""
        for name, remote in remotes.items():
            self.place(name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.part(name, remote), self.place(name))
        shutil.rmtree(self.stage, ignore_errors=True)  # with bytes of older versions
        return {self.place(name): remote for name, remote in remotes.items()}
