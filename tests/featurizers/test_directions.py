"""Orthonormal directions, fixed or trained: the patch against an explicit projector in float64."""

import math

import pytest
import torch

from featurizers.builders import Ingredients
from featurizers.das import Das, LowRankDas
from featurizers.directions import FixedDirections
from featurizers.methods import method_named
from featurizers.rotation import SkewExp
from featurizers.skew import Blocks

D, K = 20, 6
BASE, SOURCE = torch.tensor([0, 1, 2, 3, 4, 4]), torch.tensor([8, 7, 6, 0, 1, 4])


def randn(*shape, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthonormal(n: int, seed: int = 1) -> torch.Tensor:
    """[D, n] in float64."""
    return torch.linalg.qr(randn(D, n, seed=seed, dtype=torch.float64))[0]


def moved(size: int = K, seed: int = 2, norm: float = 2.0) -> LowRankDas:
    """Somewhere on its way: its A has this norm, which is that of B."""
    das = LowRankDas(D, size, seed)
    B = randn(D - size, size, seed=seed + 10)
    with torch.no_grad():
        das.B.copy_(B * (norm / torch.linalg.matrix_norm(B, 2)))
    return das


def exact_directions(das: LowRankDas, size: int) -> torch.Tensor:
    """[D, size] in float64: R0 expm(A), block by block as its docstring has them."""
    A = torch.zeros(D, D, dtype=torch.float64)
    B = das.B.detach().double()
    A[size:, :size], A[:size, size:] = B, -B.T
    return (das.start.double() @ torch.matrix_exp(A))[:, :size]


def projected(x_RD: torch.Tensor, R_DF: torch.Tensor, mask_F: torch.Tensor) -> torch.Tensor:
    """The formula written out: x_base + (R diag(mask) R^T) (x_source - x_base)."""
    x = x_RD.double()
    projector_DD = R_DF @ torch.diag(mask_F.double()) @ R_DF.T
    return x[BASE] + (x[SOURCE] - x[BASE]) @ projector_DD


@pytest.mark.parametrize("n", [1, K, D])
def test_fixed_directions_patch_by_their_projector(n):
    R, x_RD = orthonormal(n), randn(9, D, seed=3)
    mask = torch.rand(n, generator=torch.Generator().manual_seed(4))
    featurizer = FixedDirections(R.float())
    expected = projected(x_RD, R, mask)
    assert (expected - x_RD[BASE]).abs().max() > 0.1
    for found in (
        featurizer.patch(x_RD[BASE], x_RD[SOURCE], mask),
        featurizer.freeze(x_RD).patch(BASE, SOURCE, mask),
    ):
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    assert torch.equal(featurizer.saved()["rotation"], R.float())
    assert not featurizer.is_trained


@pytest.mark.parametrize("size", [1, K, D - 1])
def test_low_rank_das_patches_by_the_projector_onto_its_directions(size):
    das, x_RD = moved(size), randn(9, D, seed=3)
    R, ones = exact_directions(das, size), torch.ones(size)
    expected = projected(x_RD, R, ones)
    assert (expected - projected(x_RD, das.start.double()[:, :size], ones)).abs().max() > 0.1  # it has moved
    found = das.freeze(x_RD).patch(BASE, SOURCE, ones)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(das.patch(x_RD[BASE], x_RD[SOURCE], ones).double(), expected, rtol=0, atol=2e-5)
    saved = das.saved()["rotation"].double()
    assert saved.shape == (D, size)
    torch.testing.assert_close(saved.T @ saved, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(saved, R, rtol=0, atol=1e-6)


@pytest.mark.parametrize("featurizer", [FixedDirections(orthonormal(K).float()), moved(), Das(D, 0)])
def test_a_mask_of_0_changes_nothing(featurizer):
    x_RD, zeros = randn(9, D, seed=3), torch.zeros(featurizer.n_features)
    assert torch.equal(featurizer.freeze(x_RD).patch(BASE, SOURCE, zeros), x_RD[BASE])
    assert torch.equal(featurizer.patch(x_RD[BASE], x_RD[SOURCE], zeros), x_RD[BASE])


def test_as_many_directions_as_dimensions_patch_the_whole_vector():
    x_RD = randn(9, D, seed=3)
    featurizer = FixedDirections(orthonormal(D).float())
    found = featurizer.freeze(x_RD).patch(BASE, SOURCE, torch.ones(D))
    torch.testing.assert_close(found, x_RD[SOURCE], rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", [0.0, 0.5, 4.0])
def test_low_rank_das_has_the_gradient_of_torchs_orthogonal_parametrization(norm):
    """Autograd in float64 through torch's own matrix [D, K] under the same map, whose parameter holds B below."""
    das = moved(norm=norm)
    x_RD, weight = randn(9, D, seed=3), randn(len(BASE), D, seed=5)
    (das.freeze(x_RD).patch(BASE, SOURCE, torch.ones(K)) * weight).sum().backward()

    linear = torch.nn.Linear(K, D, bias=False, dtype=torch.float64)  # its weight is [D, K]
    torch.nn.utils.parametrizations.orthogonal(linear, "weight", orthogonal_map="matrix_exp", use_trivialization=True)
    own = linear.parametrizations.weight
    own[0].base = das.start.double()
    with torch.no_grad():
        own.original.zero_()
        own.original[K:] = das.B.double()
    R, x = linear.weight, x_RD.double()
    patched = x[BASE] + (x[SOURCE] - x[BASE]) @ R @ R.T
    (patched * weight.double()).sum().backward()
    expected = own.original.grad[K:]
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(das.B.grad.double(), expected, rtol=1e-4, atol=1e-4)


def test_low_rank_das_trains_as_few_numbers_as_a_subspace_has_degrees_of_freedom():
    das = LowRankDas(D, K, 0)
    assert sum(p.numel() for p in das.parameters()) == K * (D - K)
    assert das.is_trained and das.n_features == K


def test_low_rank_das_reaches_a_subspace_far_from_its_start():
    """What is to be patched lies across the start: after training, base and source are exchanged there alone."""
    das, wanted, x_RD = LowRankDas(D, K, 0), orthonormal(K, seed=7), randn(40, D, seed=3)
    assert torch.linalg.svdvals(das.start.double()[:, :K].T @ wanted).min() < 0.5
    base, source = torch.randint(40, (2, 200), generator=torch.Generator().manual_seed(0))
    target = (x_RD[base].double() + (x_RD[source] - x_RD[base]).double() @ wanted @ wanted.T).float()
    bound, optimizer = das.freeze(x_RD), torch.optim.Adam(das.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (bound.patch(base, source, torch.ones(K)) - target).square().sum(1).mean()
        loss.backward()
        optimizer.step()
    cosines = torch.linalg.svdvals(das.saved()["rotation"].double().T @ wanted)  # of the principal angles
    assert cosines.min() > math.cos(0.01)


def test_random_dimensions_are_those_with_which_das_of_that_size_begins():
    need = [Ingredients(D, seed=3, size=K), Ingredients(D, seed=4, size=K)]
    found = [method_named(f"random@{K}").build(its).saved()["rotation"] for its in need]
    begun = method_named(f"das@{K}").build(need[0]).rotation().detach()
    torch.testing.assert_close(found[0], begun, rtol=0, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 0.1
    torch.testing.assert_close(found[0].T @ found[0], torch.eye(K), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", [0.0, 1.0, 17.0])
def test_blocks_are_the_dense_matrix_in_float64(norm):
    """The patch, and the gradients of rows and B, by the two narrow products and by torch.matrix_exp."""
    B = randn(D - K, K, seed=6, dtype=torch.float64)
    B = B * (norm / torch.linalg.matrix_norm(B, 2))
    mask = torch.rand(D, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    weight, found = randn(7, D, seed=9, dtype=torch.float64), []
    for exponential in (
        lambda x, b: SkewExp(b, kind=Blocks).masked(x, mask),
        lambda x, b: (x @ (R := torch.matrix_exp(dense(b))) * mask) @ R.T,
    ):
        x = randn(7, D, seed=3, dtype=torch.float64).requires_grad_()
        b = B.clone().requires_grad_()
        out = exponential(x, b)
        found.append([out, *torch.autograd.grad((out * weight).sum(), (x, b))])
    for one, other in zip(*found, strict=True):
        assert other.abs().max() > 0.5
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def dense(B: torch.Tensor) -> torch.Tensor:
    E, size = B.shape
    zeros = [torch.zeros(n, n, dtype=B.dtype) for n in (size, E)]
    return torch.cat([torch.cat([zeros[0], -B.T], 1), torch.cat([B, zeros[1]], 1)])
