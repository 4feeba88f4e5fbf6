"""Controls: what is random in them, and what stays the method's own."""

import dataclasses

import pytest
import torch

from data.batches import PairBatch
from featurizers.builders import Ingredients
from featurizers.controls import permutation, random_features, shuffled_labels
from featurizers.das import random_rotation
from featurizers.directions import FixedDirections
from featurizers.methods import METHODS, controls_of, is_method, method_named, ordered, size_family
from featurizers.sae import Sae
from saes.autoencoder import SparseAutoencoder


def randn(*shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def sae() -> SparseAutoencoder:
    W = randn(12, 40, seed=1)
    bias = {"b_enc": randn(40, seed=2) - 1, "b_dec": randn(12, seed=3)}
    return SparseAutoencoder(
        "bloom", 0, "none", W, W_dec=randn(40, 12, seed=4), subtract_b_dec=True, centred=True, **bias
    )


def built(name: str, sae, seed: int = 5):
    need = Ingredients(12, seed, "cpu", sae, False, randn(30, 12), random_rotation(12, 9))
    return method_named(name).build(need)


@pytest.mark.parametrize("name", ["das:random", "das:features", "bloom:random", "bloom:permuted", "bloom:features"])
def test_the_bound_form_is_the_formula(sae, name):
    featurizer, x = built(name, sae), randn(30, 12)
    bound = featurizer.freeze(x)
    base, source = torch.arange(8), torch.arange(8, 16)
    n_active = featurizer.n_features if bound.alive is None else len(bound.alive)
    mask = torch.rand(n_active, generator=torch.Generator().manual_seed(6))
    expected = featurizer.patch(x[base], x[source], bound.widen(mask, featurizer.n_features))
    torch.testing.assert_close(bound.patch(base, source, mask), expected, rtol=1e-5, atol=1e-5)
    assert not featurizer.is_trained


def test_a_random_rotation_is_orthogonal_saved_and_drawn_by_the_seed(sae):
    one, same, other = built("das:random", sae), built("das:random", sae), built("das:random", sae, seed=6)
    R = one.saved()["rotation"]
    torch.testing.assert_close(R.T @ R, torch.eye(12), rtol=0, atol=1e-5)
    assert torch.equal(R, same.saved()["rotation"])
    assert not torch.equal(R, other.saved()["rotation"])
    x = randn(3, 12)
    torch.testing.assert_close(FixedDirections(R).encode(x)[0], x @ R)
    assert torch.equal(
        built("das:features", sae).saved()["rotation"], random_rotation(12, 9)
    )  # the one that was trained


def test_a_permuted_sae_fires_as_its_own_and_writes_another_latents_row(sae):
    x, order = randn(30, 12), permutation(40, 5)
    assert sorted(order.tolist()) == list(range(40))
    control, own = built("bloom:permuted", sae), Sae(sae)
    (z, context), (z_own, _) = control.encode(x), own.encode(x)
    assert torch.equal(z, z_own)
    one = torch.zeros(30, 40).index_fill(1, torch.tensor([7]), 1.0)
    difference = control.decode(one, context) - control.decode(torch.zeros(30, 40), context)
    torch.testing.assert_close(difference, sae.W_dec[order[7]].expand(30, 12), rtol=1e-5, atol=1e-5)


def test_a_random_sae_has_as_many_latents_of_which_as_many_fire(sae):
    x = randn(30, 12)
    l0 = Sae(sae).l0(x)
    control = built("bloom:random", sae)
    assert (control.n_features, control.sae.k) == (40, round(l0))
    assert control.l0(x) == pytest.approx(control.sae.k, abs=0.5)  # a projection among the largest may be below 0
    norms = control.sae.W_enc.norm(dim=0)
    torch.testing.assert_close(norms, torch.ones(40))
    cosine = torch.cosine_similarity(control.sae.W_enc.T, sae.W_dec).abs().max()
    assert cosine < 0.99  # none of its own directions
    # No other scale of the decoder reconstructs better.
    z, context = control.sae.encode(x)

    def error(scale: float) -> float:
        made = dataclasses.replace(control.sae, W_dec=scale * control.sae.W_dec)
        return float((made.decode(z, context) - x).square().sum())

    assert error(1.0) < min(error(0.99), error(1.01))


def test_shuffled_labels_are_those_of_others_of_their_kind():
    n = 60
    is_cause = torch.arange(n) % 3 == 0
    row = torch.arange(n)
    pairs = PairBatch.of(row, row + 1, torch.arange(n) + 100 * is_cause, (~is_cause).long())
    found = shuffled_labels(pairs, 3)
    for kind in (True, False):
        assert sorted(found.label[is_cause == kind].tolist()) == sorted(pairs.label[is_cause == kind].tolist())
    assert (found.label == pairs.label).float().mean() < 0.2
    for field in ("base", "source", "kind", "step"):
        assert torch.equal(getattr(found, field), getattr(pairs, field))
    assert torch.equal(found.label, shuffled_labels(pairs, 3).label)
    assert not torch.equal(found.label, shuffled_labels(pairs, 4).label)


def test_random_features_are_as_many_as_were_selected():
    found = random_features(50, 12, seed=1)
    assert (found.dtype, int(found.sum())) == (torch.bool, 12)
    assert not torch.equal(found, random_features(50, 12, seed=2))
    assert int(random_features(50, 0, seed=1).sum()) == 0


def test_names_of_controls():
    assert controls_of("neuron") == ["neuron:features", "neuron:shuffled"]
    assert controls_of("das") == ["das:random", "das:features", "das:shuffled"]
    assert controls_of("none") == controls_of("full") == controls_of("das:random") == []
    own = "sae:runs/a"
    assert controls_of(own) == [f"{own}:{name}" for name in ("random", "permuted", "features", "shuffled")]
    for method in (*METHODS, own):
        for name in controls_of(method):
            found = method_named(name)
            assert is_method(name)
            assert (found.of, found.variant, found.release) == (
                method,
                name.split(":")[-1],
                method_named(method).release,
            )
    for name in ("das:permuted", "none:features", "openai:", ":random", "nix:random", 3, None, "das:random:random"):
        assert not is_method(name)
    mixed = ["sae:b:random", "das:random", "bloom", "none", "das", "sae:b", "bloom:permuted"]
    assert ordered(mixed) == ["none", "das", "das:random", "bloom", "bloom:permuted", "sae:b", "sae:b:random"]


def test_names_of_sizes_and_variants():
    """What a name says, by hand: method, size, kind of variant; what is trained; what it is compared with."""
    names = {  # of, size, kind, release, is_trained, controls
        "das:cause": ("das", None, "cause", None, True, []),
        "das@8": (None, 8, None, None, True, ["random@8", "das@8:shuffled"]),
        "das@8:cause": ("das@8", 8, "cause", None, True, ["random@8"]),
        "das@8:shuffled": ("das@8", 8, "control", None, True, []),
        "pca": (None, None, None, None, True, ["pca:features", "pca:shuffled"]),
        "pca:cause": ("pca", None, "cause", None, True, []),
        "pca@8": (None, 8, None, None, False, ["random@8"]),
        "rlap@8": (None, 8, None, None, False, ["random@8"]),
        "bloom@8": (None, 8, None, "bloom", False, ["random@8"]),
        "bloom:cause": ("bloom", None, "cause", "bloom", True, []),
        "bloom:original": ("bloom", None, "original", "bloom", True, []),
        "random@8": (None, 8, None, None, False, []),
        "sae:runs/a@8": (None, 8, None, "sae:runs/a", False, ["random@8"]),
        "sae:runs/a:cause": ("sae:runs/a", None, "cause", "sae:runs/a", True, []),
        "das:features": ("das", None, "control", None, False, []),
    }
    for name, expected in names.items():
        found = method_named(name)
        assert is_method(name)
        said = (found.of, found.size, found.kind, found.release, found.is_trained, controls_of(name))
        assert said == expected, name
        assert found.stands_alone == (found.kind in (None, "cause"))
    for name in ("rlap", "random", "das@", "das@0", "das@08", "neuron@8", "none@8", "full:cause", "rlap@8:cause"):
        assert not is_method(name), name
    for name in (
        "das@8:random",
        "bloom@8:cause",
        "random@8:cause",
        "das:cause@8",
        "das:cause:cause",
        "das@8@9",
        "mdas",
    ):
        assert not is_method(name), name
    mixed = ["sae:b@8", "random@2", "bloom", "rlap@2", "das@16", "das:random", "das@2:cause", "pca", "das@2", "sae:b"]
    assert ordered([*mixed, "das:cause", "das"]) == [
        *("das", "das:cause", "das:random", "das@2", "das@2:cause", "das@16", "pca", "rlap@2", "random@2", "bloom"),
        *("sae:b", "sae:b@8"),
    ]
    assert {name: size_family(name) for name in ("das@8", "das@16:cause", "sae:b@8", "das:cause")} == {
        **{"das@8": "das@", "das@16:cause": "das@:cause"},
        **{"sae:b@8": "sae:b@", "das:cause": None},
    }
