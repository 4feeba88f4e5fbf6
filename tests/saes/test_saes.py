"""The three published SAE formats, on files written by hand.

Nothing here is written by the project's own save_sae (but for the round trip): the
files have the publishers' keys and shapes, and what must come out was worked out on
paper, step by step in the comments.
"""

import json
import pickle
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from common.errors import UserError
from saes.autoencoder import SparseAutoencoder
from saes.loading import FAMILIES, is_mirror, load_sae, save_sae
from saes.names import hook_point, layer_of_hook_point
from saes.releases import RELEASES, locate


def tensor(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def assert_near(found: torch.Tensor, *expected, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- files as they are published

HOOK = "blocks-6-hook_resid_pre"  # the input of block 6: the residual after block 5


def openai_content(**changes) -> dict:
    """d_model 4, 3 latents, TopK with k = 2."""
    content = {
        "pre_bias": tensor(0.5, 0.0, -0.5, 0.5),
        # [n_latents, d_model]: a row per latent
        "encoder.weight": tensor([2, 2, 1, 0], [0, 2, 0, 1], [1, 0, 1, 2]),
        "latent_bias": tensor(0.5, 0.25, 0.0),
        # [d_model, n_latents]: a column per latent; (1, 0, -1, 2), (0, 1, 0, 0) and (0, 0, 1, 0)
        "decoder.weight": tensor([1, 0, 0], [0, 1, 0], [-1, 0, 1], [2, 0, 0]),
        "stats_last_nonzero": torch.zeros(3, dtype=torch.int64),
        "latents_activation_frequency": torch.zeros(3),
        "latents_mean_square": torch.zeros(3),
        "activation": "TopK",
        "activation_state_dict": {"k": 2, "postact_fn": "ReLU"},
    }
    content.update(changes)
    return {key: value for key, value in content.items() if value is not None}


def openai_file(folder: Path, name: str = "5.pt", **changes) -> Path:
    torch.save(openai_content(**changes), folder / name)
    return folder / name


def apollo_content(hook: str = HOOK, **changes) -> dict:
    """d_model 3, 2 latents; the decoder's columns are (3, 0, 4), of length 5, and (0, 2, 0), of length 2."""
    content = {
        "encoder.0.weight": tensor([1, 0, 1], [0, 1, 0]),  # [n_latents, d_model]
        "encoder.0.bias": tensor(0.5, 1.0),
        "decoder.weight": tensor([3, 0], [0, 2], [4, 0]),  # [d_model, n_latents]
        "decoder.bias": tensor(1.0, -1.0, 0.5),
    }
    content.update(changes)
    return {f"{hook}.{key}": value for key, value in content.items() if value is not None}


def apollo_folder(folder: Path, name: str = "samples_400000.pt", **changes) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(apollo_content(**changes), folder / name)
    config = {"saes": {"sae_positions": ["blocks.6.hook_resid_pre"], "dict_size_to_input_ratio": 60.0}, "seed": 0}
    (folder / "final_config.yaml").write_text(yaml.safe_dump(config))
    return folder


def bloom_content(**changes) -> dict:
    """d_model 3, 2 latents."""
    content = {
        "W_enc": tensor([1, 0], [0, -1], [1, 0]),  # [d_model, n_latents]
        "b_enc": tensor(0.5, 1.0),
        "W_dec": tensor([1, 2, 0], [0, 1, -1]),  # [n_latents, d_model]
        "b_dec": tensor(1.0, -1.0, 0.5),
    }
    content.update(changes)
    return {key: value for key, value in content.items() if value is not None}


def bloom_folder(folder: Path, hook: str = "blocks.8.hook_resid_pre", **changes) -> Path:
    folder = folder / hook
    folder.mkdir(exist_ok=True)
    save_file(bloom_content(**changes), folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.full((2,), -3.0)}, folder / "sparsity.safetensors")
    config = {"model_name": "gpt2-small", "hook_point": hook, "hook_point_layer": 8, "d_in": 3, "d_sae": 2}
    (folder / "cfg.json").write_text(json.dumps({**config, "context_size": 128}))
    return folder


NAMES = ("W_enc", "b_enc", "W_dec", "b_dec")
KEYS = {  # what each family calls them
    "openai": ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias"),
    "apollo": ("encoder.0.weight", "encoder.0.bias", "decoder.weight", "decoder.bias"),
    "bloom": NAMES,
}


def stored(family: str, name: str) -> torch.Tensor:
    """One weight of the files above, as it stands there."""
    key = KEYS[family][NAMES.index(name)]
    if family == "openai":
        return openai_content()[key]
    return apollo_content()[f"{HOOK}.{key}"] if family == "apollo" else bloom_content()[key]


def published(family: str, folder: Path, **changes) -> tuple[Path, Path]:
    """One SAE of a family: what to load, and the file that holds its numbers.

    changes: of what is stored, by the names in NAMES.
    """
    changes = {KEYS[family][NAMES.index(name)]: value for name, value in changes.items()}
    if family == "openai":
        path = openai_file(folder, **changes)
        return path, path
    if family == "apollo":
        path = apollo_folder(folder / "run", **changes)
        return path, path / "samples_400000.pt"
    path = bloom_folder(folder, **changes)
    return path, path / "sae_weights.safetensors"


# ---------------------------------------------------------------- OpenAI

# mu = (11 + 11 + 11 + 7) / 4 = 10; x - mu = (1, 1, 1, -3), squares sum to 12.
# std, unbiased, = sqrt(12 / 3) = 2 (the biased one would be sqrt 3).
X = tensor(11, 11, 11, 7)


def test_openai_normalises_subtracts_pre_bias_and_drops_a_negative_one_of_the_k_largest(tmp_path):
    # x' = (1, 1, 1, -3) / 2 = (.5, .5, .5, -1.5);  x' - pre_bias = (0, .5, 1, -2)
    # latent 0:  0 + 1 + 1 + .5     =  2.5     (without subtracting: 1 + 1 + .5 + .5 = 3)
    # latent 1:  1 - 2 + .25        = -0.75    among the two largest, but negative: 0 after ReLU
    # latent 2:  0 + 1 - 4          = -3       the largest by magnitude
    sae = load_sae("openai", openai_file(tmp_path))
    latents, _ = sae.encode(X)
    assert_near(latents, 2.5, 0.0, 0.0)
    assert latents[1] == 0 and latents[2] == 0  # exactly


def test_openai_keeps_the_k_largest_and_not_the_largest_by_magnitude(tmp_path):
    # With latent_bias (.5, 2, 0): pre-activations 2.5, 1, -3.  k = 2 keeps 2.5 and 1; by magnitude it would
    # keep -3 and 2.5.  k = 1 keeps 2.5 alone, k = 3 all (and ReLU drops the last).
    for k, expected in ((1, (2.5, 0.0, 0.0)), (2, (2.5, 1.0, 0.0)), (3, (2.5, 1.0, 0.0))):
        state = {"k": k, "postact_fn": "ReLU"}
        sae = load_sae("openai", openai_file(tmp_path, latent_bias=tensor(0.5, 2.0, 0.0), activation_state_dict=state))
        assert_near(sae.encode(X)[0], *expected)


def test_openai_decodes_with_the_base_s_own_statistics(tmp_path):
    # z W + pre_bias = 2.5 (1, 0, -1, 2) + (.5, 0, -.5, .5) = (3, 0, -3, 5.5)
    sae = load_sae("openai", openai_file(tmp_path))
    latents, context = sae.encode(X)
    # Back with the vector's own std 2 and mean 10: (16, 10, 4, 21).
    assert_near(sae.decode(latents, context), 16.0, 10.0, 4.0, 21.0)
    # The base (-1, -1, -1, 7) has mean 1, deviations (-2, -2, -2, 6), squares 48, std sqrt(48 / 3) = 4:
    # x's latents in the base's place are (3, 0, -3, 5.5) * 4 + 1 = (13, 1, -11, 23).
    _, base = sae.encode(tensor(-1, -1, -1, 7))
    assert_near(sae.decode(latents, base), 13.0, 1.0, -11.0, 23.0)


def test_openai_adds_eps_to_std_on_the_way_in_and_not_on_the_way_back(tmp_path):
    # x = 1e-5 (.5, .5, .5, -1.5): mu = 0, std = 1e-5 sqrt(3 / 3) = 1e-5, so eps doubles what x is divided by:
    # x' = (.25, .25, .25, -.75).  With eps inside the root it would be (.0016, ..), without eps (.5, ..).
    # pre_bias 0: latent 0 = .5 + .5 + .25 + .5 = 1.75; latent 1 = .5 - .75 + 1 = .75; latent 2 = .5 - 1.5 = -1
    sae = load_sae("openai", openai_file(tmp_path, pre_bias=tensor(0, 0, 0, 0), latent_bias=tensor(0.5, 1.0, 0.0)))
    latents, context = sae.encode(1e-5 * tensor(0.5, 0.5, 0.5, -1.5))
    assert_near(latents, 1.75, 0.75, 0.0)
    # z W = 1.75 (1, 0, -1, 2) + .75 (0, 1, 0, 0) = (1.75, .75, -1.75, 3.5), times std = 1e-5 and not 2e-5
    assert_near(1e5 * sae.decode(latents, context), 1.75, 0.75, -1.75, 3.5)


@pytest.mark.parametrize("activation", [None, "ReLU"], ids=["absent", "ReLU"])
def test_openai_older_files_are_plain_relu_on_the_raw_vector(tmp_path, activation):
    # x - pre_bias = (10.5, 11, 11.5, 6.5)
    # latent 0: 21 + 22 + 11.5 - 50.5 = 4;  latent 1: 22 + 6.5 - 30 = -1.5;  latent 2: 10.5 + 11.5 + 13 - 30 = 5
    path = openai_file(
        *(tmp_path, "3.pt"),
        latent_bias=tensor(-50.5, -30.0, -30.0),
        activation=activation,
        activation_state_dict=None,
    )
    sae = load_sae("openai", path)
    latents, context = sae.encode(X)
    assert_near(latents, 4.0, 0.0, 5.0)
    # 4 (1, 0, -1, 2) + 5 (0, 0, 1, 0) + pre_bias = (4, 0, 1, 8) + (.5, 0, -.5, .5); nothing is scaled back
    assert_near(sae.decode(latents, context), 4.5, 0.0, 0.5, 8.5)


def test_openai_s_layer_is_the_file_s_name(tmp_path):
    assert load_sae("openai", openai_file(tmp_path, "11.pt")).layer == 11
    assert load_sae("openai", openai_file(tmp_path, "0.pt")).layer == 0
    assert load_sae("openai", openai_file(tmp_path, "weights.pt")).layer is None
    assert load_sae("openai", tmp_path / "weights.pt", layer=3).layer == 3


def test_openai_of_another_layer_than_asked_for_is_refused(tmp_path):
    with pytest.raises(UserError, match="of layer 5, not of layer 3"):
        load_sae("openai", openai_file(tmp_path), layer=3)


def test_openai_is_the_same_with_the_raw_residual(tmp_path):
    """It was trained on what the original experiment gave it: its normalisation stays."""
    sae = load_sae("openai", openai_file(tmp_path), raw_residual=True)
    assert_near(sae.encode(X)[0], 2.5, 0.0, 0.0)


# ---------------------------------------------------------------- Apollo

# mean = (6 + 1 + 2) / 3 = 3; centred: (3, -2, -1)
Y = tensor(6, 1, 2)


def test_apollo_centres_and_normalises_the_decoder_s_columns(tmp_path):
    # latent 0: 3 - 1 + .5 = 2.5;  latent 1: -2 + 1 = -1 -> 0.  No bias is subtracted: with
    # x - decoder.bias = (2, -1, -1.5) the latents would be 1 and 0.
    sae = load_sae("apollo", apollo_folder(tmp_path / "run"))
    latents, context = sae.encode(Y)
    assert_near(latents, 2.5, 0.0)
    # 2.5 (3, 0, 4) / 5 + (1, -1, .5) + mean 3 = (1.5, 0, 2) + (4, 2, 3.5)
    assert_near(sae.decode(latents, context), 5.5, 2.0, 5.5)
    # Of the latents (5, 3): 5 (3, 0, 4) / 5 + 3 (0, 2, 0) / 2 = (3, 3, 4)
    assert_near(sae.decode(tensor(5, 3), context), 7.0, 5.0, 7.5)


def test_apollo_decodes_to_the_base_s_own_mean(tmp_path):
    sae = load_sae("apollo", apollo_folder(tmp_path / "run"))
    latents, _ = sae.encode(Y)
    _, base = sae.encode(tensor(-9, -10, -11))  # mean -10
    assert_near(sae.decode(latents, base), 1.5 + 1 - 10, 0 - 1 - 10, 2 + 0.5 - 10)


def test_apollo_with_the_raw_residual_is_the_original_experiment_s_choice(tmp_path):
    # No centring: latent 0 = 6 + 2 + .5 = 8.5; latent 1 = 1 + 1 = 2.  Columns as stored, no mean:
    # 8.5 (3, 0, 4) + 2 (0, 2, 0) + (1, -1, .5) = (25.5, 4, 34) + (1, -1, .5)
    sae = load_sae("apollo", apollo_folder(tmp_path / "run"), raw_residual=True)
    latents, context = sae.encode(Y)
    assert_near(latents, 8.5, 2.0)
    assert_near(sae.decode(latents, context), 26.5, 3.0, 34.5)


def test_apollo_takes_the_largest_samples_file_by_number(tmp_path):
    """As text, samples_90 comes after samples_400."""
    folder = apollo_folder(tmp_path / "run", "samples_90.pt", **{"encoder.0.bias": tensor(90.0, 90.0)})
    apollo_folder(folder, "samples_400.pt", **{"encoder.0.bias": tensor(400.0, 400.0)})
    torch.save({"not": "an SAE"}, folder / "samples_last.pt")
    sae = load_sae("apollo", folder)
    assert sae.b_enc.tolist() == [400.0, 400.0]
    assert sae.path == str(folder / "samples_400.pt")
    assert load_sae("apollo", folder / "samples_90.pt").b_enc.tolist() == [90.0, 90.0]  # a file that is named


@pytest.mark.parametrize(
    ("hook", "layer"),
    [(HOOK, 5), ("blocks-10-hook_resid_pre", 9), ("blocks.2.hook_resid_pre", 1), ("blocks-11-hook_resid_post", 11)],
)
def test_apollo_s_layer_is_in_the_names_of_its_tensors(tmp_path, hook, layer):
    assert load_sae("apollo", apollo_folder(tmp_path / "run", hook=hook)).layer == layer


def test_apollo_s_file_of_several_saes_needs_a_layer(tmp_path):
    both = {
        **apollo_content(**{"encoder.0.bias": tensor(5.0, 5.0)}),
        **apollo_content("blocks-10-hook_resid_pre", **{"encoder.0.bias": tensor(9.0, 9.0)}),
    }
    path = tmp_path / "samples_10.pt"
    torch.save(both, path)
    with pytest.raises(UserError, match=r"samples_10\.pt holds SAEs of the layers \[5, 9\].*layer="):
        load_sae("apollo", path)
    for layer in (5, 9):
        sae = load_sae("apollo", path, layer=layer)
        assert (sae.layer, sae.b_enc.tolist()) == (layer, [layer, layer])
    with pytest.raises(UserError, match=r"samples_10\.pt.*not of layer 7"):
        load_sae("apollo", path, layer=7)


def test_apollo_needs_no_config_but_a_whole_one_if_there_is_one(tmp_path):
    folder = apollo_folder(tmp_path / "run")
    config = folder / "final_config.yaml"
    for content in ("saes: [", "seed: 0", "- 1", ""):
        config.write_text(content)
        with pytest.raises(UserError, match=r"final_config\.yaml"):
            load_sae("apollo", folder)
    config.unlink()
    assert load_sae("apollo", folder).n_latents == 2


# ---------------------------------------------------------------- Bloom


def test_bloom_centres_and_subtracts_b_dec(tmp_path):
    # (3, -2, -1) - b_dec = (2, -1, -1.5);  latent 0: 2 - 1.5 + .5 = 1;  latent 1: 1 + 1 = 2
    sae = load_sae("bloom", bloom_folder(tmp_path))
    latents, context = sae.encode(Y)
    assert_near(latents, 1.0, 2.0)
    # (1, 2, 0) + 2 (0, 1, -1) = (1, 4, -2);  + b_dec = (2, 3, -1.5);  + mean 3
    assert_near(sae.decode(latents, context), 5.0, 6.0, 1.5)
    _, base = sae.encode(tensor(-9, -10, -11))  # mean -10
    assert_near(sae.decode(latents, base), -8.0, -7.0, -11.5)


def test_bloom_s_latents_are_never_negative(tmp_path):
    # (-3, 2, 1) - b_dec = (-4, 3, .5): latent 0 = -4 + .5 + .5 = -3, latent 1 = -3 + 1 = -2
    sae = load_sae("bloom", bloom_folder(tmp_path))
    assert sae.encode(-Y)[0].tolist() == [0.0, 0.0]


def test_bloom_with_the_raw_residual_is_the_original_experiment_s_choice(tmp_path):
    # (6, 1, 2) - b_dec = (5, 2, 1.5);  latent 0: 5 + 1.5 + .5 = 7;  latent 1: -2 + 1 -> 0
    sae = load_sae("bloom", bloom_folder(tmp_path), raw_residual=True)
    latents, context = sae.encode(Y)
    assert_near(latents, 7.0, 0.0)
    assert_near(sae.decode(latents, context), 8.0, 13.0, 0.5)  # 7 (1, 2, 0) + b_dec


def test_bloom_s_layer_is_the_hook_point_of_its_config(tmp_path):
    """A resid_pre is the output of the block before; GPT-2's last one is a resid_post."""
    folder = bloom_folder(tmp_path, "blocks.8.hook_resid_pre")
    assert load_sae("bloom", folder).layer == 7
    assert load_sae("bloom", folder / "sae_weights.safetensors").layer == 7  # the file itself
    assert load_sae("bloom", bloom_folder(tmp_path, "blocks.11.hook_resid_post")).layer == 11
    elsewhere = folder.rename(tmp_path / "mine")
    assert load_sae("bloom", elsewhere).layer == 7  # whatever the folder is called
    (elsewhere / "cfg.json").unlink()
    assert load_sae("bloom", elsewhere).layer is None
    assert load_sae("bloom", elsewhere.rename(tmp_path / "blocks.3.hook_resid_pre")).layer == 2


def test_bloom_accepts_a_scaling_factor_of_ones_only(tmp_path):
    sae = load_sae("bloom", bloom_folder(tmp_path, scaling_factor=torch.ones(2)))
    assert_near(sae.encode(Y)[0], 1.0, 2.0)
    folder = bloom_folder(tmp_path, scaling_factor=tensor(1.0, 2.0))
    with pytest.raises(UserError, match=r"sae_weights\.safetensors.*scaling_factor"):
        load_sae("bloom", folder)


# ---------------------------------------------------------------- all families


def test_hook_points_and_layers_are_each_other_s_inverse():
    """As published for GPT-2 small: Bloom's twelve, and Apollo's three."""
    names = [hook_point(layer, 12) for layer in range(12)]
    assert names[:2] == ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"]
    assert names[10:] == ["blocks.11.hook_resid_pre", "blocks.11.hook_resid_post"]
    assert [layer_of_hook_point(name) for name in names] == list(range(12))
    assert layer_of_hook_point("blocks.5.hook_mlp_out") is None


def test_releases_lie_under_their_publishers_own_names(tmp_path):
    found = {release: str(locate(release, tmp_path, 9, 12).relative_to(tmp_path)) for release in RELEASES}
    assert found == {
        "openai": "openai/9.pt",
        "apollo-e2e": "apollo-e2e/layer09",
        "apollo-e2e+ds": "apollo-e2e+ds/layer09",
        "bloom": "bloom/blocks.10.hook_resid_pre",
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_from_python_as_the_documentation_says(tmp_path, family):
    path, _ = published(family, tmp_path)

    sae = load_sae(family, path)
    x = torch.randn(2, 5, sae.d_model, generator=torch.Generator().manual_seed(0))
    latents, context = sae.encode(x)
    x_hat = sae.decode(latents, context)

    assert (sae.n_latents, sae.d_model) == ((3, 4) if family == "openai" else (2, 3))
    assert sae.layer == {"openai": 5, "apollo": 5, "bloom": 7}[family]
    assert latents.shape == (2, 5, sae.n_latents)
    assert x_hat.shape == x.shape
    assert latents.min() == 0 and latents.max() > 0
    # A batch is its vectors one by one; the path may be text.
    alone, context = load_sae(family, str(path)).encode(x[1, 3])
    torch.testing.assert_close(alone, latents[1, 3])
    torch.testing.assert_close(sae.decode(alone, context), x_hat[1, 3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_any_precision_become_fp32(tmp_path, family, dtype):
    plain = load_sae(family, published(family, tmp_path)[0])
    weights = {name: stored(family, name).to(dtype) for name in NAMES}
    sae = load_sae(family, published(family, tmp_path, **weights)[0])
    for name in NAMES:
        found = getattr(sae, name)
        assert found.dtype == torch.float32
        # Every number of these files is exact in any precision; Apollo's columns are normalised in fp32.
        torch.testing.assert_close(found, getattr(plain, name), rtol=0, atol=1e-7)


@st.composite
def autoencoders(draw, family: str):
    d, n, n_layers = draw(st.integers(2, 6)), draw(st.integers(1, 8)), draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    k = draw(st.sampled_from([None, *range(1, n + 1)])) if family == "openai" else None
    W_enc, b_enc, W_dec, b_dec = (torch.randn(shape, generator=generator) for shape in ((d, n), (n,), (n, d), (d,)))
    sae = SparseAutoencoder(
        *(family, draw(st.integers(0, n_layers - 1)), "", W_enc, b_enc, W_dec, b_dec),
        subtract_b_dec=family != "apollo",
        centred=family != "openai",
        normalised=k is not None,
        k=k,
    )
    return sae, n_layers, 3 * torch.randn(7, d, generator=generator) + 1


@pytest.mark.parametrize("release", ["openai", "apollo-e2e", "bloom"])
def test_what_is_saved_is_loaded(release):
    family = RELEASES[release].family

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(autoencoders(family))
    def round_trip(drawn):
        sae, n_layers, x = drawn
        with tempfile.TemporaryDirectory() as folder:
            path = locate(release, folder, sae.layer, n_layers)
            save_sae(family, path, sae, n_layers)
            loaded = load_sae(family, path, d_model=sae.d_model)
        if family == "apollo":  # its decoder is used with rows of length 1, whatever is stored
            sae.W_dec = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)
        latents, context = loaded.encode(x)
        torch.testing.assert_close(latents, sae.encode(x)[0])
        torch.testing.assert_close(loaded.decode(latents, context), sae.decode(*sae.encode(x)))
        assert (loaded.family, loaded.layer, loaded.k) == (family, sae.layer, sae.k)
        assert (loaded.d_model, loaded.n_latents) == (sae.d_model, sae.n_latents)

    round_trip()


# ---------------------------------------------------------------- Apollo's mirror


def mirror_folder(folder: Path, changes: dict | None = None, **config) -> Path:
    """d_model 3, 180 latents as Apollo's 60 per dimension, of which two ever fire; SAELens's layout, layer 5."""
    W_enc, W_dec = torch.zeros(3, 180), torch.zeros(180, 3)
    W_enc[:, :2] = tensor([1, 0], [0, 1], [1, 0])
    W_dec[:, 0] = 1  # the decoder's rows have length 1
    W_dec[:2] = tensor([0.6, 0, 0.8], [0, 1, 0])
    b_enc = torch.full((180,), -1.0)
    b_enc[:2] = tensor(0.5, 1.0)
    tensors = {"W_enc": W_enc, "b_enc": b_enc, "W_dec": W_dec, "b_dec": tensor(1.0, -1.0, 0.5)}
    folder.mkdir(exist_ok=True)
    save_file({**tensors, **(changes or {})}, folder / "sae_weights.safetensors")
    about = {"hook_point": "blocks.6.hook_resid_pre", "architecture": "standard", "apply_b_dec_to_input": False}
    about = {key: value for key, value in {**about, **config}.items() if value is not None}
    (folder / "cfg.json").write_text(json.dumps(about))
    return folder


def mirror_decoder() -> torch.Tensor:
    W_dec = torch.zeros(180, 3)
    W_dec[:, 0] = 1
    W_dec[:2] = tensor([0.6, 0, 0.8], [0, 1, 0])
    return W_dec


# x = (3, 0, 0) has mean 1, so x - m = (2, -1, -1)
#   pre = (2 - 1 + 0.5, -1 + 1, -1, ..) = (1.5, 0, -1, ..)          z = (1.5, 0, 0, ..)
#   x_hat = 1.5 (0.6, 0, 0.8) + (1, -1, 0.5) + m = (2.9, 0, 2.7)
def test_apollos_mirror_is_read_as_saelens_does(tmp_path):
    sae = load_sae("apollo", mirror_folder(tmp_path / "layer05"), 5)
    assert is_mirror("apollo", tmp_path / "layer05")
    assert (sae.layer, sae.n_latents, sae.d_model) == (5, 180, 3)
    latents, context = sae.encode(tensor(3.0, 0.0, 0.0))
    assert_near(latents[:2], 1.5, 0.0)
    assert not latents[2:].any()
    assert_near(sae.decode(latents, context), 2.9, 0.0, 2.7)


# with b_dec subtracted: (2, -1, -1) - (1, -1, 0.5) = (1, 0, -1.5)
#   pre = (1 - 1.5 + 0.5, 0 + 1, ..) = (0, 1, ..)
#   x_hat = (0, 1, 0) + (1, -1, 0.5) + m = (2, 1, 1.5)
@pytest.mark.parametrize("told", [True, None])  # SAELens takes what is left out as true
def test_apollos_mirror_may_subtract_the_decoders_bias(tmp_path, told):
    sae = load_sae("apollo", mirror_folder(tmp_path / "layer05", apply_b_dec_to_input=told))
    latents, context = sae.encode(tensor(3.0, 0.0, 0.0))
    assert_near(latents[:2], 0.0, 1.0)
    assert_near(sae.decode(latents, context), 2.0, 1.0, 1.5)


@pytest.mark.parametrize(("key", "stored"), [("scaling_factor", 0.25), ("decoder_norm", 4.0)])
def test_apollos_mirror_may_keep_the_decoders_norms_beside_it(tmp_path, key, stored):
    changes = {"W_dec": mirror_decoder() * 4, key: torch.full((180,), stored)}
    sae = load_sae("apollo", mirror_folder(tmp_path / "layer05", changes))
    torch.testing.assert_close(sae.W_dec, mirror_decoder())
    assert_near(sae.decode(*sae.encode(tensor(3.0, 0.0, 0.0))), 2.9, 0.0, 2.7)


@pytest.mark.parametrize(
    ("changes", "config", "options", "said"),
    [
        ({"W_dec": mirror_decoder() * 1.01}, {}, {}, "lengths from 1.01 to 1.01"),
        ({"W_dec": mirror_decoder() * 2, "decoder_norm": torch.ones(180)}, {}, {}, "lengths from 2 to 2"),
        ({"W_dec": mirror_decoder() * torch.nan}, {}, {}, "lengths from nan"),
        ({"decoder_norm": torch.ones(179)}, {}, {}, "decoder_norm has shape [179]"),
        ({"b_enc": torch.zeros(96)}, {}, {}, "96 latents for vectors of width 3, Apollo's have 180"),
        ({}, {"hook_point": "blocks.10.hook_resid_pre"}, {"layer": 5}, "of layer 9, not of layer 5"),
        ({}, {"hook_point": None}, {}, "no hook point"),
        ({}, {"hook_point": "blocks.5.hook_mlp_out"}, {"layer": 5}, "blocks.5.hook_mlp_out', which is no layer"),
        ({}, {"architecture": "gated"}, {}, "architecture 'gated'"),
        ({}, {"activation_fn_str": "topk"}, {}, "activation_fn_str 'topk'"),
        ({}, {"normalize_activations": "layer_norm"}, {}, "normalize_activations 'layer_norm'"),
        ({}, {}, {"raw_residual": True}, "leave out --raw-residual"),
    ],
)
def test_another_sae_in_the_mirrors_place_is_refused(tmp_path, changes, config, options, said):
    folder = mirror_folder(tmp_path / "layer05", changes, **config)
    assert_refused("apollo", folder, folder, said, **options)


def test_apollos_mirror_needs_its_settings(tmp_path):
    folder = mirror_folder(tmp_path / "layer05")
    (folder / "cfg.json").unlink()
    assert_refused("apollo", folder, folder / "cfg.json", "cannot read")


def test_apollos_own_run_goes_before_its_mirror(tmp_path):
    folder = apollo_folder(mirror_folder(tmp_path / "layer05"))
    assert load_sae("apollo", folder).path.endswith("samples_400000.pt")
    assert not is_mirror("apollo", folder)


# ---------------------------------------------------------------- what is recorded of a file


@pytest.mark.parametrize("raw", [False, True])
def test_decoder_norms_are_those_stored(tmp_path, raw):
    """One norm per latent; apollo's before it normalises them."""
    # openai's columns: (1, 0, -1, 2), (0, 1, 0, 0), (0, 0, 1, 0): sqrt 6, 1, 1
    norms = load_sae("openai", openai_file(tmp_path), raw_residual=raw).decoder_norms
    assert norms == pytest.approx({"min": 1, "median": 1, "max": 6**0.5}, abs=1e-6)
    # apollo's: 5 and 2; of an even number torch's median is the lower one of the two in the middle
    norms = load_sae("apollo", apollo_folder(tmp_path / "run"), raw_residual=raw).decoder_norms
    assert norms == {"min": 2, "median": 2, "max": 5}
    # bloom's rows: (1, 2, 0) and (0, 1, -1)
    norms = load_sae("bloom", bloom_folder(tmp_path), raw_residual=raw).decoder_norms
    assert norms == pytest.approx({"min": 2**0.5, "median": 2**0.5, "max": 5**0.5}, abs=1e-6)


# ---------------------------------------------------------------- errors


def test_bloom_s_config_of_another_size_is_refused(tmp_path):
    """As where the two files of a folder are of two SAEs."""
    folder = bloom_folder(tmp_path)
    config = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(config | {"d_sae": 24576}))
    assert_refused("bloom", folder, folder / "sae_weights.safetensors", "2 latents", "d_sae = 24576", "cfg.json")


def assert_refused(family: str, path: Path, named: Path, *said: str, **options) -> None:
    """One line that names the file and says each of these."""
    with pytest.raises(UserError) as caught:
        load_sae(family, path, **options)
    message = str(caught.value)
    assert str(named) in message
    assert "\n" not in message
    for text in said:
        assert text in message, message


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_file_is_refused(tmp_path, family):
    assert_refused(family, tmp_path / "5.pt", tmp_path / "5.pt", "there is no")
    (tmp_path / "empty").mkdir()
    assert_refused(family, tmp_path / "empty", tmp_path / "empty")


@pytest.mark.parametrize("release", ["apollo-e2e", "apollo-e2e+ds"])
def test_a_family_may_go_by_its_release_s_name(tmp_path, release):
    weights = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    sae = SparseAutoencoder("apollo", 1, "", weights.T, weights[:, 0], weights, weights[0], False, centred=True)
    path = locate(release, tmp_path, 1, 12)
    save_sae("apollo", path, sae, 12)
    assert torch.equal(load_sae(release, path).W_dec, load_sae("apollo", path).W_dec)
    with pytest.raises(UserError, match=r"no apollo SAE at .*; \./setup\.sh apollo downloads"):
        load_sae(release, tmp_path / "nowhere")


def test_an_unknown_family_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown SAE family 'gemma'; known are openai, apollo, bloom"):
        load_sae("gemma", openai_file(tmp_path))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_truncated_file_is_refused(tmp_path, family):
    path, file = published(family, tmp_path)
    whole = file.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.7, 0.99):
        file.write_bytes(whole[: int(share * len(whole))])
        assert_refused(family, path, file, "truncated")
    file.write_bytes(whole)
    load_sae(family, path)  # whole, it is accepted


@pytest.mark.parametrize("family", ["openai", "apollo"])
def test_a_truncated_file_of_torch_s_old_format_is_refused(tmp_path, family):
    """Not a zip, but pickles one behind the other: it may end in the middle of any of them."""
    path, file = published(family, tmp_path)
    content = openai_content() if family == "openai" else apollo_content()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    load_sae(family, path)
    for length in range(0, len(whole), 11):
        file.write_bytes(whole[:length])
        assert_refused(family, path, file)


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 201331552\n",
        '{"error": "not found"}',
        "not found",
    ],
    ids=["html", "git-lfs", "json", "text"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_failed_download_leaves_is_not_called_a_pickle(tmp_path, family, text):
    path, file = published(family, tmp_path)
    file.write_text(text)
    with pytest.raises(UserError, match="download it again") as caught:
        load_sae(family, path)
    assert str(file) in str(caught.value)
    assert "run code" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_value_that_is_not_finite_is_refused(tmp_path, family, name, value):
    weight = stored(family, name)
    weight.view(-1)[-1] = value
    path, file = published(family, tmp_path, **{name: weight})
    assert_refused(family, path, file, name, "NaN or infinite")


@pytest.mark.parametrize("other", FAMILIES)
@pytest.mark.parametrize("family", FAMILIES)
def test_another_family_s_file_is_refused(tmp_path, family, other):
    if family == other:
        load_sae(family, published(other, tmp_path)[0])
        return
    _, file = published(other, tmp_path)
    if family == "bloom":  # reads safetensors, the others torch.save: the very bytes are wrong
        assert_refused(family, file, file)
    else:
        assert_refused(family, file, file, f"is not an {family} SAE", f"it looks like {other}'s")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("W_enc", torch.ones(5, 7)),  # of no size that fits
        ("W_dec", torch.ones(7)),  # not a matrix
        ("b_enc", torch.ones(9)),
        ("b_dec", torch.ones(9)),
        ("b_enc", torch.ones(1, 2)),
        ("W_dec", torch.ones(2, 3, 1)),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:The use of `x.T`")
def test_shapes_that_do_not_fit_are_refused(tmp_path, family, name, wrong):
    path, file = published(family, tmp_path, **{name: wrong})
    assert_refused(family, path, file, "shape")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transposed_matrix_is_refused(tmp_path, family):
    path, file = published(family, tmp_path, W_dec=stored(family, "W_dec").T.contiguous())
    assert_refused(family, path, file, "W_dec", "shape")


@pytest.mark.parametrize("family", FAMILIES)
def test_whole_numbers_are_refused(tmp_path, family):
    path, file = published(family, tmp_path, b_enc=torch.ones(3 if family == "openai" else 2, dtype=torch.int64))
    assert_refused(family, path, file, "b_enc", "int64")


@pytest.mark.parametrize("family", FAMILIES)
def test_another_width_than_the_model_s_is_refused(tmp_path, family):
    path, file = published(family, tmp_path)
    sae = load_sae(family, path)
    load_sae(family, path, d_model=sae.d_model)
    assert_refused(family, path, file, f"width {sae.d_model}", "768", d_model=768)


@pytest.mark.parametrize("family", ["apollo", "bloom"])
def test_another_layer_than_the_one_asked_for_is_refused(tmp_path, family):
    path, _ = published(family, tmp_path)
    layer = load_sae(family, path).layer
    load_sae(family, path, layer=layer)
    assert_refused(family, path, path, f"of layer {layer}", "not of layer 2", layer=2)


@pytest.mark.parametrize("key", ["pre_bias", "encoder.weight", "latent_bias", "decoder.weight"])
def test_openai_without_one_of_its_tensors_is_refused(tmp_path, key):
    path = openai_file(tmp_path, **{key: None})
    assert_refused("openai", path, path, f"no tensor {key}")
    path = openai_file(tmp_path, **{key: [1.0, 2.0]})
    assert_refused("openai", path, path, f"no tensor {key}")


@pytest.mark.parametrize("state", [None, {}, {"k": 0}, {"k": 4}, {"k": "2"}, {"k": 2.0}])
def test_openai_with_a_k_that_cannot_be_is_refused(tmp_path, state):
    path = openai_file(tmp_path, activation_state_dict=state)
    assert_refused("openai", path, path, "TopK", "k = ")


def test_openai_with_an_unknown_activation_is_refused(tmp_path):
    path = openai_file(tmp_path, activation="JumpReLU")
    assert_refused("openai", path, path, "JumpReLU")


def test_apollo_without_one_of_its_tensors_is_refused(tmp_path):
    folder = apollo_folder(tmp_path / "run", **{"decoder.bias": None})
    assert_refused("apollo", folder, folder / "samples_400000.pt", f"no tensor {HOOK}.decoder.bias")


def test_bloom_with_a_broken_config_is_refused(tmp_path):
    folder = bloom_folder(tmp_path)
    for content in ("{", "[]", ""):
        (folder / "cfg.json").write_text(content)
        assert_refused("bloom", folder, folder / "cfg.json")


# ---------------------------------------------------------------- files that would run code


class Payload:
    """Unpickling one creates a folder."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


def test_the_payload_bites_where_it_is_let(tmp_path):
    """Else the next tests would show nothing."""
    marker = tmp_path / "was here"
    pickle.loads(pickle.dumps(Payload(marker)))  # noqa: S301 - the point of it
    assert marker.is_dir()
    marker.rmdir()
    path = openai_file(tmp_path, activation_state_dict=Payload(marker))
    torch.load(path, weights_only=False)
    assert marker.is_dir()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("family", ["openai", "apollo"])
def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path, family, zipped):
    marker = tmp_path / "was here"
    path, file = published(family, tmp_path)
    content = openai_content() if family == "openai" else apollo_content()
    torch.save({**content, "extra": Payload(marker)}, file, _use_new_zipfile_serialization=zipped)
    assert_refused(family, path, file, "could run code", "not loaded")
    file.write_bytes(pickle.dumps({**content, "extra": Payload(marker)}, protocol=2))  # no torch.save at all
    assert_refused(family, path, file)
    assert not marker.exists()


def test_bloom_s_and_apollo_s_other_files_run_no_code(tmp_path):
    marker = tmp_path / "was here"
    folder = bloom_folder(tmp_path)
    (folder / "sae_weights.safetensors").write_bytes(pickle.dumps(Payload(marker)))
    assert_refused("bloom", folder, folder / "sae_weights.safetensors")
    folder = apollo_folder(tmp_path / "run")
    config = folder / "final_config.yaml"
    config.write_text(f"saes: !!python/object/apply:os.mkdir ['{marker}']\n")
    assert_refused("apollo", folder, config)
    assert not marker.exists()
    yaml.unsafe_load(config.read_text())  # this is what would bite
    assert marker.is_dir()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_damaged_file_is_loaded_or_refused_and_nothing_else(tmp_path, family):
    """Cut off anywhere, or with a few bytes changed: a UserError or an SAE, never another error."""
    path, file = published(family, tmp_path)
    whole = file.read_bytes()
    seen = []

    @settings(max_examples=150, deadline=None, derandomize=True, database=None)
    @given(
        st.one_of(st.just(len(whole)), st.integers(0, len(whole))),
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=2),
    )
    def damage(length, changes):
        damaged = bytearray(whole)
        for place, value in changes:
            damaged[place] = value
        file.write_bytes(damaged[:length])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load_sae(family, path)
            seen.append("loaded")
        except UserError:
            seen.append("refused")

    damage()
    assert set(seen) == {"loaded", "refused"}


def test_an_sae_of_the_embeddings_is_refused(tmp_path):
    """Bloom's release has one: blocks.0.hook_resid_pre comes before every block's output."""
    folder = tmp_path / "blocks.0.hook_resid_pre"
    folder.mkdir()
    tensors = {"W_enc": torch.ones(2, 3), "b_enc": torch.zeros(3), "W_dec": torch.ones(3, 2), "b_dec": torch.zeros(2)}
    save_file(tensors, folder / "sae_weights.safetensors")
    with pytest.raises(UserError, match="reads the embeddings"):
        load_sae("bloom", folder)


# ---------------------------------------------------------------- numbers that no file of an SAE has


@pytest.mark.parametrize("digits", [5, 4301, 5000])
@pytest.mark.parametrize("place", ["apollo", "bloom", "mirror"])
def test_a_hook_point_of_many_digits_is_a_damaged_file(tmp_path, place, digits):
    hook = f"blocks.{'9' * digits}.hook_resid_pre"
    if place == "apollo":
        path = apollo_folder(tmp_path / "run", hook=hook.replace(".", "-"))
        named = path / "samples_400000.pt"
    else:
        path = bloom_folder(tmp_path) if place == "bloom" else mirror_folder(tmp_path / "layer05")
        named = path / "cfg.json"
        named.write_text(json.dumps(json.loads(named.read_text()) | {"hook_point": hook}))
    family = "bloom" if place == "bloom" else "apollo"
    for layer in (None, 5):
        assert_refused(family, path, named, "damaged", f"{digits} digits", layer=layer)


@pytest.mark.parametrize("digits", [600, 5000])  # torch reads the one; Python does not write out the other
@pytest.mark.parametrize("what", ["k", "activation", "tensor", "key"])
def test_a_number_of_many_digits_in_a_pickle_is_a_short_error(tmp_path, what, digits):
    huge = 10**digits
    changes = {"k": {"activation_state_dict": {"k": huge}}, "activation": {"activation": huge}}
    changes |= {"tensor": {"encoder.weight": huge}, "key": {"pre_bias": None}}
    content = {**({huge: 1} if what == "key" else {}), **openai_content(**changes[what])}  # keys: an error lists three
    torch.save(content, tmp_path / "5.pt")
    for family in ("openai", "apollo"):
        assert_refused(family, tmp_path / "5.pt", tmp_path / "5.pt")
        with pytest.raises(UserError) as caught:
            load_sae(family, tmp_path / "5.pt")
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "tag", ["int", "float", "bool", "timestamp", "binary", "null", "set", "omap", "pairs", "merge"]
)
@pytest.mark.parametrize("text", ['""', "foo", "x", "0x", "1:x", "-", "+", "_", "2001-99-99", "[1]", "{a: 1}"])
def test_a_scalar_that_yaml_trips_over_is_an_error_of_one_line(tmp_path, tag, text):
    folder = apollo_folder(tmp_path / "run")
    config = folder / "final_config.yaml"
    config.write_text(f"saes: {{}}\nseed: !!{tag} {text}\n")
    try:
        load_sae("apollo", folder)
    except UserError:
        assert_refused("apollo", folder, config, "cannot read", "download it again")
    else:
        assert (tag, text) not in [("int", '""'), ("bool", "foo"), ("timestamp", "x")]


# ---------------------------------------------------------------- more than the file holds


OVERSIZED = {  # tensors of some bytes in a file that claim terabytes, or a little more than is there
    "one number": lambda: torch.zeros(1).expand(10**7, 10**6),
    "one row": lambda: torch.zeros(1, 3).expand(10**12, 3),
    "one column": lambda: torch.zeros(3, 1).expand(3, 10**12),
    "overlapping": lambda: torch.zeros(6).as_strided((4, 3), (1, 1)),
    "meta": lambda: torch.empty(10**7, 10**6, device="meta"),
    "sparse": lambda: torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (10**7, 10**6)),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize("what", OVERSIZED)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("family", ["openai", "apollo"])
@pytest.mark.filterwarnings("ignore")
def test_a_tensor_that_claims_more_than_its_file_holds_is_refused(tmp_path, family, name, what, zipped):
    path, file = published(family, tmp_path, **{name: OVERSIZED[what]()})
    content = torch.load(file, weights_only=True)
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert_refused(family, path, file, "damaged", KEYS[family][NAMES.index(name)])


def test_a_file_that_unpacks_to_more_than_its_size_is_refused(tmp_path):
    """torch reads compressed files, which it does not write: 1 GB would be 1 MB."""
    file = openai_file(tmp_path, **{"encoder.weight": torch.zeros(1000, 768)})
    with zipfile.ZipFile(file) as whole:
        parts = {part.filename: whole.read(part) for part in whole.infolist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    assert torch.load(file, weights_only=True)["encoder.weight"].shape == (1000, 768)
    assert_refused("openai", file, file, "would unpack")


def test_tensors_that_share_their_numbers_are_read(tmp_path):
    """Views of one storage that holds them all, transposed ones too, as a publisher may have saved them."""
    plain = load_sae("openai", openai_file(tmp_path))
    weight = openai_content()["encoder.weight"]
    both = torch.stack([weight, weight])
    sae = load_sae("openai", openai_file(tmp_path, **{"encoder.weight": both[1]}))
    assert torch.equal(sae.W_enc, plain.W_enc)
    sae = load_sae("openai", openai_file(tmp_path, **{"encoder.weight": weight.T.contiguous().T}))
    assert torch.equal(sae.W_enc, plain.W_enc)


# ---------------------------------------------------------------- finite, but too large


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("names", [("W_dec",), ("W_enc", "W_dec"), ("W_enc", "b_enc", "W_dec")], ids=" ".join)
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_whose_results_overflow_are_refused(tmp_path, family, names, sign):
    """1e30 is finite, and so is each product; a square of it, or a product of two, is not."""
    changes = {name: torch.full_like(stored(family, name), sign * 1e30) for name in names}
    path, file = published(family, tmp_path, **changes)
    assert_refused(family, path, file, "overflow")


@pytest.mark.parametrize("sign", [1, -1])
def test_a_latent_that_overflows_on_one_half_of_all_vectors_is_refused(tmp_path, sign):
    """One latent, whose decoder's norm is finite: it fires on x or on -x."""
    encoder, decoder = sign * 1e30 * tensor([1, -1, 0]), 1e12 * tensor([1], [1], [1])
    path, file = published("apollo", tmp_path, W_enc=encoder, b_enc=tensor(0), W_dec=decoder)
    assert_refused("apollo", path, file, "overflow", raw_residual=True)


@pytest.mark.parametrize("size", [1e-6, 1e6])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_an_unusual_size_are_read(tmp_path, family, size):
    changes = {name: size * stored(family, name) for name in NAMES}
    assert load_sae(family, published(family, tmp_path, **changes)[0]).n_latents
