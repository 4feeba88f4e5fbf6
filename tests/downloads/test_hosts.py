"""What a host refuses or lacks, what each host is peculiar in, and mirrors."""

import json
import time

import pytest
import torch
from helpers_cli import require_words
from helpers_downloads import (
    BLOOM,
    BLOOM_COMMIT,
    GPT2,
    MAIN,
    Apollo,
    OpenAI,
    fails,
    manifest,
    place,
    publish_gpt2,
    run,
    saes,
    some_bytes,
)
from helpers_hosts import Hosts
from huggingface_hub import constants as hub_constants
from safetensors.torch import save

from common.errors import UserError
from downloads import hosts as product_hosts
from saes.loading import FAMILIES, load_sae
from saes.releases import locate


def test_what_is_not_there_is_said_so(home, capsys, kind, server):
    server.repositories[BLOOM] = {BLOOM_COMMIT: {}}
    line = fails(capsys, *kind.words)
    require_words(line, [kind.address.rsplit("/", 1)[0], "look for it by hand"])
    assert not place(home, kind).exists()


def test_no_access_is_said_so(home, capsys, kind, content, server):
    server.status |= {"/autoencoders/": 403, "/resolve/": 403, "/files/": 403}
    line = fails(capsys, *kind.words)
    require_words(line, ["may not be read", "log in"])
    assert not place(home, kind).exists()


def test_a_host_in_trouble_is_said_so(home, capsys, kind, content, server):
    server.status |= {"/autoencoders/": 503, "/resolve/": 503, "/files/": 503}
    require_words(fails(capsys, *kind.words), ["the host answers 503", "again"])
    assert not place(home, kind).exists()


def test_no_network_is_said_so_in_half_a_minute(home, capsys, kind, content, server, monkeypatch, go_to):
    monkeypatch.setattr(hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    go_to("http://127.0.0.1:9")
    monkeypatch.setattr(product_hosts, "TIMEOUT", 1)
    begin = time.monotonic()
    line = fails(capsys, *kind.words)
    assert time.monotonic() - begin < 5
    require_words(line, ["cannot get", "check the network", "again"])
    assert not place(home, kind).exists()


def test_hf_hub_offline_is_named(home, capsys, server, monkeypatch):
    publish_gpt2(server, monkeypatch, some_bytes(2))
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    require_words(fails(capsys, "model"), [GPT2, "HF_HUB_OFFLINE is set", "unset it"])


# ---------------------------------------------------------------- Azure


@pytest.mark.parametrize("status", [200, 401, 403, 404, 409])
def test_openais_container_need_not_tell_what_it_holds(home, capsys, server, status):
    server.list_status = status
    content = some_bytes(5)
    OpenAI().publish(server, content)
    run(capsys, *OpenAI.words)
    assert (saes(home) / OpenAI.weights).read_bytes() == content
    assert server.asked("GET", "comp=list") == []


@pytest.mark.parametrize("status", [401, 403, 409])
def test_an_object_of_azure_that_is_refused_is_said_so(home, capsys, server, status):
    server.status["/autoencoders/"] = status
    require_words(fails(capsys, *OpenAI.words), [OpenAI.address, f"may not be read ({status})"])


def test_an_object_of_azure_that_changes_meanwhile_is_not_mixed(home, server):
    OpenAI().publish(server, some_bytes(5))
    remote = product_hosts.look(OpenAI.address)["5.pt"]
    OpenAI().publish(server, some_bytes(6))
    with pytest.raises(UserError, match="was changed at its host meanwhile"):
        list(remote.read(0))


# ---------------------------------------------------------------- wandb


@pytest.mark.parametrize("folder", ["SOMEDIR/", "files/of/the run/"])
@pytest.mark.parametrize("moved", [("final_config.yaml",), ("samples_8.pt",), ("final_config.yaml", "samples_8.pt")])
def test_a_runs_files_may_lie_in_a_folder(home, capsys, server, account, folder, moved):
    files = {"final_config.yaml": b"saes: {}", "samples_8.pt": b"weights" * 9}
    for run_id in ("tvj2owza", "2lzle2f0"):
        lie = {(folder if name in moved else "") + name: content for name, content in files.items()}
        server.runs[f"sparsify/gpt2/{run_id}"] = lie
    run(capsys, *Apollo.words)
    for release in ("apollo-e2e", "apollo-e2e+ds"):
        there = {path.name: path.read_bytes() for path in (saes(home) / release / "layer05").iterdir()}
        assert there == files
    noted = manifest(home)["files"]["apollo-e2e/layer05/samples_8.pt"]["address"]
    assert noted == f"wandb://sparsify/gpt2/tvj2owza/{folder if 'samples_8.pt' in moved else ''}samples_8.pt"
    server.requests.clear()
    run(capsys, *Apollo.words)
    assert server.requests == []


def test_a_runs_settings_are_those_beside_its_last_weights(home, capsys, server, account):
    files = {f"{name}/final_config.yaml": name.encode() for name in "abc"}
    files |= {"final_config.yaml": b"", "a/samples_9.pt": b"early", "b/samples_10.pt": b"last", "c/samples_8.pt": b""}
    for run_id in ("tvj2owza", "2lzle2f0"):
        server.runs[f"sparsify/gpt2/{run_id}"] = files
    run(capsys, *Apollo.words)
    there = {path.name: path.read_bytes() for path in (saes(home) / "apollo-e2e" / "layer05").iterdir()}
    assert there == {"final_config.yaml": b"b", "samples_10.pt": b"last"}


def test_wandb_without_an_account_is_said_before_the_first_byte(home, capsys, server):
    OpenAI().publish(server, some_bytes(1))
    line = fails(capsys, "openai", "apollo", "--layers", "5")
    require_words(line, ["wandb.ai", "account", "wandb login", "./setup.sh apollo --mirror"])
    assert server.bytes_sent() == 0
    assert not (saes(home) / "openai").exists()


def test_a_key_that_wandb_refuses_is_said_so(home, capsys, server, account):
    server.status["/graphql"] = 401
    require_words(fails(capsys, *Apollo.words), ["wandb://sparsify/gpt2/tvj2owza", "may not be read", "log in"])


# ---------------------------------------------------------------- mirrors of Apollo's SAEs


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
