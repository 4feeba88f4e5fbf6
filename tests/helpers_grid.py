"""Grids that tests run, and what two folders of results must have in common."""

import contextlib
import io
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from main import main


def run(folder: Path, *argv) -> tuple[Path, str]:
    """Run the command line in `folder` with --output out, and expect success: (the results of toy, stdout)."""
    folder.mkdir(parents=True, exist_ok=True)
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out):
        assert main([*argv, "--output", "out"]) == 0
    return folder / "out" / "toy", out.getvalue()


def results(root: Path) -> dict[str, dict]:
    """'country/das/layer02-seed0' -> the result, its tensors under "tensors"."""
    return {
        str(path.relative_to(root).with_suffix("")): json.loads(path.read_text())
        | {"tensors": load_file(path.with_suffix(".safetensors"))}
        for path in sorted(root.glob("*/*/layer*.json"))
    }


def pair_files(root: Path) -> dict[str, dict]:
    return {str(path.relative_to(root)): json.loads(path.read_text()) for path in sorted(root.glob("*/pairs-*.json"))}


def require_same(found: dict[str, dict], expected: dict[str, dict]) -> None:
    """Same runs, and the same in everything: the tensors to the last bit, no tolerance anywhere."""
    assert found.keys() == expected.keys()
    for name, result in found.items():
        other = expected[name]
        assert result["tensors"].keys() == other["tensors"].keys()
        for key, tensor in result["tensors"].items():
            assert torch.equal(tensor, other["tensors"][key]), f"{name}: {key}"
        # the commit may be another one if someone is at work on this checkout
        left_out = ("tensors", "seconds", "commit", "digest")
        assert {k: v for k, v in result.items() if k not in left_out} == {
            k: v for k, v in other.items() if k not in left_out
        }, name


def require_no_leftovers(root: Path) -> None:
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    assert files
    assert not [
        str(path) for path in files if path.name.startswith(".") or path.suffix not in (".json", ".safetensors")
    ]
