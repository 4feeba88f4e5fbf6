"""What the tests of downloads share: what is published, one SAE of each host, and the command's two ends."""

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path

import yaml
from helpers_hosts import Hosts

from downloads import __main__ as download
from downloads import hosts as product_hosts
from downloads import items
from saes.releases import locate

BLOOM = "jbloom/GPT2-Small-SAEs-Reformatted"
BLOOM_COMMIT = "57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9"
MAIN = "1" * 40
GPT2 = "openai-community/gpt2"
RAVEL_PATH = "/explanare/ravel/09a36919cf02f27d75c5702d09d201bc2e9237d9/data.tgz"
CITIES = b'{"Paris": {"Country": "France", "Continent": "Europe"}}'


def some_bytes(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saes(home: Path) -> Path:
    return home / "saved_models" / "saes"


def manifest(home: Path) -> dict:
    return json.loads((saes(home) / "manifest.json").read_text())


def place(home: Path, kind) -> Path:
    """What is there whole or not at all."""
    return locate(kind.release, saes(home), kind.layer, 12)


def run(capsys, *argv: str) -> str:
    """Download, see that it worked, and return what was said."""
    product_hosts._repository.cache_clear()  # each command asks anew
    code = download.main(list(argv))
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out == ""
    return err


def failures(capsys, *argv: str) -> list[str]:
    """Download, see that it ends with nothing but lines of errors, and return them."""
    product_hosts._repository.cache_clear()  # each command asks anew
    code = download.main(list(argv))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error: ")]
    assert told, err
    assert told == lines[-len(told) :], err
    return told


def fails(capsys, *argv: str) -> str:
    """See that it ends with one line, or one for each of the two SAEs that Apollo has at a layer; the first."""
    told = failures(capsys, *argv)
    assert len(told) == 1 or (len(told) == 2 and "apollo" in argv), told
    return told[0]


# ---------------------------------------------------------------- one SAE of each host


class OpenAI:
    """One file, from Azure."""

    words = ("openai", "--layers", "5")
    release, layer, weights = "openai", 5, "openai/5.pt"
    address = "az://openaipublic/sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/5.pt"

    def publish(self, server: Hosts, content: bytes) -> None:
        server.blobs["sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/5.pt"] = content


class Bloom:
    """A folder of three, from the hub."""

    words = ("bloom", "--layers", "5")
    release, layer, weights = "bloom", 5, "bloom/blocks.6.hook_resid_pre/sae_weights.safetensors"
    address = f"hf://{BLOOM}@{BLOOM_COMMIT}/blocks.6.hook_resid_pre/sae_weights.safetensors"

    def publish(self, server: Hosts, content: bytes) -> None:
        folder = "blocks.6.hook_resid_pre"
        files = {f"{folder}/cfg.json": b'{"hook_point": "blocks.6.hook_resid_pre"}', "README.md": b"# SAEs"}
        files |= {f"{folder}/sae_weights.safetensors": content, f"{folder}/sparsity.safetensors": b"sparse" * 9}
        server.repositories[BLOOM] = {BLOOM_COMMIT: files, MAIN: {}}


class Apollo:
    """A folder of two, from wandb."""

    words = ("apollo", "--layers", "5")
    release, layer, weights = "apollo-e2e", 5, "apollo-e2e/layer05/samples_400000.pt"
    address = "wandb://sparsify/gpt2/tvj2owza/samples_400000.pt"

    def publish(self, server: Hosts, content: bytes) -> None:
        config = yaml.safe_dump({"saes": {"sae_positions": ["blocks.6.hook_resid_pre"]}}).encode()
        for name, weights in (("tvj2owza", content), ("2lzle2f0", b"the other one" * 9)):
            files = {"final_config.yaml": config, "samples_400000.pt": weights, "samples_99999.pt": b"early"}
            server.runs[f"sparsify/gpt2/{name}"] = files | {"media/a.png": b""}


# ---------------------------------------------------------------- all that is published


def publish_gpt2(server: Hosts, monkeypatch, weights: bytes) -> dict[str, bytes]:
    files = {name: f"{name} of gpt2".encode() * 5 for name in items.GPT2_FILES}
    files["model.safetensors"] = weights
    unwanted = {"pytorch_model.bin": b"pickle", "onnx/decoder_model.onnx": b"onnx", "tf_model.h5": b"h5"}
    server.repositories[GPT2] = {MAIN: files | unwanted}
    monkeypatch.setattr(items, "GPT2_SHA256", sha256(weights))
    return files


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def publish_all(server: Hosts, monkeypatch) -> None:
    """Every SAE that the table of releases names, at the address it names, with its own content."""
    publish_gpt2(server, monkeypatch, some_bytes(2))
    server.raw[RAVEL_PATH] = archive({"data/ravel_city_entity_attributes.json": CITIES})
    bloom = {}
    for layer in range(12):
        name = f"sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/{layer}.pt"
        server.blobs[name] = b"openai %d" % layer
        folder = "blocks.11.hook_resid_post" if layer == 11 else f"blocks.{layer + 1}.hook_resid_pre"
        for file in ("cfg.json", "sae_weights.safetensors", "sparsity.safetensors"):
            bloom[f"{folder}/{file}"] = b"%s %d" % (file.encode(), layer)
    server.repositories[BLOOM] = {BLOOM_COMMIT: bloom}
    for name in ("bst0prdd", "e26jflpq", "tvj2owza", "2lzle2f0", "vnfh4vpi", "u50mksr8"):
        server.runs[f"sparsify/gpt2/{name}"] = {"final_config.yaml": b"saes: {}", "samples_8.pt": name.encode()}
