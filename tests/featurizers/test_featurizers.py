"""Featurizers: the maps themselves, and the frozen form against the formula as it stands."""

import dataclasses
import gc
import math
import weakref

import pytest
import torch

from common.errors import UserError
from featurizers import sae as sae_file
from featurizers.builders import Ingredients
from featurizers.das import Das
from featurizers.methods import METHODS
from featurizers.neuron import Neuron
from featurizers.rotation import SkewExp
from featurizers.sae import Sae
from saes.autoencoder import SparseAutoencoder
from saes.loading import load_sae, save_sae
from saes.releases import RELEASES


def randn(*shape, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def skew_of_norm(norm: float, d: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    """A random skew-symmetric matrix with exactly this 2-norm."""
    A = randn(d, d, seed=seed, dtype=torch.float64)
    A = A - A.T
    return (A * (norm / torch.linalg.matrix_norm(A, 2))).to(dtype)


# ---------------------------------------------------------------- (x expm(A) * mask) expm(-A)

NORMS = (0.0, 1e-4, 1.0, 8.0, 17.0)


def ours(x, mask, A):
    return SkewExp(A).masked(x, mask)


def theirs(x, mask, A):
    rotation = torch.matrix_exp(A)
    return (x @ rotation * mask) @ rotation.T


@pytest.mark.parametrize("norm", [*NORMS, 60.0])
def test_masked_is_what_the_matrix_exponential_says(norm):
    """In float64 series and integral are cut below what can be seen: at worst 2.5e-12 off, the gradient of A."""
    for seed in range(10):
        A = skew_of_norm(norm, 24, seed).requires_grad_(True)
        x = randn(7, 24, seed=seed + 100, dtype=torch.float64).requires_grad_(True)
        mask = randn(24, seed=seed + 300, dtype=torch.float64).requires_grad_(True)
        weight = randn(7, 24, seed=seed + 200, dtype=torch.float64)
        found, expected = ([], [])
        for product, its in ((ours, found), (theirs, expected)):
            out = product(x, mask, A)
            *gradients, of_A = torch.autograd.grad((out * weight).sum(), (x, mask, A))
            its += [out, *gradients, of_A - of_A.T]  # A is always skew: only this part of its gradient moves it
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=5e-12)
            assert other.abs().max() > 1  # that is not 0 against 0


# The larger width is large enough for oneDNN's layout (products.py).
@pytest.mark.parametrize(("width", "n_seeds"), [(64, 5), (520, 2)])
@pytest.mark.parametrize("norm", NORMS)
def test_masked_in_fp32_is_as_good_as_fp32_gets(norm, width, n_seeds):
    """In values, and the skew part of A's gradient, relative to its largest: at worst 4e-6 off."""
    for seed in range(n_seeds):
        A, x = skew_of_norm(norm, width, seed), randn(16, width, seed=seed + 100, dtype=torch.float64)
        mask = torch.rand(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        weight = randn(16, width, seed=seed + 200, dtype=torch.float64)
        found = []
        for dtype, product in ((torch.float32, ours), (torch.float64, theirs)):
            a = A.to(dtype).requires_grad_()
            out = product(x.to(dtype), mask.to(dtype), a)
            (gradient,) = torch.autograd.grad((out * weight.to(dtype)).sum(), a)
            gradient = gradient - gradient.T
            found.append((out.detach().double(), gradient.double() / gradient.abs().max()))
        for one, exact in zip(*found, strict=True):
            torch.testing.assert_close(one, exact, rtol=0, atol=4e-5)


def test_masked_by_ones_is_the_identity():
    A, x = skew_of_norm(8.0, 24, 0), randn(7, 24, dtype=torch.float64)
    ones = torch.ones(24, dtype=torch.float64)
    torch.testing.assert_close(ours(x, ones, A), x, rtol=0, atol=1e-12)
    assert (ours(x, ones * (torch.arange(24) < 12), A) - x).abs().max() > 0.1


def test_masked_s_gradient_where_x_lies_in_the_null_space_of_a():
    """x expm(A) is x itself there, but the gradient points out of it: the series may not stop at x's first term."""
    skew = torch.tensor([[0.0, 2, 0], [-2, 0, 0], [0, 0, 0]], dtype=torch.float64)
    x, weight = torch.tensor([[0.0, 0, 1]], dtype=torch.float64), torch.tensor([[1.0, 2, 3]], dtype=torch.float64)
    mask = torch.tensor([1.0, 0, 1], dtype=torch.float64)
    gradients = []
    for product in (ours, theirs):
        inputs = (x.clone().requires_grad_(), skew.clone().requires_grad_())
        (product(inputs[0], mask, inputs[1]) * weight).sum().backward()
        gradients.append((inputs[0].grad, inputs[1].grad - inputs[1].grad.T))
    # by hand: weight turns by 2 radians in the first two coordinates, loses the second of them, and turns back
    cos, sin = math.cos(2), math.sin(2)
    left = cos - 2 * sin
    by_hand = torch.tensor([[left * cos, -left * sin, 3]], dtype=torch.float64)
    assert torch.allclose(gradients[0][0], by_hand, atol=1e-12)
    for one, other in zip(*gradients, strict=True):
        assert other.abs().max() > 0.05
        assert torch.allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("size", [1e6, float("nan")])
def test_a_das_that_diverged_says_so(size):
    das = Das(8, seed=0)
    das.move_to(torch.full((8, 8), size))
    with pytest.raises(UserError, match="lower --lr"):
        das.freeze(torch.randn(2, 8)).patch(torch.tensor([0]), torch.tensor([1]), torch.ones(8))


def test_masked_zeros_are_zeros():
    """What the difference of a city and itself is: nothing moves, and nothing divides by 0."""
    A = skew_of_norm(8.0, 24, 0, torch.float32).requires_grad_(True)
    masked = ours(torch.zeros(3, 24), torch.rand(24), A)
    masked.sum().backward()
    assert torch.equal(masked, torch.zeros(3, 24))
    assert torch.equal(A.grad, torch.zeros(24, 24))


# ---------------------------------------------------------------- DAS


def moved_das(d: int, seed: int, norm: float = 4.0) -> Das:
    """A DAS somewhere on its way: its skew matrix has this norm."""
    das = Das(d, seed)
    # diagonal and above: numbers that must not matter
    das.move_to(skew_of_norm(norm, d, seed + 10, torch.float32).tril(-1) + randn(d, d, seed=seed + 20).triu())
    return das


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_das_is_torch_s_orthogonal_parametrization(seed):
    """Same start and same parameter: same rotation, and same gradient of the parameter."""
    d = 16
    das = moved_das(d, seed)
    linear = torch.nn.Linear(d, d, bias=False)
    torch.nn.utils.parametrizations.orthogonal(linear, "weight", orthogonal_map="matrix_exp", use_trivialization=True)
    own = linear.parametrizations.weight
    own[0].base = das.start.clone()
    with torch.no_grad():
        own.original.copy_(das.A)

    torch.testing.assert_close(das.rotation(), linear.weight, rtol=0, atol=1e-5)
    assert (das.rotation() - das.start).abs().max() > 0.1
    weight = randn(d, d, seed=seed + 30)
    (das.rotation() * weight).sum().backward()
    (linear.weight * weight).sum().backward()
    torch.testing.assert_close(das.A.grad.tril(-1), own.original.grad, rtol=1e-4, atol=1e-4)
    assert torch.equal(das.A.grad, -das.A.grad.T)


def test_das_starts_from_an_orthogonal_matrix_of_its_seed():
    state = torch.random.get_rng_state()
    starts = [Das(32, seed).rotation().detach() for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert (starts[0] - starts[2]).abs().max() > 0.1
    for start in starts:
        torch.testing.assert_close(start.T @ start, torch.eye(32), rtol=0, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), state)  # draws nothing from anyone else's numbers


def test_das_s_saved_rotation_is_orthogonal_after_training():
    d = 48
    das = Das(d, 0)
    optimizer = torch.optim.Adam(das.parameters(), lr=0.03)
    for step in range(30):
        gradient = randn(d, d, seed=step)
        das.A.grad = gradient - gradient.T
        optimizer.step()
    saved = das.saved()
    assert set(saved) == {"rotation"}
    rotation = saved["rotation"]
    assert rotation.dtype == torch.float32
    assert (rotation - das.start).abs().max() > 0.1
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(d), rtol=0, atol=1e-5)
    torch.testing.assert_close(rotation, das.rotation().detach(), rtol=0, atol=1e-4)
    # features = x @ rotation
    x = randn(5, d)
    torch.testing.assert_close(x @ rotation, das.encode(x)[0].detach(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("norm", [0.0, 1.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_das_frozen_is_the_formula_with_its_gradients(seed, norm):
    d, R = 20, 9
    das = moved_das(d, seed, norm)
    x_RD = randn(R, d, seed=seed)
    base, source = torch.tensor([0, 1, 2, 3, 4, 5, 5]), torch.tensor([8, 7, 6, 0, 1, 2, 5])
    mask = torch.rand(d, generator=torch.Generator().manual_seed(seed)).requires_grad_(True)
    weight = randn(len(base), d, seed=seed + 40)

    # R (1 - m) R^T x_b + R m R^T x_s, written out in float64
    rotation = das.saved()["rotation"].double()
    f_base, f_source = x_RD[base].double() @ rotation, x_RD[source].double() @ rotation
    by_hand = ((1 - mask.detach()) * f_base + mask.detach() * f_source) @ rotation.T

    found = {}
    for name, patched in (
        ("plain", das.patch(x_RD[base], x_RD[source], mask)),
        ("frozen", das.freeze(x_RD).patch(base, source, mask)),
    ):
        torch.testing.assert_close(patched.double(), by_hand, rtol=0, atol=2e-5)
        found[name] = torch.autograd.grad((patched * weight).sum(), (mask, das.A))
    for plain, frozen in zip(found["plain"], found["frozen"], strict=True):
        assert plain.abs().max() > 0.1
        torch.testing.assert_close(frozen, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())


def test_das_s_rotation_cancels_where_the_mask_is_uniform():
    """At mask 1/2 everywhere (theta = 0) there is no gradient but rounding."""
    das = moved_das(20, 0)
    x_RD = randn(9, 20)
    base, source = torch.arange(4), torch.arange(4, 8)
    patched = das.freeze(x_RD).patch(base, source, torch.full((20,), 0.5))
    torch.testing.assert_close(patched, (x_RD[base] + x_RD[source]) / 2, rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad((patched * randn(4, 20, seed=1)).sum(), das.A)
    assert gradient.abs().max() < 1e-4


# ---------------------------------------------------------------- SAEs

D, N = 8, 40
RARE = 7  # the latent that fires on the last vector of the table only
DEAD = slice(30, 40)  # those that fire on none


def make_sae(convention: str) -> SparseAutoencoder:
    """An SAE of which some latents never fire and one fires on a single vector of the table."""
    family = convention.split()[0]
    sae = SparseAutoencoder(
        *(family, 1, "", randn(D, N, seed=1), randn(N, seed=3) - 1, randn(N, D, seed=2), randn(D, seed=4)),
        subtract_b_dec=family != "apollo",
        centred=family != "openai",
        normalised=convention == "openai",
        k=6 if convention == "openai" else None,
    )
    sae.b_enc[DEAD] = -100.0
    if not sae.normalised:  # a vector must go 6 or so in this direction
        sae.W_enc[:, RARE], sae.b_enc[RARE] = 10 * direction(), -60.0
    return sae


def direction() -> torch.Tensor:
    centred = randn(D, seed=5) - randn(D, seed=5).mean()
    return centred / centred.norm()


def table(R: int = 70) -> torch.Tensor:
    """More vectors than are encoded at once; the last one lies far out in one direction."""
    x_RD = 1.5 * randn(R, D, seed=6) + 0.7
    x_RD[-1] = 9 * direction() + 0.7
    return x_RD


CONVENTIONS = ("openai", "openai relu", "apollo", "bloom")
PAIRS = (torch.tensor([0, 3, 3, 5, 69, 12]), torch.tensor([1, 69, 3, 68, 2, 66]))


@pytest.fixture(params=CONVENTIONS)
def sae(request, tmp_path) -> SparseAutoencoder:
    """As load_sae gives it: the conventions are the loader's own."""
    made = make_sae(request.param)
    path = tmp_path / "sae.pt"
    save_sae(made.family, path, made, 12)
    return load_sae(made.family, path)


with_and_without_error_term = pytest.mark.parametrize("error_term", [False, True], ids=["plain", "error term"])


@with_and_without_error_term
def test_sae_frozen_is_the_formula_with_its_gradients(sae, error_term):
    x_RD = table()
    base, source = PAIRS
    featurizer = Sae(sae, error_term)
    frozen = featurizer.freeze(x_RD)
    weight = randn(len(base), D, seed=7)
    theta = randn(N, seed=8).requires_grad_(True)
    active = theta.detach()[frozen.alive].requires_grad_(True)

    dense = featurizer.patch(x_RD[base], x_RD[source], torch.sigmoid(theta))
    narrow = frozen.patch(base, source, torch.sigmoid(active))
    torch.testing.assert_close(narrow, dense, rtol=1e-5, atol=2e-5)
    (dense * weight).sum().backward()
    (narrow * weight).sum().backward()
    widened = frozen.widen(active.grad, N)
    torch.testing.assert_close(widened, theta.grad, rtol=1e-4, atol=2e-5)
    assert theta.grad.abs().max() > 0.1

    # Left out is what fires nowhere, and that has a gradient of exactly 0.
    alive = torch.zeros(N, dtype=torch.bool)
    alive[frozen.alive] = True
    assert torch.equal(alive, (sae.encode(x_RD)[0] > 0).any(0))
    assert alive.sum() > 15 and not alive[DEAD].any()
    assert torch.equal(theta.grad[~alive], torch.zeros(int((~alive).sum())))
    assert torch.equal(widened[~alive], torch.zeros(int((~alive).sum())))


@with_and_without_error_term
def test_sae_mask_0_is_the_reconstruction_and_mask_1_the_source_s_features(sae, error_term):
    x_RD = table()
    base, source = PAIRS
    featurizer = Sae(sae, error_term)
    frozen = featurizer.freeze(x_RD)
    latents, context = sae.encode(x_RD[base])
    error = x_RD[base] - sae.decode(latents, context) if error_term else 0
    expected = {
        0.0: sae.decode(latents, context) + error,
        1.0: sae.decode(sae.encode(x_RD[source])[0], context) + error,
    }
    assert (expected[0.0] - expected[1.0]).abs().max() > 0.1
    for mask, x_hat in expected.items():
        dense = featurizer.patch(x_RD[base], x_RD[source], torch.full((N,), mask))
        narrow = frozen.patch(base, source, torch.full((len(frozen.alive),), mask))
        torch.testing.assert_close(dense, x_hat, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(narrow, x_hat, rtol=1e-5, atol=2e-5)


def test_sae_with_the_error_term_and_mask_0_changes_nothing(sae):
    x_RD = table()
    base, source = PAIRS
    featurizer = Sae(sae, error_term=True)
    frozen = featurizer.freeze(x_RD)
    unchanged = frozen.patch(base, source, torch.zeros(len(frozen.alive)))
    torch.testing.assert_close(unchanged, x_RD[base], rtol=0, atol=1e-5)
    unchanged = featurizer.patch(x_RD[base], x_RD[source], torch.zeros(N))
    torch.testing.assert_close(unchanged, x_RD[base], rtol=0, atol=1e-5)
    # Without it the reconstruction is spliced in, and these SAEs reconstruct badly.
    spliced = Sae(sae).freeze(x_RD).patch(base, source, torch.zeros(len(frozen.alive)))
    assert (spliced - x_RD[base]).abs().max() > 0.1


def test_sae_keeps_a_latent_that_fires_on_a_single_vector():
    """The last of 70, which are encoded 64 at a time."""
    sae, x_RD = make_sae("bloom"), table()
    assert (sae.encode(x_RD)[0][:, RARE] > 0).nonzero()[:, 0].tolist() == [69]
    assert RARE in Sae(sae).freeze(x_RD).alive
    assert RARE not in Sae(sae).freeze(x_RD[:-1]).alive


def train_theta(n: int, patch, to: torch.Tensor, steps: int = 20) -> torch.Tensor:
    """Dense Adam on theta [n] against a squared error, a few pairs at a time."""
    theta = torch.zeros(n, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.03)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        base, source = torch.randint(len(to), (2, 3), generator=generator)
        loss = (patch(base, source, torch.sigmoid(theta / (1 - step / steps))) - to[base]).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return theta.detach()


@with_and_without_error_term
def test_sae_training_what_fires_is_training_everything(sae, error_term):
    """20 steps of Adam on all latents, and on those that fire: the same theta."""
    x_RD = table()
    featurizer = Sae(sae, error_term)
    frozen = featurizer.freeze(x_RD)
    to = randn(len(x_RD), D, seed=9)
    wide = train_theta(N, lambda base, source, mask: featurizer.patch(x_RD[base], x_RD[source], mask), to)
    narrow = frozen.widen(train_theta(len(frozen.alive), frozen.patch, to), N)
    torch.testing.assert_close(narrow, wide, rtol=0, atol=1e-5)
    assert (wide != 0).sum() > 5 and wide.abs().max() > 0.2
    dead = torch.ones(N, dtype=torch.bool)
    dead[frozen.alive] = False
    assert torch.equal(wide[dead], torch.zeros(int(dead.sum())))


def test_sae_l0_counts_the_latents_that_fire():
    """3 vectors: ReLU of x itself with encoder 1; (1, 2), (1, -1), (-1, 0) fire 2, 1 and 0 latents."""
    eye, zeros = torch.eye(2), torch.zeros(2)
    sae = SparseAutoencoder("bloom", 0, "", eye, zeros, eye, zeros, subtract_b_dec=True)
    assert Sae(sae).l0(torch.tensor([[1.0, 2.0], [1.0, -1.0], [-1.0, 0.0]])) == 1.0
    assert Sae(sae).l0(torch.tensor([[1.0, 2.0], [1.0, -1.0], [2.0, -3.0]])) == 1.333
    assert Neuron(2).l0(torch.ones(1, 2)) is None


# ---------------------------------------------------------------- neurons, and the ends of every mask


def test_neuron_frozen_is_the_formula():
    x_RD = randn(9, 6)
    base, source = torch.tensor([0, 1, 2]), torch.tensor([8, 7, 2])
    mask = torch.tensor([0.0, 1.0, 0.25, 0.5, 0.75, 1.0], requires_grad=True)
    neuron = Neuron(6)
    dense = neuron.patch(x_RD[base], x_RD[source], mask)
    frozen = neuron.freeze(x_RD)
    torch.testing.assert_close(frozen.patch(base, source, mask), dense)
    torch.testing.assert_close(
        dense[:, :3],
        torch.stack([x_RD[base, 0], x_RD[source, 1], 0.75 * x_RD[base, 2] + 0.25 * x_RD[source, 2]], dim=1),
    )
    (expected,) = torch.autograd.grad(dense.sum(), mask, retain_graph=True)
    (found,) = torch.autograd.grad(frozen.patch(base, source, mask).sum(), mask)
    torch.testing.assert_close(found, expected)
    assert frozen.alive is None
    assert torch.equal(frozen.widen(mask, 6), mask)


@pytest.mark.parametrize("method", ["neuron", "das"])
def test_without_an_sae_mask_0_is_the_base_and_mask_1_the_source(method):
    featurizer = moved_das(16, 0) if method == "das" else Neuron(16)
    x_RD = randn(9, 16)
    base, source = torch.tensor([0, 1, 2]), torch.tensor([8, 7, 2])
    frozen = featurizer.freeze(x_RD)
    for mask, expected in ((torch.zeros(16), x_RD[base]), (torch.ones(16), x_RD[source])):
        torch.testing.assert_close(frozen.patch(base, source, mask), expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(featurizer.patch(x_RD[base], x_RD[source], mask), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["openai", "apollo", "bloom"])
def test_what_is_frozen_lets_the_sae_go(family):
    """Large SAEs of one layer would else lie in memory together."""
    sae = make_sae(family)
    frozen = Sae(sae, error_term=True).freeze(randn(9, D))
    whole = [weakref.ref(part) for part in (sae, sae.W_enc, sae.W_dec)]
    del sae
    gc.collect()
    assert [part() for part in whole] == [None, None, None]
    rows = torch.tensor([0, 1])
    assert torch.isfinite(frozen.patch(rows, rows, torch.ones(len(frozen.alive)))).all()


def test_the_alive_are_those_of_all_chunks(monkeypatch):
    """Ascending and complete, however the table is cut."""
    sae, x = make_sae("bloom"), randn(11, D)
    latents, _ = sae.encode(x)
    expected = (latents > 0).any(0).nonzero()[:, 0]
    for size in (1, 2, 4, 64):
        monkeypatch.setattr(sae_file, "CHUNK", size)
        alive, values = Sae(sae)._alive_latents(x)
        assert torch.equal(alive, expected)
        torch.testing.assert_close(values, latents[:, expected], rtol=1e-5, atol=1e-6)


def test_every_method_builds_its_own_featurizer():
    sae = make_sae("bloom")
    need = Ingredients(D, seed=3, sae=sae, error_term=True)
    for name, method in METHODS.items():
        featurizer = method.build(need)
        assert method.release == (name if name in RELEASES else None)
        assert isinstance(featurizer, Sae) == (name in RELEASES)
        assert isinstance(featurizer, Das) == (name == "das")
        assert featurizer.n_features == (N if name in RELEASES else D)
        assert method.fixed_mask == {"none": 0.0, "full": 1.0}.get(name)
        assert len(list(featurizer.parameters())) == (name == "das")
        if name in RELEASES:
            assert featurizer.error_term
            assert not method.build(dataclasses.replace(need, error_term=False)).error_term
    torch.testing.assert_close(METHODS["das"].build(need).start, Das(D, 3).start, rtol=0, atol=0)
