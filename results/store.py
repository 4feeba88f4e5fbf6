"""Result files: where they lie, and when one counts as done.

    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.json         scores, settings, versions
    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.safetensors  theta [n_features]; das: rotation; outcomes of test pairs
    OUTPUT/MODEL/TARGET/pairs-MODE-SPLIT-seedS.json       the pairs of train, validation, test; facts of their cities
    OUTPUT/MODEL/cities.json                              who takes part, and why others do not
    OUTPUT/MODEL/verified.json                            what the self-check found on this machine
    OUTPUT/MODEL/estimates.json                           the last table: scores and differences with intervals
    OUTPUT/MODEL/labels.json                              names of users' own SAEs
    OUTPUT/MODEL/tasks/layerLL.lease                      who is at work on a share (common.leases), until it is done
    OUTPUT/MODEL/tasks/layerLL.safetensors                the training it is at (grid.checkpoints); likewise
    OUTPUT/MODEL/tasks/layerLL.job                        the Slurm job that a share was given to; likewise
    OUTPUT/MODEL/slurm/                                   what these jobs print

Each file is written under a temporary name and renamed, the json of a run last: a
run whose json is there is done.
"""

import contextlib
import json
import os
import tempfile
from pathlib import Path

from common.errors import UserError
from common.files import file_digest, remove_leftovers, write_atomically
from results.reading import Damaged, digest_of, read_result
from results.run import Run

TASKS = "tasks"


class Store:
    """The results of one model under one output folder."""

    def __init__(self, output: str | Path, model: str):
        if os.path.isdir(model):  # one name for x and x/; and . and .. are no names of folders in OUTPUT
            model = os.path.normpath(model)
            model = os.path.abspath(model) if model.startswith(".") else model
        self.root = Path(output) / model.replace("/", "--")

    def json_path(self, run: Run) -> Path:
        return self.root / f"{run}.json"

    def tensors_path(self, run: Run) -> Path:
        return self.root / f"{run}.safetensors"

    def pairs_path(self, target: str, mode: str, split: str, seed: int) -> Path:
        return self.root / target / f"pairs-{mode}-{split}-seed{seed}.json"

    # A share is one of grid.shares; its name is that of its files.

    def lease_path(self, share) -> Path:
        return self.root / TASKS / f"{share}.lease"

    def state_path(self, share) -> Path:
        return self.root / TASKS / f"{share}.safetensors"

    def job_path(self, share) -> Path:
        return self.root / TASKS / f"{share}.job"

    def tasks_left(self) -> list[tuple[Path, Path]]:
        """Lease and state of every share that has one of the two."""
        folder = self.root / TASKS
        names = {path.stem for path in folder.glob("[!.]*") if path.suffix in (".lease", ".safetensors")}
        return [(self.lease_path(name), self.state_path(name)) for name in sorted(names)]

    def forget_job(self, share) -> None:
        """A share that was given to a job is done."""
        path = self.job_path(share)
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not the last there
            path.parent.rmdir()

    def is_done(self, run: Run) -> bool:
        return self.stamp(run) is not None

    def stamp(self, run: Run) -> tuple | None:
        """What changes whenever a result is written; None if it is not there."""
        try:
            tensors, json = (path.stat() for path in (self.tensors_path(run), self.json_path(run)))
        except OSError:
            return None
        return json.st_mtime_ns, json.st_ino, tensors.st_ino

    def read(self, run: Run) -> dict:
        """A result, checked as `results.reading.read_result` does.  Raises UserError if it is damaged or altered."""
        path = self.json_path(run)
        try:
            return read_result(path, self.root)
        except Damaged as error:
            raise UserError(f"cannot read the result {path}: {error}; redo it with --force") from None

    def read_tensors(self, run: Run) -> dict:
        """theta, and what else a result keeps in tensors."""
        from imports import safetensors_torch

        return safetensors_torch.load_file(self.tensors_path(run))

    def write(self, run: Run, result: dict, tensors: dict) -> None:
        from imports import safetensors_torch  # here, as to read results and draw them needs no torch

        content = {name: tensor.cpu().contiguous().clone() for name, tensor in tensors.items()}
        digests = []  # of what we wrote, not of what lies there: if another command writes too, no mixture will pass

        def save(path: Path) -> None:
            safetensors_torch.save_file(content, path)
            digests.append(file_digest(path))

        write_atomically(self.tensors_path(run), save)
        result = {**result, "tensors_digest": digests[0]}
        text = json.dumps({**result, "digest": digest_of(result)}, indent=1) + "\n"
        write_atomically(self.json_path(run), lambda path: path.write_text(text))

    def require_writable(self) -> None:
        """Raises UserError if the folder could not be made, without making it."""
        ancestor = self.root.absolute()
        while not ancestor.exists():
            ancestor = ancestor.parent
        if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to {self.root}: {ancestor} is no folder one can write to; use --output")

    def prepare(self) -> None:
        """Make the folder and clear away what a killed process left.  Raises UserError if it cannot be written to."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            tasks = self.root / TASKS
            if os.path.lexists(tasks) and not tasks.is_dir():
                raise UserError(f"{tasks} is no folder; remove it")
            with tempfile.TemporaryFile(dir=self.root):
                pass
            remove_leftovers(self.root)
        except OSError as error:
            raise UserError(
                f"cannot write to {self.root}: {error.strerror}; name another folder with --output"
            ) from None

    def stale(self, target: str, pairs_name: str, digest: str, redone: set[Run]) -> list[str]:
        """Results that refer to this pair file but were made with other pairs, and will not be redone."""
        found = []
        again = {str(self.json_path(run)) for run in redone}
        for path in sorted((self.root / target).glob("*/layer*.json")):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                content = json.loads(path.read_text())
                differs = content.get("config", {}).get("pairs_digest") != digest
                if content.get("pairs") == pairs_name and differs and str(path) not in again:
                    found.append(str(path))
        return found
