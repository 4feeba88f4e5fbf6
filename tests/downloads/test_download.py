"""Downloads, each from a server on this machine that speaks its host's protocol.

What must arrive are bytes that the test made up; how many bytes the server sent, and of
which ranges it was asked, is counted there.
"""

import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import blobfile
import huggingface_hub
import pytest
import requests
import torch
import urllib3
import wandb
import yaml
from helpers_cli import error_line, finish, require_words, snapshot, start
from helpers_hosts import KEY, Hosts
from huggingface_hub import constants as hub_constants
from huggingface_hub import snapshot_download, try_to_load_from_cache
from safetensors.torch import save

from common.paths import HOME
from data.facts import read_cities
from downloads import __main__ as download
from downloads import fetching, items
from downloads import hosts as product_hosts
from saes.loading import FAMILIES, load_sae
from saes.places import locate
from saes.releases import RELEASES

BLOOM = "jbloom/GPT2-Small-SAEs-Reformatted"
BLOOM_COMMIT = "57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9"
MAIN = "1" * 40
GPT2 = "openai-community/gpt2"
RAVEL_PATH = "/explanare/ravel/09a36919cf02f27d75c5702d09d201bc2e9237d9/data.tgz"
OUTSIDE = ("https://openaipublic.blob.core.windows.net", "https://raw.githubusercontent.com")


def some_bytes(seed: int, size: int = 20_000) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server():
    server = Hosts()
    yield server
    server.close()


@pytest.fixture
def home(tmp_path, monkeypatch, server):
    """A checkout of its own, in which every host is the server and nobody else can be reached."""
    home = tmp_path / "home"
    (home / "saved_models" / "saes").mkdir(parents=True)
    (home / "data").mkdir()
    monkeypatch.setattr(items, "HOME", home)
    monkeypatch.setattr(fetching, "PAUSE", 0)
    monkeypatch.setattr(product_hosts, "CHUNK", 1000)
    monkeypatch.setattr(product_hosts, "RETRIES", 0)
    for name in list(os.environ):
        if name.startswith(("HF_", "WANDB_", "AZURE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(hub_constants, "ENDPOINT", server.url)
    template = hub_constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template[template.index("/{repo_id}") :]
    )
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub_constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    go_to(monkeypatch, server.url)
    yield home
    wandb.teardown()


def go_to(monkeypatch, url: str) -> None:
    """Lead every host that has no setting of its own for that to this address, and forget what was known of them."""

    def elsewhere(asked: str) -> str:
        for host in OUTSIDE:
            asked = asked.replace(host, url)
        assert asked.startswith("http://127.0.0.1"), asked
        return asked

    ask = requests.Session.request

    def request(self, method, url, **options):
        return ask(self, method, elsewhere(url), **options)

    monkeypatch.setattr(requests.Session, "request", request)

    class Pool(urllib3.PoolManager):
        def request(self, method, url, *arguments, **options):
            return super().request(method, elsewhere(url), *arguments, **options)

    pool = Pool()
    monkeypatch.setattr(blobfile._common.global_pool_director, "get_http_pool", lambda: pool)
    for tokens in ("_tokens", "_expirations"):
        monkeypatch.setattr(blobfile._azure.access_token_manager, tokens, {})
    monkeypatch.setenv("WANDB_BASE_URL", url)
    product_hosts._blobs.cache_clear()
    product_hosts._wandb_api.cache_clear()
    product_hosts._repository.cache_clear()


@pytest.fixture
def account(monkeypatch, home):
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def saes(home: Path) -> Path:
    return home / "saved_models" / "saes"


def manifest(home: Path) -> dict:
    return json.loads((saes(home) / "manifest.json").read_text())


def run(capsys, *argv: str) -> str:
    """Download, see that it worked, and return what was said."""
    product_hosts._repository.cache_clear()  # each command asks anew
    code = download.main(list(argv))
    out, err = capsys.readouterr()
    assert code == 0, err
    assert out == ""
    return err


def fails(capsys, *argv: str) -> str:
    """Download, see that it ends with one line, and return that."""
    product_hosts._repository.cache_clear()  # each command asks anew
    code = download.main(list(argv))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    return error_line(err)


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


KINDS = [pytest.param(OpenAI(), id="azure"), pytest.param(Bloom(), id="hub"), pytest.param(Apollo(), id="wandb")]


@pytest.fixture(params=KINDS)
def kind(request, account):
    return request.param


@pytest.fixture
def content(kind, server) -> bytes:
    content = some_bytes(5)
    kind.publish(server, content)
    return content


def place(home: Path, kind) -> Path:
    """What is there whole or not at all."""
    return locate(kind.release, saes(home), kind.layer, 12)


def test_a_whole_file_arrives_and_is_noted(home, capsys, kind, content, server):
    err = run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    noted = manifest(home)["files"][kind.weights]
    assert (noted["size"], noted["sha256"], noted["address"]) == (20_000, sha256(content), kind.address)
    assert noted["date"] == time.strftime("%Y-%m-%d", time.gmtime())
    assert "mirror_of" not in noted
    require_words(err, ["0.02 MB", "free", "done: " + kind.release])
    assert not list(home.rglob("*.part"))
    assert server.served[content] == len(content)


def test_the_second_run_asks_for_nothing(home, capsys, kind, content, server):
    run(capsys, *kind.words)
    before = snapshot(home)
    server.requests.clear()
    err = run(capsys, *kind.words)
    assert server.requests == []
    assert snapshot(home) == before
    assert "here already" in err


@pytest.mark.parametrize("seed", range(4))
def test_an_interrupted_download_goes_on_from_the_bytes_that_are_there(
    home, capsys, kind, content, server, monkeypatch, seed
):
    cut = random.Random(seed).randrange(1, len(content))
    monkeypatch.setattr(fetching, "TRIES", 1)  # each break ends the command
    if isinstance(kind, OpenAI):  # blobfile asks for a piece at a time: the break falls into one of them
        pieces, rest = divmod(cut, 1000)
        server.cuts[content] = [1000] * pieces + [rest]
    else:
        server.cuts[content] = [cut]
    line = fails(capsys, *kind.words)
    require_words(line, [kind.address.removesuffix("/5.pt"), "run the same command again"])
    assert not place(home, kind).exists()
    [part] = (path for path in saes(home).rglob("*.part") if path.is_file())
    have = part.read_bytes()
    assert content.startswith(have)
    assert cut - 1000 < len(have) <= cut  # of Azure whole pieces only
    server.requests.clear()
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    first = next(span for _, _, span in server.requests if span)
    assert first.startswith(f"bytes={len(have)}-")
    assert server.served[content] <= len(content) + cut - len(have)


def test_a_break_is_mended_at_once(home, capsys, kind, content, server):
    server.cuts[content] = [300, 400]
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content


def test_a_truncated_file_never_gets_its_name(home, capsys, kind, content, server):
    server.wrong[content] = content[:7000]
    server.sizes[content] = len(content)
    if isinstance(kind, OpenAI):  # its HEAD tells what the GETs do not keep
        server.sizes[content] = len(content)
    line = fails(capsys, *kind.words)
    require_words(line, ["run the same command again"])
    assert not place(home, kind).exists()
    assert kind.weights not in str(manifest(home) if (saes(home) / "manifest.json").exists() else "")


def test_a_wrong_digest_never_gets_its_name(home, capsys, kind, content, server):
    wrong = some_bytes(6)
    server.wrong[content] = wrong
    line = fails(capsys, *kind.words)
    algorithm = "sha256" if isinstance(kind, Bloom) else "md5"
    expected = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()[:16]
    found = hashlib.new(algorithm, wrong, usedforsecurity=False).hexdigest()[:16]
    require_words(line, [algorithm, expected, found, "removed", "again"])
    assert not place(home, kind).exists()
    del server.wrong[content]
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content


def test_what_is_not_there_is_said_so(home, capsys, kind, server):
    server.repositories[BLOOM] = {BLOOM_COMMIT: {}}
    line = fails(capsys, *kind.words)
    require_words(line, [kind.address.rsplit("/", 1)[0], "look for it by hand"])
    assert not place(home, kind).exists()


def test_no_access_is_said_so(home, capsys, kind, content, server):
    server.status |= {"restype=container": 403, "/resolve/": 403, "/files/": 403}
    line = fails(capsys, *kind.words)
    require_words(line, ["may not be read", "log in"])
    assert not place(home, kind).exists()


def test_a_host_in_trouble_is_said_so(home, capsys, kind, content, server):
    server.status |= {"restype=container": 503, "/resolve/": 503, "/files/": 503}
    require_words(fails(capsys, *kind.words), ["the host answers 503", "again"])
    assert not place(home, kind).exists()


def test_no_network_is_said_so_in_half_a_minute(home, capsys, kind, content, server, monkeypatch):
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    go_to(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setattr(product_hosts, "TIMEOUT", 1)
    begin = time.monotonic()
    line = fails(capsys, *kind.words)
    assert time.monotonic() - begin < 5
    require_words(line, ["cannot get", "check the network", "again"])
    assert not place(home, kind).exists()


def test_no_room_is_said_before_the_first_byte(home, capsys, kind, content, server, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 12_345))
    line = fails(capsys, *kind.words)
    require_words(line, ["0.02 MB are needed", "0.01 MB are free", "make room"])
    assert server.served[content] == 0
    assert not place(home, kind).exists()


def small_disk(room: int):
    """An `open` whose files take so many bytes in all, as a full disk does."""
    left = [room]

    class File(io.FileIO):
        def write(self, content: bytes) -> int:
            taken = super().write(content[: left[0]])
            left[0] -= taken
            if taken < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return taken

    return lambda path, mode="r", **options: File(path, "ab") if mode == "ab" else open(path, mode, **options)


def test_a_disk_that_fills_up_keeps_what_has_arrived(home, capsys, kind, content, server, monkeypatch):
    monkeypatch.setattr(fetching, "open", small_disk(8000), raising=False)
    line = fails(capsys, *kind.words)
    require_words(line, ["cannot write", "No space left on device", "make room", "kept"])
    assert not place(home, kind).exists()
    monkeypatch.delattr(fetching, "open")
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == content
    assert server.served[content] < 2 * len(content)


# ---------------------------------------------------------------- what is there already


def test_a_changed_file_is_caught(home, capsys, kind, content, server):
    run(capsys, *kind.words)
    path = saes(home) / kind.weights
    changed = content[:-1] + bytes([content[-1] ^ 1])
    path.write_bytes(changed)
    server.requests.clear()
    line = fails(capsys, *kind.words)
    require_words(line, [path, "has changed", sha256(changed)[:16], sha256(content)[:16], "remove it"])
    assert server.requests == []
    path.unlink()
    run(capsys, *kind.words)  # as the line says
    assert path.read_bytes() == content


def test_a_file_put_there_by_hand_is_taken_if_it_is_the_publishers(home, capsys, kind, content, server):
    path = saes(home) / kind.weights
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    run(capsys, *kind.words)
    assert server.served[content] == 0
    assert manifest(home)["files"][kind.weights]["sha256"] == sha256(content)


def test_another_file_under_that_name_is_left_alone(home, capsys, kind, content, server):
    path = saes(home) / kind.weights
    path.parent.mkdir(parents=True, exist_ok=True)
    other = some_bytes(8)
    path.write_bytes(other)
    line = fails(capsys, *kind.words)
    require_words(line, [path, "is not", "move it away"])
    assert path.read_bytes() == other
    assert server.bytes_sent() == 0


def test_bytes_of_an_older_version_are_not_continued(home, capsys, kind, content, server, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    server.cuts[content] = [1000] * 3 + [0] if isinstance(kind, OpenAI) else [3000]
    fails(capsys, *kind.words)
    newer = some_bytes(9, size=len(content) + 1)
    kind.publish(server, newer)
    run(capsys, *kind.words)
    assert (saes(home) / kind.weights).read_bytes() == newer
    assert not list(home.rglob("*.part"))


def test_a_small_file_of_an_older_version_is_not_kept(home, capsys, server, account, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    content = some_bytes(5)
    Apollo().publish(server, content)
    server.cuts[content] = [3000]
    fails(capsys, *Apollo.words)  # by then its settings have arrived
    server.runs["sparsify/gpt2/tvj2owza"]["final_config.yaml"] = b"saes: {new: true}"
    run(capsys, *Apollo.words)
    assert (saes(home) / "apollo-e2e" / "layer05" / "final_config.yaml").read_bytes() == b"saes: {new: true}"
    assert server.served[content] == len(content)


def test_a_server_without_ranges_is_read_from_the_start(home, capsys, server, monkeypatch):
    content = some_bytes(5)
    Bloom().publish(server, content)
    server.cuts[content], server.ignores_ranges = [7000], True
    run(capsys, *Bloom.words)
    assert (saes(home) / Bloom.weights).read_bytes() == content


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"files": 3}', '{"files": {"a": {}}}', '{"revisions": 1}'])
def test_a_damaged_manifest_is_an_error(home, capsys, server, text):
    (saes(home) / "manifest.json").write_text(text)
    require_words(fails(capsys, *OpenAI.words), ["manifest.json is damaged", "remove it"])
    assert server.requests == []


def test_two_downloads_of_one_file_do_not_mix(home, capsys, server):
    content = some_bytes(5)
    Bloom().publish(server, content)
    remote = product_hosts.look(f"hf://{BLOOM}@{BLOOM_COMMIT}/blocks.6.hook_resid_pre")["sae_weights.safetensors"]
    stage = saes(home) / "bloom" / ".blocks.6.hook_resid_pre.part"
    with fetching._writing(fetching.part_of(remote, stage / "sae_weights.safetensors")):
        require_words(fails(capsys, *Bloom.words), ["another process is downloading", "wait for it"])


# ---------------------------------------------------------------- Apollo: account and mirror


def test_wandb_without_an_account_is_said_before_the_first_byte(home, capsys, server):
    OpenAI().publish(server, some_bytes(1))
    line = fails(capsys, "openai", "apollo", "--layers", "5")
    require_words(line, ["wandb.ai", "account", "wandb login", "./setup.sh apollo --mirror"])
    assert server.bytes_sent() == 0
    assert not (saes(home) / "openai").exists()


def test_a_key_that_wandb_refuses_is_said_so(home, capsys, server, account):
    server.status["/graphql"] = 401
    require_words(fails(capsys, *Apollo.words), ["wandb://sparsify/gpt2/tvj2owza", "may not be read", "log in"])


def mirror_files(layer: int, **config) -> dict[str, bytes]:
    """An SAE of width 3 with 180 latents in SAELens's layout; its decoder's rows have length 1."""
    tensors = {
        "W_enc": torch.ones(3, 180),
        "b_enc": torch.zeros(180),
        "W_dec": torch.eye(3).repeat(60, 1),
        "b_dec": torch.zeros(3),
    }
    about = {"hook_point": f"blocks.{layer + 1}.hook_resid_pre", "apply_b_dec_to_input": False} | config
    return {
        "cfg.json": json.dumps(about).encode(),
        "sae_weights.safetensors": save(tensors),
        "sparsity.safetensors": b"",
    }


def publish_mirrors(server: Hosts, commit: str = MAIN) -> None:
    for name in ("sle", "slefr"):
        files = {
            f"{layer + 1}-res_{name}-ajt/{file}": content
            for layer in (1, 5, 9)
            for file, content in mirror_files(layer).items()
        }
        server.repositories.setdefault(f"neuronpedia/gpt2-small__res_{name}-ajt", {})[commit] = files


def test_the_mirror_is_named_as_such(home, capsys, server):
    publish_mirrors(server)
    err = run(capsys, "apollo", "--mirror")
    assert "no mirror at layer 9" in err
    assert "is not verified" in err
    there = sorted(str(path.relative_to(saes(home))) for path in saes(home).rglob("*.safetensors"))
    folders = ["apollo-e2e+ds/layer01", "apollo-e2e+ds/layer05", "apollo-e2e/layer01", "apollo-e2e/layer05"]
    assert there == [f"{folder}/sae_weights.safetensors" for folder in folders]
    noted = manifest(home)["files"]["apollo-e2e+ds/layer05/sae_weights.safetensors"]
    address = f"hf://neuronpedia/gpt2-small__res_slefr-ajt@{MAIN}/6-res_slefr-ajt/sae_weights.safetensors"
    assert (noted["mirror_of"], noted["address"]) == ("wandb://sparsify/gpt2/2lzle2f0", address)
    assert load_sae("apollo", locate("apollo-e2e+ds", saes(home), 5, 12), 5).path.endswith("sae_weights.safetensors")


def test_a_renamed_owner_is_followed(home, capsys, server):
    """The hub leads on from an old name; neuronpedia's may be one."""
    publish_mirrors(server)
    repository = "neuronpedia/gpt2-small__res_sle-ajt"
    server.repositories["neuronpedia-org/gpt2-small__res_sle-ajt"] = server.repositories.pop(repository)
    server.moved["/neuronpedia/gpt2-small__res_sle-ajt/"] = "/neuronpedia-org/gpt2-small__res_sle-ajt/"
    run(capsys, "apollo", "--mirror", "--layers", "5")
    assert (saes(home) / "apollo-e2e" / "layer05" / "sae_weights.safetensors").exists()


def test_the_mirrors_commit_is_the_one_first_seen(home, capsys, server):
    publish_mirrors(server)
    run(capsys, "apollo", "--mirror", "--layers", "1")
    publish_mirrors(server, commit="2" * 40)
    run(capsys, "apollo", "--mirror", "--layers", "5")
    noted = manifest(home)
    assert set(noted["revisions"].values()) == {MAIN}
    assert {record["revision"] for record in noted["files"].values()} == {MAIN}


def test_apollos_own_run_is_read_before_its_mirror(home, capsys, server, account):
    publish_mirrors(server)
    run(capsys, "apollo", "--mirror", "--layers", "5")
    Apollo().publish(server, some_bytes(5))
    run(capsys, *Apollo.words)
    folder = saes(home) / "apollo-e2e" / "layer05"
    assert FAMILIES["apollo"].weights_file(folder) == folder / "samples_400000.pt"
    server.requests.clear()
    assert "goes before its mirror" in run(capsys, "apollo", "--mirror", "--layers", "5")
    assert server.requests == []


# ---------------------------------------------------------------- GPT-2


def publish_gpt2(server: Hosts, monkeypatch, weights: bytes) -> dict[str, bytes]:
    files = {name: f"{name} of gpt2".encode() * 5 for name in items.GPT2_FILES}
    files["model.safetensors"] = weights
    unwanted = {"pytorch_model.bin": b"pickle", "onnx/decoder_model.onnx": b"onnx", "tf_model.h5": b"h5"}
    server.repositories[GPT2] = {MAIN: files | unwanted}
    monkeypatch.setattr(items, "GPT2_SHA256", sha256(weights))
    return files


def cached(name: str) -> Path:
    return Path(try_to_load_from_cache(GPT2, name))


def test_gpt2_lands_in_the_cache(home, capsys, server, monkeypatch):
    weights = some_bytes(2)
    files = publish_gpt2(server, monkeypatch, weights)
    server.cuts[weights] = [9000]
    run(capsys, "model")
    assert {name: cached(name).read_bytes() for name in files} == files  # by the branch main, as main.py asks
    found = {path.name for path in (home.parent / "hub").rglob("*") if path.is_symlink() or "snapshots" in path.parts}
    assert found - set(files) <= {MAIN, "snapshots"}
    assert server.served[weights] == len(weights)
    noted = json.loads((home / "saved_models" / "models.json").read_text())["files"]
    assert {name.rpartition("/")[2]: record["sha256"] for name, record in noted.items()} == {
        name: sha256(content) for name, content in files.items()
    }
    server.requests.clear()
    run(capsys, "model")
    assert server.requests == []
    cached("model.safetensors").resolve().write_bytes(b"other")
    require_words(fails(capsys, "model"), ["model.safetensors", "has changed", sha256(b"other")[:16]])


def test_a_wrong_small_file_does_not_stay_in_the_cache(home, capsys, server, monkeypatch):
    files = publish_gpt2(server, monkeypatch, some_bytes(2))
    good = files["tokenizer.json"]
    server.wrong[good] = good[::-1]
    require_words(fails(capsys, "model"), ["tokenizer.json", "git", "removed", "again"])
    assert not (home / "saved_models" / "models.json").exists()
    del server.wrong[good]
    run(capsys, "model")
    assert cached("tokenizer.json").read_bytes() == good


def test_gpt2_goes_on_after_a_break(home, capsys, server, monkeypatch):
    monkeypatch.setattr(fetching, "TRIES", 1)
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    server.cuts[weights] = [9000]
    require_words(fails(capsys, "model"), ["model.safetensors", "again"])
    assert not isinstance(try_to_load_from_cache(GPT2, "model.safetensors"), str)
    run(capsys, "model")
    assert cached("model.safetensors").read_bytes() == weights
    assert server.served[weights] == len(weights)


def test_gpt2_that_was_in_the_cache_is_not_fetched_again(home, capsys, server, monkeypatch):
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    snapshot_download(GPT2, allow_patterns=["model.safetensors"])
    assert server.served.pop(weights) == len(weights)
    run(capsys, "model")
    assert server.served[weights] == 0


def test_a_disk_that_fills_up_in_the_hubs_hands(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    require_words(fails(capsys, "model"), ["cannot write", "No space left on device", "make room"])


def test_hf_hub_offline_is_named(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    require_words(fails(capsys, "model"), [GPT2, "HF_HUB_OFFLINE is set", "unset it"])


def test_other_weights_under_gpt2s_name_are_refused(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))
    monkeypatch.setattr(items, "GPT2_SHA256", "0" * 64)
    require_words(fails(capsys, "model"), [GPT2, sha256(some_bytes(2))[:16], "0" * 16])
    assert server.bytes_sent() == 0


# ---------------------------------------------------------------- RAVEL

CITIES = b'{"Paris": {"Country": "France", "Continent": "Europe"}}'


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_ravels_city_files_are_taken_out_of_their_archive(home, capsys, server):
    cities, splits = "ravel_city_entity_attributes.json", "ravel_city_prompt_to_split.json"
    files = {f"data/{cities}": CITIES, f"../../{splits}": b"{}"}
    packed = archive(files | {"data/ravel_verb_entity_attributes.json": b"{}", "data/noise": some_bytes(1)})
    server.raw[RAVEL_PATH] = packed
    server.cuts[packed] = [len(packed), 800]  # the first request asks for its size alone
    assert "another version" in run(capsys, "data")
    folder = home / "data" / "ravel"
    assert {path.name for path in folder.iterdir()} == {"manifest.json", cities, splits}
    assert [city.country for city in read_cities(folder / "ravel_city_entity_attributes.json")] == ["France"]
    noted = json.loads((folder / "manifest.json").read_text())["files"]["ravel_city_entity_attributes.json"]
    assert (noted["sha256"], noted["address"]) == (sha256(CITIES), "https://raw.githubusercontent.com" + RAVEL_PATH)
    server.requests.clear()
    run(capsys, "data")
    assert server.requests == []


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (archive({"data/ravel_city_entity_attributes.json": CITIES})[:-9], ["no whole archive", "again"]),
        (b"<html>not here</html>", ["no whole archive", "again"]),
        (archive({"data/other.json": b"{}"}), ["holds no ravel_city_entity_attributes.json"]),
    ],
    ids=["cut", "html", "other"],
)
def test_a_bad_archive_leaves_nothing(home, capsys, server, packed, words):
    server.raw[RAVEL_PATH] = packed
    require_words(fails(capsys, "data"), words)
    assert not (home / "data" / "ravel").exists()


# ---------------------------------------------------------------- the command


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


def test_all_is_everything(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    run(capsys, "all")
    for release, published in RELEASES.items():
        assert all(locate(release, saes(home), layer, 12).exists() for layer in published.layers)
    runs = {"apollo-e2e": ["bst0prdd", "tvj2owza", "vnfh4vpi"], "apollo-e2e+ds": ["e26jflpq", "2lzle2f0", "u50mksr8"]}
    for release, names in runs.items():
        for layer, name in zip((1, 5, 9), names, strict=True):
            assert (saes(home) / release / f"layer{layer:02}" / "samples_8.pt").read_text() == name
    assert (saes(home) / "openai" / "7.pt").read_text() == "openai 7"
    last = saes(home) / "bloom" / "blocks.11.hook_resid_post" / "cfg.json"
    assert last.read_text() == "cfg.json 11"
    assert (saes(home) / "bloom" / "blocks.11.hook_resid_pre" / "cfg.json").read_text() == "cfg.json 10"
    assert (home / "data" / "ravel").exists()
    assert isinstance(try_to_load_from_cache(GPT2, "model.safetensors"), str)
    server.requests.clear()
    assert "32 of 32 are here already" in run(capsys, "all")
    assert server.requests == []


def test_layers_of_all_are_those_that_there_are(home, capsys, server, monkeypatch, account):
    publish_all(server, monkeypatch)
    run(capsys, "all", "--layers", "2")
    there = {str(path.relative_to(saes(home))) for path in saes(home).glob("*/*")}
    assert there == {"openai/2.pt", "bloom/blocks.3.hook_resid_pre"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["WORD", "--help"]),
        (["gemma"], ["unknown word 'gemma'", "data, model, openai, bloom, apollo, all"]),
        (["openai", "--layers", "12"], ["--layers 12", "0 to 11"]),
        (["openai", "--layers", "-1"], ["--layers"]),
        (["openai", "--layers", "one"], ["--layers one", "0 to 11"]),
        (["apollo", "--layers", "2"], ["apollo-e2e has no SAE at layer 2", "1 5 9"]),
        (["apollo", "openai", "--layers", "1", "2"], ["apollo-e2e has no SAE at layer 2", "1 5 9"]),
        (["apollo", "--mirror", "--layers", "9"], ["the mirror of apollo-e2e", "layer 9", "1 5"]),
        (["model", "--layers", "1"], ["--layers is for SAEs"]),
        (["openai", "--mirror"], ["--mirror is for Apollo's"]),
        (["openai", "--folder", "x"], ["--folder"]),
    ],
)
def test_a_wrong_command_is_an_error_of_one_line(home, capsys, server, argv, words):
    require_words(fails(capsys, *argv), words)
    assert server.requests == []


def process(home: Path, server: Hosts, *argv: str, code: str = ""):
    """The command in a process of its own, with nothing changed but what has to lead to the server."""
    code = f"""
import sys
from pathlib import Path
from common import paths
paths.HOME = Path({str(home)!r})
from downloads import __main__ as download
{code}
try:
    sys.exit(download.main(sys.argv[1:]))
finally:
    heavy = {{"torch", "numpy", "safetensors", "tqdm", "wandb", "huggingface_hub", "blobfile", "requests"}}
    print("loaded:", *sorted(heavy & set(sys.modules)))
"""
    return start(*argv, code=code, HF_ENDPOINT=server.url, HF_HOME=home / "hf", HF_HUB_CACHE=None)


def test_help_loads_no_library(home, server):
    code, out, err = finish(process(home, server, "--help"))
    assert (code, err) == (0, "")
    assert out.endswith("loaded:\n")
    for word in ("data", "model", "openai", "bloom", "apollo", "all", "--layers", "--mirror"):
        assert f"\n  {word} " in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_process_of_its_own_needs_no_torch(home, server, monkeypatch):
    """Nor does it lean on what other tests have imported."""
    weights = some_bytes(2)
    publish_gpt2(server, monkeypatch, weights)
    Bloom().publish(server, weights)
    done = process(
        home,
        server,
        "model",
        *Bloom.words,
        code=f"from downloads import items; items.GPT2_SHA256 = {sha256(weights)!r}",
    )
    code, out, err = finish(done)
    assert code == 0, err
    assert "torch" not in out
    [found] = (home / "hf").rglob(f"snapshots/{MAIN}/model.safetensors")
    assert found.read_bytes() == weights


def test_ctrl_c_keeps_what_has_arrived(home, capsys, server):
    content = some_bytes(5)
    Bloom().publish(server, content)
    server.stalls[content] = 9000
    running = process(home, server, *Bloom.words)
    deadline = time.monotonic() + 60
    while not server.asked("GET", "/cdn/" + sha256(content)):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # for the bytes to arrive
    running.send_signal(signal.SIGINT)
    code, _, err = finish(running)
    assert code == 130, err
    assert err.splitlines()[-1].startswith("interrupted: what has arrived is kept")
    assert "Traceback" not in err
    assert not place(home, Bloom()).exists()
    server.stalls.clear()
    run(capsys, *Bloom.words)
    assert (saes(home) / Bloom.weights).read_bytes() == content
    assert server.asked("GET", "/cdn/" + sha256(content))[-1] == "bytes=9000-"


def test_setup_hands_its_words_on(tmp_path):
    home = HOME
    shutil.copy(home / "setup.sh", tmp_path)
    shutil.copy(home / "requirements.txt", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(home / "requirements.txt", tmp_path / ".venv" / "installed-requirements.txt")
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n[ "$2" = pip ] || { pwd; echo "$@"; }\n')
    python.chmod(0o755)

    def setup(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([tmp_path / "setup.sh", *words], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert setup() == (0, "", "")
    given = ("openai", "apollo", "--layers", "1", "5", "--mirror")
    assert setup(*given) == (0, f"{tmp_path}\n-m downloads {' '.join(given)}\n", "")
    code, out, err = setup("data", "gemma")
    assert (code, out) == (2, "")
    require_words(err, ["error: unknown word 'gemma'", "tests data model openai apollo bloom all"])
    code, out, err = setup("--help")
    assert (code, err) == (0, "")
    require_words(out, ["./setup.sh tests", "./setup.sh data", "--mirror", "--layers"])
