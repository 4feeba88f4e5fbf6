"""Getting a file from its host: resumed after a break, checked, noted, and never half under its own name.

Bytes gather in a hidden folder beside what is wanted (.NAME.part), are compared with what
the host says (size, digest), and are then moved. What is there is skipped, after its
sha256 was compared with the one noted in the manifest.
"""

import contextlib
import datetime
import fcntl
import fnmatch
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import write_json, writing
from common.progress import bar
from downloads.hosts import Broken, RemoteFile, files_at

TRIES = 3  # connections in a row that may break without a byte gained
PAUSE = 1.0  # seconds before the next one
KEPT = " and run the same command again (what is here is kept)"


# ---------------------------------------------------------------- what is there


@dataclass(frozen=True)
class Manifest:
    """What was downloaded under a folder: {"files": {path: {size, sha256, ..}}, "revisions": {repository: commit}}.

    It is read each time, as the items of one command share it.
    """

    root: Path
    path: Path

    def read(self) -> dict[str, dict]:
        content: dict = {"files": {}, "revisions": {}}
        if not self.path.exists():
            return content
        try:
            content.update(json.loads(self.path.read_text(encoding="utf-8")))
            digests = [record["sha256"] for record in content["files"].values()]
            if all(isinstance(text, str) for text in [*digests, *content["revisions"].values()]):
                return content
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        raise UserError(
            f"{self.path} is damaged; remove it and run the same command again (files that are there are then compared "
            "with their host's)"
        )

    def add(self, section: str, entries: dict[str, object]) -> None:
        content = self.read()
        content[section] |= entries
        write_json(self.path, content)

    def note(self, records: dict[Path, dict]) -> None:
        self.add("files", {str(path.relative_to(self.root)): record for path, record in records.items()})

    def has(self, path: Path) -> bool:
        """Whether a file is there as noted.  Raises UserError if it has changed since."""
        record = self.read()["files"].get(str(path.relative_to(self.root)))
        if record is None or not path.is_file():
            return False
        found = digest_of(path, "sha256")
        if found != record["sha256"]:
            raise UserError(
                f"{path} has changed since its download: its sha256 is {found[:16]}, expected "
                f"{record['sha256'][:16]}; remove it and run the same command again"
            )
        return True

    def matching(self, pattern: Path) -> list[Path]:
        wanted = str(pattern.relative_to(self.root))
        return [self.root / name for name in self.read()["files"] if fnmatch.fnmatchcase(name, wanted)]


def digest_of(path: Path, algorithm: str) -> str:
    """Hex digest of a file; git: of git's blob object, which is sha1 with a header."""
    total = hashlib.new("sha1" if algorithm == "git" else algorithm, usedforsecurity=False)
    if algorithm == "git":
        total.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: total).hexdigest()


# ---------------------------------------------------------------- one file


def fetch(remote: RemoteFile, path: Path) -> dict:
    """Make `path` hold a remote file, from the bytes that are there on; its record for the manifest.

    Raises UserError; what has arrived is kept unless it is wrong.
    """
    if path.exists():
        with contextlib.suppress(UserError):
            require_whole(remote, path)  # which removes what is of an older version
    if not path.exists():
        part = part_of(remote, path)
        with _writing(part) as file, _bar(remote, path, file.tell()) as done:
            breaks = 0
            while file.tell() < remote.size:
                before = file.tell()
                try:
                    for chunk in remote.read(before):
                        file.write(chunk)
                        done.update(len(chunk))
                    if file.tell() < remote.size:
                        raise Broken(
                            f"{remote.address} ended after {file.tell()} of {remote.size} bytes; run the same command "
                            "again"
                        )
                except Broken:
                    breaks = 1 if file.tell() > before else breaks + 1
                    if breaks >= TRIES:
                        raise
                    time.sleep(PAUSE)
        require_whole(remote, part)
        os.replace(part, path)
    return record_of(path, remote.address, remote.revision)


def part_of(remote: RemoteFile, path: Path) -> Path:
    """Where bytes gather; another version of the file at its host gathers elsewhere."""
    version = hashlib.sha256(f"{remote.address} {remote.revision} {remote.size}".encode()).hexdigest()[:8]
    return path.with_name(f"{path.name}.{version}.part")


@contextlib.contextmanager
def _writing(part: Path):
    """Open a partial file to append to, for this process alone."""
    with writing(f"write {part}", KEPT):
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"another process is downloading {part}; wait for it, or end it") from None
            yield file


def _bar(remote: RemoteFile, path: Path, start: int):
    name = path.name if path.parent.name == f".{path.name}.part" else f"{path.parent.name[1:-5]}/{path.name}"
    return bar(total=remote.size, initial=start, desc=name, unit="B", unit_scale=True)


def require_whole(remote: RemoteFile, path: Path, keep: bool = False) -> None:
    """Raises UserError unless a file is what its host says; then removes it, as it cannot be continued."""
    for algorithm, expected in filter(None, [("size", str(remote.size)), remote.digest]):
        found = str(path.stat().st_size) if algorithm == "size" else digest_of(path, algorithm)
        if found != expected:
            if not keep:
                path.unlink()
            remedy = "move it away and run" if keep else "it was removed, run"
            raise UserError(
                f"{path} is not {remote.address}: its {algorithm} is {found[:16]}, expected {expected[:16]}; {remedy} "
                "the same command again"
            )


def record_of(path: Path, address: str, revision: str | None) -> dict:
    """What the manifest says of a file."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    size, sha256 = path.stat().st_size, digest_of(path, "sha256")
    return {"size": size, "sha256": sha256, "address": address, "revision": revision, "date": today}


# ---------------------------------------------------------------- one thing that is wanted


@dataclass(frozen=True)
class Item:
    """A folder that is there whole or not at all (or, with `single`, one file).

    label: which it is, for people.  names: of its files, as patterns.  address: where its
    publisher has them.  mirror_of: what it is a copy of, for the manifest.
    """

    label: str
    path: Path
    manifest: Manifest
    names: tuple[str, ...]
    address: str
    single: bool = False
    mirror_of: str = ""

    @property
    def stage(self) -> Path:
        """Where its files gather."""
        return self.path.with_name(f".{self.path.name}.part")

    def ask(self) -> dict[str, RemoteFile]:
        """Ask the host which files lie where.  Raises UserError."""
        return files_at(self.address, self.names)

    def place(self, name: str) -> Path:
        return self.path if self.single else self.path / name

    def is_here(self) -> bool:
        """Whether all its files are there as noted.  Raises UserError for one that has changed since."""
        found = [self.manifest.matching(self.place(name)) for name in self.names]
        return all(files and all(map(self.manifest.has, files)) for files in found)

    def missing(self, remotes: dict[str, RemoteFile]) -> dict[str, RemoteFile]:
        """What is not there yet.  A file that was put there by hand is taken if it equals its host's."""
        for name, remote in remotes.items():
            path = self.place(name)
            if path.exists() and not self.manifest.has(path):
                require_whole(remote, path, keep=True)
                self._note({path: record_of(path, remote.address, remote.revision)})
        return {name: remote for name, remote in remotes.items() if not self.place(name).exists()}

    def bytes_left(self, remotes: dict[str, RemoteFile]) -> int:
        """How many bytes are still to come."""
        left = 0
        for name, remote in remotes.items():
            whole = self.stage / name
            have = [path.stat().st_size for path in (whole, part_of(remote, whole)) if path.exists()]
            left += remote.size - (have[0] if have else 0)
        return left

    def download(self, remotes: dict[str, RemoteFile]) -> None:
        """Fetch these files and put all in place.  Raises UserError; what has arrived is kept."""
        records = {name: fetch(remote, self.stage / name) for name, remote in remotes.items()}
        with writing(f"put {self.path} in place", KEPT):
            self._note(self.finish(records))

    def finish(self, records: dict[str, dict]) -> dict[Path, dict]:
        """Move what was fetched to its place: a new folder in one step, into an old one file by file."""
        self.stage.mkdir(parents=True, exist_ok=True)
        for path in self.stage.iterdir():
            if path.name not in records:
                path.unlink()  # bytes of an older version
        if self.single or self.path.exists():
            for name in records:
                os.replace(self.stage / name, self.place(name))
            self.stage.rmdir()
        else:
            os.replace(self.stage, self.path)
        return {self.place(name): record for name, record in records.items()}

    def _note(self, records: dict[Path, dict]) -> None:
        extra = {"mirror_of": self.mirror_of} if self.mirror_of else {}
        self.manifest.note({path: record | extra for path, record in records.items()})
