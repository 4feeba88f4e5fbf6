"""Steps that are taken many at a time, as on a CUDA device: what was wrong is taken again.

There need be no GPU: calls stand in for graphs.
"""

import contextlib
from unittest import mock

import pytest
import torch
from helpers_masks import LAYER, METHODS, World, make_job, toy_at_layer

from featurizers.rotation import NormBound
from featurizers.skew import Dense
from masks import stepping, training
from masks.training import Batches, MaskRun, Schedule, train

SCHEDULE = Schedule(epochs=3, batch_size=16, lr=3e-3, temperature=(1.0, 0.1))


@pytest.fixture(scope="module")
def world(toy_world) -> World:
    """Few-shot prompts, so that country and continent have different prefixes."""
    found = toy_at_layer(toy_world, "few-shot")
    assert len(found.cache.prefixes) == 2
    return found


def make_jobs(world, methods=METHODS, n_pairs: int = 120) -> list[MaskRun]:
    return [make_job(world, method, seed, n_pairs) for seed, method in enumerate(methods)]


# ---------------------------------------------------------------- what a step is given


def test_plan_holds_every_pair_once_an_epoch(world):
    """10 pairs in batches of 4: the last has 2, which weigh as much together as 4 do; shuffled anew each epoch."""
    (job,) = make_jobs(world, ("neuron",))
    job.pairs = job.pairs[slice(0, 10)]
    plan = Batches.of([job], Schedule(epochs=3, batch_size=4, lr=1e-3, temperature=(10.0, 0.1)))
    assert plan.rows.shape == (9, 1, 3, 4)
    assert plan.share.sum(-1).allclose(torch.ones(9, 1))
    assert plan.share[2, 0].tolist() == [0.5, 0.5, 0, 0]
    wanted = sorted(zip(*(t.tolist() for t in (job.pairs.base, job.pairs.source, job.pairs.label)), strict=True))
    orders = []
    for epoch in range(3):
        rows, share = plan.rows[3 * epoch : 3 * epoch + 3, 0], plan.share[3 * epoch : 3 * epoch + 3, 0]
        orders.append([tuple(row) for row in rows.movedim(1, -1).reshape(12, 3)[share.flatten() > 0].tolist()])
        assert sorted(orders[-1]) == wanted
    assert orders[0] != orders[1] != orders[2]
    assert plan.temperature[:, 0].tolist() == pytest.approx([10 - 9.9 * i / 8 for i in range(9)])


def test_plan_stretches_end_where_a_run_does(world):
    jobs = make_jobs(world, ("neuron", "openai", "bloom"))
    for job, n in zip(jobs, (40, 16, 40), strict=True):
        job.pairs = job.pairs[slice(0, n)]
    plan = Batches.of(jobs, SCHEDULE)
    assert plan.n_steps == [9, 3, 9]
    (first, one), (second, two) = plan.stretches()
    assert (first, second) == ([0, 1, 2], [0, 2])
    assert torch.equal(one.rows, plan.rows[:3])
    assert torch.equal(two.rows, plan.rows[3:, [0, 2]])


# ---------------------------------------------------------------- many at a time


def theta_of(jobs: list[MaskRun], **options) -> list:
    return [its.theta for its in train(jobs, SCHEDULE, "cpu", **options)]


def test_steps_many_at_once_are_the_same_steps(world):
    """To the bit where no rotation is trained: nothing else depends on how many are taken."""
    methods = ("neuron", "openai", "bloom")
    one_by_one = theta_of(make_jobs(world, methods))
    for at_once in (5, 1000):
        for ours, theirs in zip(theta_of(make_jobs(world, methods), at_once=at_once), one_by_one, strict=True):
            assert theirs.abs().max() > 0.01
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("room", [1.5, 1.0])
def test_steps_that_a_rotation_outgrew_are_taken_again(world, monkeypatch, room):
    """At first A is 0 and grows beyond any room; what trains beside it is as if nothing had happened, to the bit.

    das itself ends with the same answers: its series is cut elsewhere, and rounding decides its first steps.
    """
    monkeypatch.setattr(stepping, "ROOM", room)
    taken = []

    class Counted(stepping.Steps):
        def _take(self, n):
            taken.append(n)
            super()._take(n)

    monkeypatch.setattr(training, "steps_on", lambda _, *args: Counted(*args))
    jobs = {at_once: make_jobs(world) for at_once in (1, 6)}
    trained = {at_once: train(jobs[at_once], SCHEDULE, "cpu", at_once=at_once) for at_once in jobs}
    n_steps = Batches.of(jobs[1], SCHEDULE).n_steps[0]
    assert taken[:n_steps] == [1] * n_steps
    assert sum(taken[n_steps:]) > n_steps  # some were taken again
    for j, method in enumerate(METHODS):
        one, many = (its[j] for its in trained.values())
        if method == "das":
            with torch.no_grad():
                answers = [
                    its[1].engine.logits(its[1].pairs, torch.sigmoid(found[1].theta / 0.1)).argmax(-1)
                    for its, found in zip(jobs.values(), trained.values(), strict=True)
                ]
            assert (answers[0] == answers[1]).float().mean() > 0.9
        else:
            assert torch.equal(one.theta, many.theta)
            assert one.history == many.history
    rotations = [job.featurizer for its in jobs.values() for job in its if job.featurizer]
    assert all(rotation.norm_bound.value is None for rotation in rotations)
    for rotation in rotations:  # no step puts A together anew (rotation.keep_skew)
        assert rotation.A.abs().max() > 0.01
        assert torch.equal(rotation.A, -rotation.A.T)


def test_reach_that_is_fair_does_not_change_the_series(world):
    """Measured, fixed with room to spare, and much too wide: logits to 1e-5, gradient to 1e-4; too short: it tells."""
    subject, cache, _ = world
    (job,) = make_jobs(world, ("das",))
    das = job.featurizer
    das.move_to(torch.empty_like(das.A).normal_(0, 0.1, generator=torch.Generator().manual_seed(3)))
    found = []
    for room in (None, 1.5, 6.0, 0.3):
        if room is not None:
            das.norm_bound = NormBound()
            das.norm_bound.fix(das.skew(), room)
        mask = torch.rand(subject.d_model, generator=torch.Generator().manual_seed(4)).requires_grad_()
        logits = job.engine.logits(job.pairs[slice(0, 20)], mask)
        gradients = torch.autograd.grad(logits.logsumexp(-1).sum(), (mask, das.A))
        found.append((logits.detach(), *gradients))
        if room is not None:
            assert das.norm_bound.was_enough() == (room > 1)
    for right in found[1:3]:
        for ours, theirs in zip(right, found[0], strict=True):
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert (found[3][0] - found[0][0]).abs().max() > 1e-3
    assert subject.layer_cache(cache, LAYER) is job.engine.layer_cache


def test_reach_that_is_fair_is_kept():
    """With the same reach a graph can be used again."""
    skew = torch.empty(16, 16).normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    skew = skew - skew.T
    reach, values = NormBound(), []
    for times in (1.0, 1.2, 2.0, 0.1):
        reach.fix(times * skew, room=1.5)
        values.append(reach.value)
        reach.of(Dense(times * skew))
        assert reach.was_enough()
    assert values[0] == values[1] < values[2] > values[3]
    reach.fix(skew, room=1.5, at_least=30.0)
    assert reach.value >= 30
    reach.of(Dense(40 * skew))
    assert not reach.was_enough()


# ---------------------------------------------------------------- graphs


class FakeCuda:
    """In the place of torch.cuda: what is captured leaves no trace, and is called again when replayed."""

    def __init__(self, monkeypatch, fails_at: int | None = None):
        """fails_at: the capture that cannot be made."""
        self.captures = self.replays = 0
        self.fails_at = fails_at
        self.steps: stepping.GraphedSteps | None = None
        monkeypatch.setattr(torch.cuda, "Stream", mock.Mock)
        monkeypatch.setattr(torch.cuda, "current_stream", mock.Mock)
        monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph", self.capture)

        def steps_on(_, *args):
            self.steps = stepping.GraphedSteps(*args)
            return self.steps

        monkeypatch.setattr(training, "steps_on", steps_on)

    @contextlib.contextmanager
    def capture(self, graph):
        self.captures += 1
        state = [*self.steps._state(), self.steps.record]
        before = [t.clone() for t in state]
        yield
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        if self.captures == self.fails_at:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    def replay(self):
        self.replays += 1
        self.steps.step()


def test_graph_is_captured_once_and_replayed(world, monkeypatch):
    methods = ("neuron", "openai")
    wanted = theta_of(make_jobs(world, methods))
    cuda = FakeCuda(monkeypatch)
    jobs = make_jobs(world, methods)
    found = theta_of(jobs, at_once=7)
    assert cuda.captures == 1
    assert cuda.replays == Batches.of(jobs, SCHEDULE).n_steps[0] - cuda.steps.warm_up
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_graph_is_captured_anew_when_a_series_must_reach_further(world, monkeypatch):
    cuda = FakeCuda(monkeypatch)
    reaches = []
    fix = NormBound.fix
    monkeypatch.setattr(NormBound, "fix", lambda reach, *args: (fix(reach, *args), reaches.append(reach.value))[0])
    train(make_jobs(world, ("das", "neuron")), SCHEDULE, "cpu", at_once=7)
    changes = sum(a != b for a, b in zip([None, *reaches[:-1]], reaches, strict=True))
    assert 1 < changes < len(reaches)
    assert cuda.captures == changes


def test_graph_that_cannot_be_captured_leaves_single_steps(world, monkeypatch, capsys):
    wanted = theta_of(make_jobs(world, ("neuron",)))
    cuda = FakeCuda(monkeypatch, fails_at=1)
    (found,) = theta_of(make_jobs(world, ("neuron",)), at_once=7)
    assert torch.equal(found, wanted[0])
    assert (cuda.captures, cuda.replays) == (1, 0)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be captured as a CUDA graph: operation not permitted when" in err


def test_capture_that_fails_later_leaves_single_steps_and_the_same_results(world, monkeypatch, capsys):
    """The third is of a longer series; what two graphs had done by then stands, to the bit."""
    methods, found, captures = ("das", "neuron"), [], []
    for fails_at in (None, 3):
        cuda = FakeCuda(monkeypatch, fails_at)
        jobs = make_jobs(world, methods)
        found.append([*theta_of(jobs, at_once=7), jobs[0].featurizer.A])
        captures.append(cuda.captures)
    assert captures[0] >= 3 and captures[1] == 3
    for ours, theirs in zip(*found, strict=True):
        assert theirs.abs().max() > 0.01
        assert torch.equal(ours, theirs)
    assert capsys.readouterr().err.count("note: steps are taken one by one") == 1
