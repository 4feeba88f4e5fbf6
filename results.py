"""Result files: where they lie, when one counts as done, and the table of them.

    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.json         scores, settings, versions
    OUTPUT/MODEL/TARGET/METHOD/layerLL-seedS.safetensors  theta [n_features]; das: rotation
    OUTPUT/MODEL/TARGET/pairs-MODE-SPLIT-seedS.json       the pairs of train, validation, test
    OUTPUT/MODEL/cities.json                              who takes part, and why others do not

Each file is written under a temporary name and renamed, the json of a run last: a
run whose json is there is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from data.ravel_data_prep import ATTRIBUTES
from files import remove_leftovers, write_atomically, write_json
from imports import UserError, safetensors_torch
from scores import SCORES

LONGEST_NAME = 200


@dataclass(frozen=True)
class Run:
    """One cell of the grid."""

    target: str
    method: str
    layer: int
    seed: int

    def __str__(self) -> str:
        method = self.method.replace("/", "--")
        if len(method.encode()) > LONGEST_NAME:  # a path; a folder's name may have 255 bytes
            method = f"{hashlib.sha256(method.encode()).hexdigest()[:16]}--{method[-40:]}"
        return f"{self.target}/{method}/layer{self.layer:02d}-seed{self.seed}"


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

    def is_done(self, run: Run) -> bool:
        return self.json_path(run).exists() and self.tensors_path(run).exists()

    def read(self, run: Run) -> dict:
        """Raises UserError if the file is there but broken."""
        path = self.json_path(run)
        try:
            content = json.loads(path.read_text())
            if not isinstance(content.get("config"), dict):
                raise ValueError("it has no config")
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"cannot read the result {path} ({error}); remove it, or redo it with --force") from None
        return content

    def write(self, run: Run, result: dict, tensors: dict) -> None:
        content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(self.tensors_path(run), lambda path: safetensors_torch.save_file(content, path))
        write_json(self.json_path(run), result)

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


def difference(old: dict, new: dict) -> str:
    """How two configs differ: 'epochs 20 there, 3 now; lr ...', or '' if they do not."""
    new = json.loads(json.dumps(new))  # as it would come back from the file
    keys = [key for key in (*new, *(k for k in old if k not in new)) if old.get(key) != new.get(key)]
    telling = [key for key in keys if not key.endswith("_digest")]  # digests follow from other settings, if any differ
    return "; ".join(
        f"{key} {json.dumps(old.get(key))} there, {json.dumps(new.get(key))} now" for key in telling or keys
    )


def provenance(device: str) -> dict:
    """Versions of what computes, the commit of this checkout, and the device."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "transformers", "nnsight", "numpy", "safetensors"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {"versions": versions, "commit": _commit(), "device": device}


def _commit() -> str | None:
    def git(*words: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


# ---------------------------------------------------------------- the table

WIDTH = 79
HEAD = (
    "                       hard mask                    soft mask\n"
    "method            cause isol.  dis. [95 % cities]  cause isol.  dis.   selected"
)


def table(results: list[dict], order: list[str]) -> str:
    """All results as text of at most 80 columns: per target and layer, the baselines first.

    order: methods in the order of rows.  Scores are of the test pairs, means over
    seeds; the interval is the mean of the seeds' intervals.
    """
    lines = []
    names = _labels(order, 17)
    for target in _targets(results):
        of_target = [r for r in results if r["target"] == target]
        seeds = sorted({r["seed"] for r in of_target})
        mode = ", ".join(sorted({f"mode {r['mode']}, split by {r['split']}" for r in of_target}))
        model = of_target[0]["model"]
        lines += ["", f"{target}: {shortened(model, 26)}, {mode}, {len(seeds)} seed{'s' * (len(seeds) > 1)}", HEAD]
        for layer in sorted({r["layer"] for r in of_target}):
            here = [r for r in of_target if r["layer"] == layer]
            note = ", the last block: nothing can be learned here" if here[0]["last_block"] else ""
            lines.append(f"-- layer {layer}{note} ".ljust(WIDTH, "-"))
            for name in ("none", "full"):  # they stand beside every score, asked for or not
                own = [r for r in here if r["method"] == name]
                if own:
                    lines.append(_method_row(name, own))
                else:
                    lines.append(_row(name, *2 * [[r["baselines"][name] for r in here]]))
            for method in order:
                found = [r for r in here if r["method"] == method and method not in ("none", "full")]
                if found:
                    lines.append(_method_row(names[method], found))
                if found and found[0]["baselines"]["reconstruction"]:
                    spliced = [r["baselines"]["reconstruction"] for r in found]
                    lines.append(
                        _row("  reconstruction", spliced, spliced, f"l0 {_mean([r['l0'] for r in found]):.1f}")
                    )
    return "\n".join(lines)


def summary(results: list[dict], order: list[str]) -> str:
    """Disentangle with the hard mask, methods down and layers across: the table at a glance."""
    lines = []
    layers = sorted({r["layer"] for r in results})
    for target in _targets(results):
        lines += ["", f"{target}: disentangle, hard mask, test pairs, by layer"]
        for start in range(0, len(layers), 12):  # so many fit in a line
            lines += _summary_rows(results, order, target, layers[start : start + 12])
    return "\n".join(lines)


def _summary_rows(results: list[dict], order: list[str], target: str, layers: list[int]) -> list[str]:
    lines = [f"{'layer':<14}" + "".join(f"{layer:>5}" for layer in layers)]
    names = _labels(order, 14)
    for method in order:
        cells = []
        for layer in layers:
            here = [r for r in results if (r["target"], r["layer"]) == (target, layer)]
            scores = [r["test"]["hard"]["disentangle"] for r in here if r["method"] == method]
            if not scores and method in ("none", "full"):
                scores = [r["baselines"][method]["disentangle"] for r in here]
            cells.append(f"{_mean(scores):5.2f}" if scores else "    -")
        if any(cell != "    -" for cell in cells):
            lines.append(f"{names[method]:<14}" + "".join(cells))
    return lines


def shortened(name: str, width: int) -> str:
    """The end of a long name tells more than its beginning: '...its end'."""
    return name if len(name) <= width else "..." + name[3 - width :]


def _labels(names: list[str], width: int) -> dict[str, str]:
    """Methods' names for a column; where two long ones end alike, with their numbers in this order."""
    short = {name: shortened(name, width) for name in names}
    alike = [name for name in names if list(short.values()).count(short[name]) > 1]
    return short | {name: f"{shortened(name, width - 3)} #{i}" for i, name in enumerate(alike, 1)}


def _targets(results: list[dict]) -> list[str]:
    return sorted({r["target"] for r in results}, key=ATTRIBUTES.index)


def _mean(values: list) -> float:
    return sum(values) / len(values)


def _method_row(method: str, found: list[dict]) -> str:
    count = f"{_mean([r['n_selected'] for r in found]):.0f}/{found[0]['n_features']}"
    return _row(method, [r["test"]["hard"] for r in found], [r["test"]["soft"] for r in found], count)


def _row(name: str, hard: list[dict], soft: list[dict], last: str = "") -> str:
    def three(scores: list[dict]) -> str:
        return " ".join(f"{_mean([s[key] for s in scores]):5.3f}" for key in SCORES)

    interval = ""
    if all("interval95" in s for s in hard):
        low, high = (_mean([s["interval95"]["disentangle"][i] for s in hard]) for i in (0, 1))
        interval = f"[{low:.3f} {high:.3f}]"
    return f"{name:<17} {three(hard)} {interval:<13}  {three(soft)} {last:>11}".rstrip()
