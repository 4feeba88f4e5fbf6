"""Methods named sae:FOLDER: SAEs as SAELens writes them, against SAELens itself used directly.

Every SAE here is written by the library (save_model) with random weights.  What must come
out is what the library computes on the residual that the file says it was trained on.
"""

import contextlib
import json
import os
import shlex
import shutil
import time
import warnings
from pathlib import Path

import huggingface_hub
import pytest
import torch
from helpers_cli import error_line, fails, finish, require_words
from helpers_forks import fork
from helpers_hosts import Hosts
from huggingface_hub import constants as hub_constants

import eval_sae
import imports
import main
from common.errors import UserError
from common.paths import HOME
from featurizers.sae import Sae
from saes import source
from saes.loading import load_sae
from saes.releases import locate, release_named
from toy import world as toy

sae_lens = pytest.importorskip("sae_lens")
ActivationScaler = pytest.importorskip("sae_lens.training.activation_scaler").ActivationScaler

D, N = 12, 30
CLASSES = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5}),
    "topk, rescaled": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": 5, "rescale_acts_by_decoder_norm": True}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "abstopk": (sae_lens.AbsTopKSAE, sae_lens.AbsTopKSAEConfig, {"k": 5}),
}
NORMALISATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm")
CENTRED = {"center_writing_weights": True}


def build(architecture: str = "standard", d_in: int = D, d_sae: int = N, seed: int = 0, about=None, **settings):
    """A library object with random weights.  about: of the model it was trained on."""
    cls, config, extra = CLASSES[architecture]
    about = {"model_name": "toy", "hook_name": "blocks.3.hook_resid_pre", "model_from_pretrained_kwargs": {}} | (
        about or {}
    )
    metadata = sae_lens.saes.sae.SAEMetadata(**about)
    library = cls(config(d_in=d_in, d_sae=d_sae, metadata=metadata, **extra, **settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in library.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return library


@pytest.fixture
def write(tmp_path):
    """Function that writes an SAE and returns (method name, library object)."""

    def write(architecture: str = "standard", name: str = "own", **options):
        with quiet():
            library = build(architecture, **options)
        library.save_model(tmp_path / name)
        return f"sae:{tmp_path / name}", library

    return write


@contextlib.contextmanager
def quiet():
    """The library warns of an SAE whose model was centred."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def load(name: str, **options):
    return load_sae(name, name.removeprefix("sae:"), **options)


def vectors(n: int = 9, d: int = D) -> torch.Tensor:
    """Residuals with a mean of their own, as GPT-2's have."""
    return 3 * torch.randn(n, d, generator=torch.Generator().manual_seed(7)) + 2


# ---------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("centred", [False, True], ids=["raw", "centred"])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("architecture", CLASSES)
def test_latents_and_reconstruction_are_the_library_s(write, architecture, normalisation, centred):
    kwargs = CENTRED if centred else {"center_writing_weights": False}
    name, library = write(
        architecture, normalize_activations=normalisation, about={"model_from_pretrained_kwargs": kwargs}
    )
    x = vectors()
    mean = x.mean(-1, keepdim=True) if centred else torch.zeros(len(x), 1)
    with torch.no_grad():
        expected = library.encode(x - mean)
        x_hat = library.decode(expected) + mean
    sae = load(name)
    latents, context = sae.encode(x)
    assert (expected != 0).any() and (expected == 0).any()
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(latents, context), x_hat, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.finish(latents @ sae.W_dec, context), x_hat, rtol=1e-5, atol=1e-5)
    assert (sae.n_latents, sae.d_model, sae.layer) == (N, D, 2)
    norms = library.W_dec.norm(dim=1)
    assert sae.decoder_norms == pytest.approx(
        {"min": norms.min().item(), "median": norms.median().item(), "max": norms.max().item()}, abs=1e-5
    )


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("architecture", CLASSES)
def test_a_patch_decodes_with_the_base_s_own_statistics(write, architecture, normalisation):
    """And freezing, which keeps only latents that fire, is exact: also for signed latents."""
    name, library = write(
        architecture, normalize_activations=normalisation, about={"model_from_pretrained_kwargs": CENTRED}
    )
    x, mask = vectors(80), torch.rand(N, generator=torch.Generator().manual_seed(1))
    base, source = torch.arange(40), torch.arange(40, 80)
    expected = []
    with torch.no_grad():
        for b, s in zip(x[base], x[source], strict=True):
            z_source = library.encode(s - s.mean())
            if normalisation in ("constant_norm_rescale", "layer_norm"):
                library.run_time_activation_norm_fn_out(s)  # which forgets the source
            z_base = library.encode(b - b.mean())
            expected.append(library.decode((1 - mask) * z_base + mask * z_source) + b.mean())
    featurizer = Sae(load(name))
    plain = featurizer.patch(x[base], x[source], mask)
    torch.testing.assert_close(plain, torch.stack(expected), rtol=1e-4, atol=1e-5)
    frozen = featurizer.freeze(x)
    fast = frozen.patch(base, source, mask[frozen.alive])
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)


def test_apply_b_dec_to_input_is_heeded(write):
    latents = []
    for apply in (False, True):
        name, library = write(name=str(apply), apply_b_dec_to_input=apply)
        latents.append(load(name).encode(vectors())[0])
        torch.testing.assert_close(latents[-1], library.encode(vectors()).detach())
    assert not torch.allclose(*latents)


def test_raw_residual_undoes_the_centring(write):
    name, library = write(about={"model_from_pretrained_kwargs": CENTRED})
    x = vectors()
    torch.testing.assert_close(load(name, raw_residual=True).encode(x)[0], library.encode(x).detach())
    assert not torch.allclose(load(name).encode(x)[0], library.encode(x))


@pytest.mark.parametrize("flat", [False, True], ids=["metadata apart", "all beside each other"])
def test_half_precision_and_files_of_older_versions(write, flat):
    name, library = write(about={"model_from_pretrained_kwargs": CENTRED}, dtype="float16")
    config_file = Path(name.removeprefix("sae:")) / "cfg.json"
    if flat:  # as before version 6, with its names
        config = json.loads(config_file.read_text())
        config |= config.pop("metadata")
        config["hook_point"] = config.pop("hook_name")
        config |= {"sae_lens_version": "3.0.0", "activation_fn_str": "relu"}
        config_file.write_text(json.dumps(config))
    x = vectors()
    sae = load(name)
    library.to(dtype=torch.float32)
    expected = library.encode(x - x.mean(-1, keepdim=True))
    torch.testing.assert_close(sae.encode(x)[0], expected.detach(), rtol=1e-5, atol=1e-5)
    assert sae.W_dec.dtype == torch.float32


# ---------------------------------------------------------------- which layer


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.1.hook_resid_pre", 0),
        ("blocks.0.hook_resid_post", 0),
        ("blocks.5.hook_resid_post", 5),
        ("blocks.1.hook_in", 0),
        ("blocks.2.hook_out", 2),
        ("model.layers.3", 3),  # Hugging Face's names: of the layer, or of what goes in and out
        ("model.layers.3.output", 3),
        ("model.layers.3.input", 2),
        ("layers.3", 3),
        ("transformer.h.0", 0),
        ("gpt_neox.layers.1", 1),
        ("model.language_model.layers.5", 5),
    ],
)
def test_the_hook_point_decides_the_layer(write, hook, layer):
    name, _ = write(about={"hook_name": hook})
    assert load(name).layer == layer
    assert release_named(name).layers == (layer,)
    assert locate(name, "elsewhere", layer, 6) == Path(name.removeprefix("sae:"))
    assert not locate(name, "elsewhere", layer + 1, 6).exists()
    with pytest.raises(UserError, match=f"of layer {layer}, not of layer 4"):
        load(name, layer=4)


# ---------------------------------------------------------------- through the command line

SMALL = ("--model", "toy", "--device", "cpu", "--targets", "country", "--epochs", "1", "--max-pairs", "40")


@pytest.fixture
def oracle(toy_world, tmp_path):
    """The oracle SAE as SAELens writes it."""
    planted = toy.oracle_sae(toy.Recipe())
    with quiet():
        library = build(d_in=64, d_sae=128, about={"model_from_pretrained_kwargs": CENTRED})
    with torch.no_grad():
        for key in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(library, key).copy_(getattr(planted, key))
    library.save_model(tmp_path / "oracle")
    return f"sae:{tmp_path / 'oracle'}"


def require_narrow(text: str) -> None:
    """80 columns, but for the path at the end, which is as long as it is."""
    assert max(len(line) for line in text.splitlines() if not line.startswith("results: ")) <= 80


def test_the_oracle_disentangles_by_the_command_line(oracle, tmp_path, capsys):
    """By the toy's own settings: all layers are asked for, it runs at its own."""
    output = tmp_path / "out"
    flags = ["--model", "toy", "--device", "cpu", "--targets", "country", "--output", str(output)]
    assert main.main([*flags, "--methods", oracle + "/", oracle]) == 0
    text = capsys.readouterr().out
    require_narrow(text)
    (file,) = output.glob("toy/country/*/*.json")
    assert file.parent.name == oracle.replace("/", "--")
    result = json.loads(file.read_text())
    assert (result["method"], result["layer"]) == (oracle, 2)
    assert result["test"]["hard"]["disentangle"] >= 0.97
    assert result["sae"]["config"]["d_sae"] == result["n_features"]
    assert result["versions"]["sae-lens"]
    assert result["sae"]["file"] == str(Path(oracle.removeprefix("sae:")) / "sae_weights.safetensors")
    assert result["sae"]["decoder_norms"] == pytest.approx({"min": 1, "median": 1, "max": 1}, abs=1e-5)
    assert result["sae"]["digest"] == result["config"]["sae_digest"]

    config_file = Path(oracle.removeprefix("sae:")) / "cfg.json"
    config = json.loads(config_file.read_text())
    config["metadata"]["model_from_pretrained_kwargs"] = {}
    config_file.write_text(json.dumps(config))
    assert main.main([*flags, "--methods", oracle]) == 2  # the same weights, read in another way
    assert "made with another configuration (sae_digest" in capsys.readouterr().err


def test_two_of_them_beside_a_published_one(write, toy_world, tmp_path, capsys):
    """Rows of 80 columns; two whose names end alike can be told apart; eval_sae.py knows them too."""
    names = [write("gated", name=f"{part}/blocks.3.hook_resid_pre", d_in=64, seed=i)[0] for i, part in enumerate("ab")]
    output = str(tmp_path / "out")
    assert main.main([*SMALL, "--methods", "bloom", *names, "--layers", "2", "--output", output]) == 0
    text = capsys.readouterr().out
    require_narrow(text)
    assert text.count("d_pre #1") == text.count("d_pre #2") == 2  # in the table and in the summary
    for command in (main.main, eval_sae.main):
        flags = ["--model", "toy", "--methods", *names, "--layers", "2", "--output", output]
        assert command([*flags, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert max(len(line) for line in lines if output not in line) <= 80  # a path is never broken
    assert eval_sae.main(["--model", "toy", "--methods", *names, "--output", output]) == 0
    rows = json.loads((tmp_path / "out" / "toy" / "sae-quality.json").read_text())["rows"]
    assert {(row["method"], row["layer"]) for row in rows} == {(name, 2) for name in names}


def test_beside_all_others(write, toy_world, tmp_path, capsys):
    name, _ = write(d_in=64)
    assert main.main(["--model", "toy", "--methods", "all", name, "--dry-run", "--output", str(tmp_path / "out")]) == 0
    assert "98 runs" in capsys.readouterr().out  # 96, and one for each target


def test_a_very_long_name_has_a_folder_of_its_own(write, toy_world, tmp_path):
    name, _ = write(d_in=64, name="/".join(["x" * 100] * 3))
    assert main.main([*SMALL, "--methods", name, "--output", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").glob("toy/country/*/*.json")
    assert json.loads(file.read_text())["method"] == name


# ---------------------------------------------------------------- refusals

REFUSED = [
    # what the file says of the model, what else it says, what the error names
    ({"hook_name": "blocks.3.hook_mlp_out"}, {}, ["blocks.3.hook_mlp_out", "residual stream"]),
    ({"hook_name": "blocks.3.attn.hook_z"}, {}, ["hook_z", "residual stream"]),
    ({"hook_name": "blocks.0.hook_resid_pre"}, {}, ["embeddings"]),
    ({"hook_name": "blocks.9.hook_resid_post"}, {}, ["layer 9", "0 to 5"]),
    ({"hook_name": None}, {}, ["it reads None"]),
    ({"hook_name_out": "blocks.3.hook_mlp_out"}, {}, ["transcoder"]),
    ({"hook_head_index": 3}, {}, ["head"]),
    ({"model_name": "pythia-160m"}, {}, ["pythia-160m", "toy", "model_name"]),
    ({"model_from_pretrained_kwargs": {"checkpoint_index": 3}}, {}, ["checkpoint_index=3"]),
    ({"model_from_pretrained_kwargs": [1]}, {}, ["model_from_pretrained_kwargs"]),
    ({}, {"architecture": "transcoder"}, ["transcoder", "standard"]),
    ({}, {"architecture": "matching_pursuit"}, ["matching_pursuit", "standard"]),
    ({}, {"architecture": "temporal"}, ["temporal", "standard"]),
    ({}, {"reshape_activations": "hook_z"}, ["reshape_activations", "hook_z"]),
    ({}, {"normalize_activations": "covariance_whitening"}, ["covariance_whitening", "fold"]),
    ({}, {"activation_fn": "tanh-relu"}, ["tanh-relu"]),
    ({}, {"d_sae": 31}, ["SAELens cannot make an SAE", "sae_weights.safetensors"]),
    ({}, {"d_in": "wide"}, ["SAELens cannot make an SAE"]),
]


@pytest.mark.parametrize(
    ("about", "changes", "words"), REFUSED, ids=[str(about | changes) for about, changes, _ in REFUSED]
)
def test_what_cannot_be_used_is_refused_in_one_line(capsys, toy_world, tmp_path, write, about, changes, words):
    name, _ = write(d_in=64)
    config_file = Path(name.removeprefix("sae:")) / "cfg.json"
    config = json.loads(config_file.read_text()) | changes
    config["metadata"] |= about
    config_file.write_text(json.dumps(config))
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", name)
    require_words(line, [name.removeprefix("sae:"), *words])


@pytest.mark.parametrize("digits", [5, 4301, 5000])
@pytest.mark.parametrize("hook", ["blocks.{}.hook_resid_pre", "blocks.{}.hook_out", "model.layers.{}", "h.{}.input"])
def test_a_hook_point_of_many_digits_is_a_damaged_file(capsys, toy_world, tmp_path, write, hook, digits):
    name, _ = write(d_in=64, about={"hook_name": hook.format("9" * digits)})
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", name)
    require_words(line, [name.removeprefix("sae:"), "cfg.json", "damaged", f"{digits} digits"])


@pytest.mark.parametrize("names", [("W_dec",), ("W_enc", "W_dec")], ids=" ".join)
@pytest.mark.parametrize("architecture", CLASSES)
def test_weights_whose_results_overflow_are_refused(write, architecture, names):
    name, library = write(architecture)
    for key in names:
        getattr(library, key).data.fill_(1e30)
    library.save_model(name.removeprefix("sae:"))
    with pytest.raises(UserError, match="overflow"):
        load(name)


def test_what_is_not_there_is_refused(capsys, toy_world, tmp_path, write):
    output = tmp_path / "out"
    name, _ = write(d_in=64)
    folder = Path(name.removeprefix("sae:"))
    require_words(fails(capsys, output, *SMALL, "--methods", "sae:"), ["names no SAE"])
    require_words(fails(capsys, output, *SMALL, "--methods", "sae:./nowhere"), ["nowhere", "not a folder"])
    require_words(fails(capsys, output, *SMALL, "--methods", "sae:nowhere"), ["nowhere", "hub id"])
    require_words(fails(capsys, output, *SMALL, "--methods", name, "--layers", "4"), [name, "layer 4", "2"])
    require_words(fails(capsys, output, *SMALL, "--methods", "all", name, "--layers", "4"), [name, "layer 4", "2"])
    require_words(fails(capsys, output, *SMALL, "--methods", f"{name}/cfg.json"), ["cfg.json", "not a folder"])
    whole = (folder / "sae_weights.safetensors").read_bytes()
    (folder / "sae_weights.safetensors").write_bytes(whole[:-20])
    require_words(fails(capsys, output, *SMALL, "--methods", name), [folder / "sae_weights.safetensors", "truncated"])
    (folder / "sae_weights.safetensors").unlink()
    require_words(fails(capsys, output, *SMALL, "--methods", name), [folder / "sae_weights.safetensors", "missing"])
    (folder / "cfg.json").unlink()
    require_words(fails(capsys, output, *SMALL, "--methods", name), [folder, "no cfg.json"])


def test_another_width_and_values_that_are_not_finite(capsys, toy_world, tmp_path, write):
    name, _ = write(d_in=48)
    require_words(fails(capsys, tmp_path / "out", *SMALL, "--methods", name), [name.removeprefix("sae:"), "48", "64"])
    with quiet():
        library = build(d_in=64)
    library.W_enc.data[3, 4] = float("nan")
    library.save_model(tmp_path / "nan")
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", f"sae:{tmp_path / 'nan'}")
    require_words(line, ["W_enc", "NaN"])


def test_the_library_is_not_installed(toy_world, tmp_path, write):
    """One line, before the model is read; other methods do without it."""
    name, _ = write(d_in=64)
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'sae_lens' else find(name, *rest)\n"
        "sys.modules['sae_lens'] = None\n"
        "import main\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )

    def run(*methods):
        flags = [*SMALL, "--layers", "2", "--output", str(tmp_path / "out"), "--methods", *methods]
        return finish(fork(*flags, code=code))

    status, out, err = run(name)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    require_words(error_line(err), ["sae-lens", "not installed", "pip install sae-lens=="])
    assert run("bloom")[0] == 0


def test_the_version_named_is_the_one_tried():
    wanted = f"{imports.LIBRARIES['sae_lens']}=={imports.OPTIONAL['sae_lens']}"
    assert wanted in (HOME / "requirements-test.txt").read_text().splitlines()


# ---------------------------------------------------------------- the hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub: repositories are folders; what was asked for is listed."""
    asked = []

    def download(repository, file):
        asked.append((repository, file))
        path = tmp_path / "hub" / repository / file
        if not path.exists():
            raise FileNotFoundError(f"404 Client Error. {repository}/{file}")
        return str(path)

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda _: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    source.download.cache_clear()
    yield tmp_path / "hub", asked
    source.download.cache_clear()


def test_a_hub_id_names_a_folder_in_a_repository(hub, write, toy_world, tmp_path, capsys):
    root, asked = hub
    name, _ = write(d_in=64)
    shutil.copytree(name.removeprefix("sae:"), root / "someone" / "saes" / "toy" / "layer2")
    name = "sae:someone/saes/toy/layer2"
    flags = [*SMALL, "--methods", name, "--output", str(tmp_path / "out")]
    assert main.main([*flags, "--dry-run"]) == 0
    assert asked == [("someone/saes", "toy/layer2/cfg.json")]  # the weights are not wanted yet
    assert main.main(flags) == 0
    assert set(asked) == {("someone/saes", f"toy/layer2/{file}") for file in ("cfg.json", "sae_weights.safetensors")}
    assert (tmp_path / "out" / "toy" / "country" / "sae:someone--saes--toy--layer2").is_dir()
    require_words(fails(capsys, tmp_path / "no", *SMALL, "--methods", "sae:a/b/c"), ["a/b", "c/cfg.json", "hub"])


@pytest.mark.parametrize(
    "name",
    [
        "sae:gpt2-small-res-jb/blocks.8.hook_resid_pre",
        "sae:jbloom/GPT2-Small-SAEs-Reformatted/blocks.8.hook_resid_pre",
    ],
)
def test_what_saelens_s_list_knows_is_heeded(hub, name):
    """Bloom's files do not say that their model was centred; the list does, by either name."""
    root, _ = hub
    folder = root / "jbloom" / "GPT2-Small-SAEs-Reformatted" / "blocks.8.hook_resid_pre"
    with quiet():
        library = build(about={"hook_name": "blocks.8.hook_resid_pre", "model_name": "gpt2-small"})
    library.save_model(folder)
    config = json.loads((folder / "cfg.json").read_text())
    config |= config.pop("metadata")
    config["hook_point"] = config.pop("hook_name")
    del config["model_from_pretrained_kwargs"], config["sae_lens_version"]
    (folder / "cfg.json").write_text(json.dumps(config))
    assert load_sae(name, folder).centred
    assert not load_sae(f"sae:{folder}", folder).centred  # as SAELens reads it from a folder, but not silently:
    assert "does not say whether its model was centred" in source.find(f"sae:{folder}").remarks()[0]
    assert source.find(name).remarks() == []


def test_names_that_the_list_does_not_have(hub):
    with pytest.raises(UserError, match=r"no blocks\.99 in gpt2-small-res-jb; it has"):
        source.find("sae:gpt2-small-res-jb/blocks.99")
    with pytest.raises(UserError, match="own format"):
        source.find("sae:gpt2-small-hook-z-kk/blocks.0.hook_z")


def test_a_factor_from_the_list_is_folded_in(hub, monkeypatch):
    """expected_average_only_in: the library scales by it where its list has it, and else not at all."""
    root, _ = hub
    with quiet():
        library = build(normalize_activations="expected_average_only_in")
    library.save_model(root / "a" / "b" / "c")
    x = vectors()
    plain = load_sae("sae:a/b/c", root / "a" / "b" / "c")
    torch.testing.assert_close(plain.encode(x)[0], library.encode(x).detach())
    assert any("not scaled" in line for line in source.find("sae:a/b/c").remarks())
    monkeypatch.setattr(source, "_listed", lambda _: ("a/b", "c", {}, 0.25))
    file = root / "a" / "b" / "c" / "sae_weights.safetensors"
    before = file.read_bytes()
    folded = load_sae("sae:a/b/c", root / "a" / "b" / "c")
    assert file.read_bytes() == before  # what is read may be mapped from the file
    library.fold_activation_norm_scaling_factor(0.25)
    latents, context = folded.encode(x)
    torch.testing.assert_close(latents, library.encode(x).detach())
    torch.testing.assert_close(folded.decode(latents, context), library(x).detach())


# ---------------------------------------------------------------- a hub that does not answer


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The hub on this machine, with a cache of its own, which is not waited for."""
    hosts = Hosts()
    lead_to(hosts.url, monkeypatch)
    monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s"))
    source.download.cache_clear()
    yield hosts
    source.download.cache_clear()
    hosts.close()


def lead_to(url: str, monkeypatch) -> None:
    monkeypatch.setattr(hub_constants, "ENDPOINT", url)
    monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 503, 504])
def test_the_hub_is_asked_once(server, capsys, tmp_path, status):
    server.status["someone"] = status
    line = fails(capsys, tmp_path / "out", *SMALL, "--methods", "sae:someone/repository/folder")
    require_words(line, ["folder/cfg.json of someone/repository", "hub", "local folder"])
    assert len([path for _, path, _ in server.requests if "/resolve/" in path]) == 1


def test_no_network_is_said_at_once(server, monkeypatch, capsys, tmp_path):
    lead_to("http://127.0.0.1:9", monkeypatch)
    require_words(fails(capsys, tmp_path / "out", *SMALL, "--methods", "sae:someone/repository"), ["cfg.json", "hub"])


def test_what_the_hub_has_is_read_and_kept(server, write, tmp_path):
    """And is read from the cache where the hub does not answer any more."""
    folder = Path(write()[0].removeprefix("sae:"))
    files = {f"a/b/{name}": (folder / name).read_bytes() for name in (source.CONFIG, source.WEIGHTS)}
    server.repositories["someone/repository"] = {"main": files}
    name = "sae:someone/repository/a/b"
    sae = load_sae(name, source.find(name).folder)
    assert Path(sae.path).read_bytes() == files["a/b/sae_weights.safetensors"]
    source.download.cache_clear()
    server.status["someone"] = 503
    assert load_sae(name, source.find(name).folder).path == sae.path


@pytest.mark.parametrize("name", ["runs/nix", "runs/a/nix", "./runs/nix", "../nix/nix", "~/nix/nix", "/nix/nix", "nix"])
def test_a_name_that_looks_like_a_path_is_not_asked_for(server, monkeypatch, tmp_path, name):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"^sae:{name}: .*nix is not a folder"):
        source.find(f"sae:{name}")
    assert server.requests == []


# ---------------------------------------------------------------- checkpoints of a training


def checkpoint(folder: Path, architecture: str, factor: float | None):
    """As the trainer writes one on its way: (the training SAE, the scaler of its inputs)."""
    cls = getattr(sae_lens, f"{architecture}TrainingSAE")
    config = getattr(sae_lens, f"{architecture}TrainingSAEConfig")
    about = {"model_name": "toy", "hook_name": "blocks.3.hook_resid_pre", "model_from_pretrained_kwargs": CENTRED}
    with quiet():
        about = sae_lens.saes.sae.SAEMetadata(**about)
        k = {"k": 5} if architecture == "TopK" else {}
        sae = cls(config(d_in=D, d_sae=N, metadata=about, normalize_activations="expected_average_only_in", **k))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.3 * torch.rand(parameter.shape, generator=generator))
    sae.save_model(folder)
    scaler = ActivationScaler(factor)
    scaler.save(str(folder / "activation_scaler.json"))
    return sae, scaler


@pytest.mark.parametrize("architecture", ["Standard", "JumpReLU", "Gated", "TopK"])
def test_a_checkpoint_is_scaled_by_the_file_beside_it(tmp_path, architecture):
    """As the trainer itself does: scale, encode; decode, scale back."""
    _, scaler = checkpoint(tmp_path, architecture, 0.25)
    with quiet():
        library = sae_lens.SAE.load_from_disk(tmp_path)
    x = vectors()
    mean = x.mean(-1, keepdim=True)
    with torch.no_grad():
        expected = library.encode(scaler.scale(x - mean))
        x_hat = scaler.unscale(library.decode(expected)) + mean
    name = f"sae:{tmp_path}"
    sae = load(name)
    latents, context = sae.encode(x)
    torch.testing.assert_close(sae.decode(latents, context), x_hat, rtol=1e-4, atol=1e-5)
    if architecture == "TopK":  # its latents are measured by the decoder's norms, which the scale changes
        latents, expected = latents != 0, expected != 0
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)
    assert source.find(name).remarks() == []


def test_a_checkpoint_whose_factor_is_not_there_gets_a_note_that_names_the_file(tmp_path):
    checkpoint(tmp_path, "Standard", None)
    (remark,) = source.find(f"sae:{tmp_path}").remarks()
    require_words(remark, ["not scaled", "activation_scaler.json"])
    (tmp_path / "activation_scaler.json").unlink()
    assert source.find(f"sae:{tmp_path}").remarks() == [remark]


@pytest.mark.parametrize("factor", ['"2"', "0", "-1", "NaN", "Infinity", "true", "[1]", "{}", "1" * 5000, ""])
def test_a_damaged_factor_is_refused(tmp_path, factor):
    checkpoint(tmp_path, "Standard", 0.5)
    (tmp_path / "activation_scaler.json").write_text(f'{{"scaling_factor": {factor}}}')
    with pytest.raises(UserError, match=r"activation_scaler\.json") as caught:
        source.find(f"sae:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_note_s_command_runs(write, toy_world, capsys):
    """With blanks in the folder's name, too."""
    name, _ = write(name="my own", d_in=64, about={"model_from_pretrained_kwargs": None})
    (remark,) = source.find(name).remarks("toy")
    script, *words = shlex.split(remark.partition("to compare: ")[2])
    assert os.access(HOME / script, os.X_OK)
    assert eval_sae.main([*words, "--device", "cpu"]) == 0
    assert "\n 2 " in capsys.readouterr().out


def test_nothing_of_an_own_sae_is_trained(write):
    """The library's decoder is a torch parameter, and stays none of ours."""
    name, _ = write(d_in=64)
    assert not Sae(load_sae(name, name.removeprefix("sae:"))).is_trained
