"""How pairs are cut into batches: ours, and the paper's code's."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import UserError
from data.batches import PairBatch
from masks.batching import BATCHINGS
from masks.names import BATCHING_NAMES, default_batching
from masks.training import Schedule


def pairs_of(n_cause: int, n_isolation: int) -> PairBatch:
    """Pair i has base i; kinds are mingled."""
    n = n_cause + n_isolation
    is_cause = torch.zeros(n, dtype=torch.bool)
    is_cause[torch.randperm(n, generator=torch.Generator().manual_seed(0))[:n_cause]] = True
    number = torch.arange(n)
    return PairBatch.of(number, number, number, (~is_cause).long())


def epochs(batching: str, pairs: PairBatch, size: int, seed: int, n: int = 3) -> list[list[list[int]]]:
    found = itertools.islice(BATCHINGS[batching](pairs, size, seed), n)
    return [[batch.tolist() for batch in epoch] for epoch in found]


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 4), st.integers(0, 99))
def test_original_keeps_kinds_apart_and_repeats_its_batches(n_cause, n_isolation, size, seed):
    """Each whole batch is of one kind; remainders are dropped; every epoch is the first again."""
    pairs = pairs_of(n_cause, n_isolation)
    first, *others = epochs("original", pairs, size, seed)
    assert all(epoch == first for epoch in others)
    kinds = [pairs.is_cause[batch].tolist() for batch in first]
    assert all(len(set(kind)) == 1 and len(kind) == size for kind in kinds)
    assert sum(kind[0] for kind in kinds) == n_cause // size
    assert sum(not kind[0] for kind in kinds) == n_isolation // size
    used = [i for batch in first for i in batch]
    assert len(used) == len(set(used))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 7), st.integers(0, 99))
def test_mixed_holds_every_pair_once_an_epoch(n_cause, n_isolation, size, seed):
    pairs = pairs_of(n_cause, n_isolation)
    for epoch in epochs("mixed", pairs, size, seed):
        assert sorted(i for batch in epoch for i in batch) == list(range(len(pairs)))
        assert all(len(batch) == size for batch in epoch[:-1])


def test_seeds_and_epochs_differ_as_they_should():
    pairs = pairs_of(32, 32)
    mixed = epochs("mixed", pairs, 8, seed=0)
    assert mixed[0] != mixed[1] != mixed[2]
    original = [epochs("original", pairs, 8, seed)[0] for seed in (0, 0, 1)]
    assert original[0] == original[1] != original[2]
    assert sorted(original[0]) == sorted(original[2])  # the batches themselves are cut alike, only their order differs
    kinds = [bool(pairs.is_cause[batch[0]]) for batch in original[0]]
    assert kinds != sorted(kinds) and kinds != sorted(kinds, reverse=True)  # not one kind after the other


def test_too_few_pairs_of_a_kind_are_told():
    with pytest.raises(UserError, match=r"fewer than 16 isolation pairs to train on.*--batching mixed"):
        Schedule(1, 16, 1e-3, (10.0, 0.1), batching="original").sizes(pairs_of(40, 9))


def test_temperatures_of_the_original_are_bfloat16():
    """8 bits of mantissa: 10 - 9.9 / 139 = 9.92878 becomes 9.9375, the last one .10009765625."""
    mixed, original = (Schedule(20, 16, 1e-3, (10.0, 0.1), batching=name).temperatures(140) for name in BATCHING_NAMES)
    assert mixed[1].item() == pytest.approx(10 - 9.9 / 139, abs=1e-12)
    assert (original[0].item(), original[1].item(), original[-1].item()) == (10.0, 9.9375, 0.10009765625)
    assert ((original - mixed).abs() / mixed).max() <= 2**-8


def test_default_follows_the_mode():
    assert set(BATCHINGS) == set(BATCHING_NAMES)
    assert (default_batching("paper"), default_batching("strict")) == ("original", "mixed")
