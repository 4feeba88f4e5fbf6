"""Shares: which cells are done together, under which lease, and that two ways to share out do not meet."""

from dataclasses import dataclass

import pytest
import torch
from helpers_cli import finish
from helpers_forks import fork
from helpers_grid import require_no_leftovers, require_same, results, run

from common.leases import Lease
from grid.shares import Share, share_of, shared_out, take
from grid.work import clear_away
from results.store import Store

GRID = ("--model", "toy", "--device", "cpu", "--layers", "2", "--epochs", "1", "--max-pairs", "64", "--methods")
GRID = (*GRID, "none", "full", "neuron", "das", "neuron:features", "neuron:cause", "bloom", "bloom:permuted")


@dataclass(frozen=True)
class Cell:
    method: str
    layer: int = 5


def test_what_is_done_together():
    assert share_of(Cell("das"), "layer") == Share(5)
    for method, head in (
        *((name, "none") for name in ("none", "full")),
        *((name, name) for name in ("das", "das@4", "das:cause", "sae:runs/mine", "bloom@32")),
        *((f"{name}:features", name) for name in ("neuron", "bloom", "sae:runs/mine")),
        *(("bloom:permuted", "bloom"), ("bloom:random", "bloom"), ("das:shuffled", "das")),
    ):
        assert share_of(Cell(method), "method") == Share(5, head), method
    cells = [Cell("das", 7), Cell("neuron", 2), Cell("das", 2), Cell("das:features", 2), Cell("neuron", 7)]
    assert list(shared_out(cells, "layer")) == [Share(2), Share(7)]
    found = shared_out(cells, "method")
    assert list(found) == [Share(2, "neuron"), Share(2, "das"), Share(7, "das"), Share(7, "neuron")]
    assert found[Share(2, "das")] == [Cell("das", 2), Cell("das:features", 2)]


def test_names():
    assert str(Share(5)) == "layer05"
    assert str(Share(5, "sae:a/b", "scores-")) == "scores-layer05-sae:a--b"
    assert Share(5, "das").name == "layer 5, das"


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path, "toy")


@pytest.mark.parametrize(
    ("first", "second", "is_free"),
    [
        (Share(5), Share(5), False),
        (Share(5), Share(5, "das"), False),
        (Share(5, "das"), Share(5), False),
        (Share(5, "das"), Share(5, "das"), False),
        (Share(5, "das"), Share(5, "neuron"), True),
        (Share(5), Share(6, "das"), True),
        (Share(5), Share(5, None, "scores-"), True),
        (Share(5, "das", "scores-"), Share(5), True),
        (Share(5, "das", "scores-"), Share(5, None, "scores-"), False),
    ],
)
def test_who_waits_for_whom(store, first, second, is_free):
    with take(first, store):
        other = take(second, store)
        assert (other is not None) == is_free
        if other:
            with other:
                pass
    with take(second, store):  # what its owner has let go holds nobody up
        pass


@pytest.mark.parametrize(("ours", "theirs"), [(Share(5), Share(5, "das")), (Share(5, "das"), Share(5))])
def test_both_ways_at_the_same_moment(store, monkeypatch, ours, theirs):
    """The other lease appears just when ours is created: we let ours go."""
    real, found = Lease.take.__func__, []

    def and_another(cls, path, *more):
        lease = real(cls, path, *more)
        monkeypatch.setattr(Lease, "take", classmethod(real))
        found.append(take_by_force(theirs))
        return lease

    def take_by_force(share: Share) -> Lease:
        return Lease.take(store.lease_path(share))

    monkeypatch.setattr(Lease, "take", classmethod(and_another))
    assert take(ours, store) is None
    assert not store.lease_path(ours).exists()
    assert store.lease_path(theirs).exists()
    with found[0]:
        pass


def test_method_by_method(toy_world, tmp_path):
    """Two processes and a second command, all method by method, do what one process does."""
    undisturbed, _ = run(tmp_path / "one", *GRID, "--per", "method")
    commands = [
        fork(*GRID, "--per", "method", *more, "--output", tmp_path / "out") for more in (("--workers", "2"), ())
    ]
    for command in commands:
        status, out, err = finish(command)
        assert status == 0, err
        assert "disentangle, hard mask, test pairs" in out
    root = tmp_path / "out" / "toy"
    assert len(results(root)) == 2 * 8
    require_same(results(root), results(undisturbed))
    require_no_leftovers(root)
    by_layer, _ = run(tmp_path / "layer", *GRID)  # trained with others in one pass: the same up to rounding
    others = results(by_layer)
    for name, result in results(root).items():
        assert torch.allclose(result["tensors"]["theta"], others[name]["tensors"]["theta"], atol=1e-3), name


def test_what_was_left_of_the_other_way_is_cleared_away(store):
    """A lease of a dead process, whichever way it shared out."""
    for share in (Share(5), Share(5, "das")):
        lease = Lease.take(store.lease_path(share))
        lease.owner.started = "another boot"
        lease._renew()
    assert len(store.tasks_left()) == 2
    clear_away(store)
    assert store.tasks_left() == []
