"""Attention and its own way back, against softmax written out row by row and torch's way back, in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoder.attention import Group, attend, behind, grouped, merged

HEADS, WIDTH = 2, 3  # heads, head_dim
D = HEADS * WIDTH


def random(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def row_by_row(qkv_BSM, before, n_asking: int):
    """before: a row's own prefix, keys and values [heads, P, head_dim], or None."""
    rows = []
    for qkv_SM, its in zip(qkv_BSM, before, strict=True):
        mixed = []
        for head in range(HEADS):
            query, keys, values = (part[:, head * WIDTH : (head + 1) * WIDTH] for part in qkv_SM.split(D, dim=-1))
            P = 0
            if its is not None:
                P = its[0].shape[1]
                keys, values = torch.cat([its[0][head], keys]), torch.cat([its[1][head], values])
            vectors = []
            for s in range(len(query) - n_asking, len(query)):
                weights = torch.exp(keys[: P + s + 1] @ query[s] / math.sqrt(WIDTH))
                vectors.append(weights / weights.sum() @ values[: P + s + 1])
            mixed.append(torch.stack(vectors))
        rows.append(torch.cat(mixed, dim=-1))
    return torch.stack(rows)


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any),
    lengths=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    positions=st.integers(1, 5),
    asking=st.integers(1, 5),
    kind=st.sampled_from(["grouped", "merged", "nothing"]),
    seed=st.integers(0, 1000),
)
def test_values_and_gradient(counts, lengths, positions, asking, kind, seed):
    """Of queries, keys and values at every position; some rows behind each prefix, one row or several."""
    generator = torch.Generator().manual_seed(seed)
    n_asking = min(asking, positions)
    shapes = [(HEADS, P, WIDTH) for P in lengths[: len(counts)]]
    prefixes = [[(random(generator, *shape), random(generator, *shape))] for shape in shapes]
    owner = [j for j, n in enumerate(counts) for _ in range(n)]
    before = [prefixes[j][0] for j in owner]
    if kind == "grouped":
        standing = grouped(prefixes, counts)
    elif kind == "merged":
        prefix, hidden = merged(prefixes)
        standing = [Group(slice(None), prefix, None if hidden is None else hidden[owner])]
    else:
        standing, before = behind(None), [None] * len(owner)
    qkv = random(generator, len(owner), positions, 3 * D).requires_grad_()
    found = attend(0, qkv, HEADS, standing, n_asking)
    wanted = row_by_row(qkv, before, n_asking)
    assert found.shape == wanted.shape == (len(owner), n_asking, D)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    weight = random(generator, *found.shape)
    gradients = [torch.autograd.grad((out * weight).sum(), qkv)[0] for out in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_all_positions_ask_if_nothing_is_said():
    qkv = random(torch.Generator().manual_seed(0), 2, 4, 3 * D)
    assert torch.equal(attend(0, qkv, HEADS, behind(None)), attend(0, qkv, HEADS, behind(None), 4))


@pytest.mark.parametrize("P", [1, 2, 3, 51])
@pytest.mark.parametrize("n_asking", [1, 8])
@pytest.mark.parametrize(("heads", "width"), [(12, 64), (4, 16)], ids=["GPT-2 small", "the toy world"])
def test_a_row_does_not_depend_on_how_many_stand_beside_it(P, n_asking, heads, width):
    """To the bit, both ways: what trains beside a run does not change it."""
    torch.manual_seed(0)
    prefix = [(torch.randn(heads, P, width), torch.randn(heads, P, width))]
    qkv, grad = torch.randn(60, 8, 3 * heads * width), torch.randn(60, n_asking, heads * width)

    def both_ways(rows):
        part = qkv[rows].requires_grad_()
        out = attend(0, part, heads, behind(prefix), n_asking)
        return out.detach(), *torch.autograd.grad((out * grad[rows]).sum(), part)

    whole = both_ways(slice(None))
    for rows in (slice(1), slice(1, 3), slice(5, 12), slice(16), slice(2, 33)):
        for ours, all_of_them in zip(both_ways(rows), whole, strict=True):
            assert torch.equal(ours, all_of_them[rows])
