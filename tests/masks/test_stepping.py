"""Steps that are taken many at a time, as a CUDA device takes them: nothing is read back, what was wrong is redone.

There need be no GPU: graphs are stood in for by calls, and the meta device refuses whatever a
GPU would have to wait for.
"""

from __future__ import annotations

import contextlib
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from data.intervention_data import index_pairs, make_pairs
from data.ravel_data_prep import build_prompts, read_cities
from decoder.loading import load_subject
from decoder.products import Plain
from featurizers.das import Das
from featurizers.neuron import Neuron
from featurizers.rotation import Reach, series
from featurizers.sae import Sae
from masks import stepping, training
from masks.engines import FastEngine
from masks.training import Job, Plan, Schedule, starting_point, train
from models import Harvest
from saes.loading import load_sae
from saes.places import locate

LAYER = 2
SCHEDULE = Schedule(epochs=3, batch_size=16, lr=3e-3, temperature=(1.0, 0.1))
METHODS = ("neuron", "das", "openai", "bloom")


@pytest.fixture(scope="module")
def world(toy_world):
    """Few-shot prompts, so that country and continent have different prefixes."""
    subject = load_subject(str(toy_world))
    prompts = build_prompts(read_cities(toy_world / "cities.csv"), subject.tokenizer, "few-shot")
    harvest = subject.harvest(prompts, [LAYER], progress=False)
    assert len(harvest.prefixes) == 2
    return subject, prompts, harvest, toy_world


def make_jobs(world, methods=METHODS, n_pairs: int = 120) -> list[Job]:
    subject, prompts, harvest, folder = world
    jobs = []
    for seed, method in enumerate(methods):
        if method == "neuron":
            featurizer = Neuron(subject.d_model)
        elif method == "das":
            featurizer = Das(subject.d_model, seed=seed)
        else:
            featurizer = Sae(load_sae(method, locate(method, folder / "saes", LAYER, subject.n_layers)))
        engine = FastEngine(subject, prompts, harvest, LAYER, featurizer)
        pairs = index_pairs(
            make_pairs(prompts, "country", "paper", "pairs", seed, n_pairs)["train"], prompts, "country"
        )
        jobs.append(Job(engine, featurizer if method == "das" else None, pairs, seed))
    return jobs


def make_steps(jobs: list[Job]) -> stepping.Steps:
    return stepping.Steps(jobs, *starting_point(jobs, SCHEDULE.lr, "cpu"), Plan.of(jobs, SCHEDULE), "fp32")


# ---------------------------------------------------------------- what a step is given


def test_a_plan_holds_every_pair_once_an_epoch(world):
    """10 pairs in batches of 4: the last has 2, which weigh as much together as 4 do; shuffled anew each epoch."""
    (job,) = make_jobs(world, ("neuron",))
    job.pairs = job.pairs[slice(0, 10)]
    plan = Plan.of([job], Schedule(epochs=3, batch_size=4, lr=1e-3, temperature=(10.0, 0.1)))
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


def test_stretches_end_where_a_run_does(world):
    jobs = make_jobs(world, ("neuron", "openai", "bloom"))
    for job, n in zip(jobs, (40, 16, 40), strict=True):
        job.pairs = job.pairs[slice(0, n)]
    plan = Plan.of(jobs, SCHEDULE)
    assert plan.n_steps == [9, 3, 9]
    (first, one), (second, two) = plan.stretches()
    assert (first, second) == ([0, 1, 2], [0, 2])
    assert torch.equal(one.rows, plan.rows[:3])
    assert torch.equal(two.rows, plan.rows[3:, [0, 2]])


# ---------------------------------------------------------------- many at a time


def theta_of(jobs: list[Job], **options) -> list:
    return [its.theta for its in train(jobs, SCHEDULE, "cpu", **options)]


def test_many_steps_at_once_are_the_same_steps(world):
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
    n_steps = Plan.of(jobs[1], SCHEDULE).n_steps[0]
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
    rotations = [job.rotation for its in jobs.values() for job in its if job.rotation]
    assert all(rotation.reach.value is None for rotation in rotations)
    for rotation in rotations:  # no step puts A together anew (rotation.kept_skew)
        assert rotation.A.abs().max() > 0.01
        assert torch.equal(rotation.A, -rotation.A.T)


def test_a_series_of_any_fair_reach_is_the_same(world):
    """Measured, fixed with room to spare, and much too wide: logits to 1e-5, gradient to 1e-4; too short: it tells."""
    subject, _, harvest, _ = world
    (job,) = make_jobs(world, ("das",))
    das = job.rotation
    das.move_to(torch.empty_like(das.A).normal_(0, 0.1, generator=torch.Generator().manual_seed(3)))
    found = []
    for room in (None, 1.5, 6.0, 0.3):
        if room is not None:
            das.reach = Reach()
            das.reach.fix(das.skew(), room)
        mask = torch.rand(subject.d_model, generator=torch.Generator().manual_seed(4)).requires_grad_()
        logits = job.engine.logits(job.pairs[slice(0, 20)], mask)
        gradients = torch.autograd.grad(logits.logsumexp(-1).sum(), (mask, das.A))
        found.append((logits.detach(), *gradients))
        if room is not None:
            assert das.reach.was_enough() == (room > 1)
    for right in found[1:3]:
        for ours, theirs in zip(right, found[0], strict=True):
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert (found[3][0] - found[0][0]).abs().max() > 1e-3
    assert harvest.site(subject, LAYER) is job.engine.site


def test_a_fair_reach_is_kept():
    """With the same reach a graph can be used again."""
    skew = torch.empty(16, 16).normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    skew = skew - skew.T
    reach, values = Reach(), []
    for times in (1.0, 1.2, 2.0, 0.1):
        reach.fix(times * skew, room=1.5)
        values.append(reach.value)
        reach.of(Plain(times * skew))
        assert reach.was_enough()
    assert values[0] == values[1] < values[2] > values[3]
    reach.fix(skew, room=1.5, at_least=30.0)
    assert reach.value >= 30
    reach.of(Plain(40 * skew))
    assert not reach.was_enough()


# ---------------------------------------------------------------- nothing is read back


class NoReading(TorchDispatchMode):
    """Refuses what makes the host wait for a device, or hands it a new number: neither can be captured."""

    READS = ("_local_scalar_dense", "nonzero", "lift_fresh", "item", "masked_select", "unique", "equal", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        if any(name.strip("_").startswith(read.strip("_")) for read in self.READS):
            raise AssertionError(f"{func.name()} waits for the device")
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_back(world, monkeypatch):
    jobs = make_jobs(world)
    for job in jobs:  # as on a GPU
        monkeypatch.setattr(job.engine, "leaves_out", False)
        monkeypatch.setattr(job.engine.site, "sorts", False)
        monkeypatch.setattr(job.engine._subject("fp32").head, "reads_back", False)
    steps = make_steps(jobs)
    steps.advance(1)  # what is set up on first use
    (rotation,) = steps.rotations
    with NoReading(), pytest.raises(AssertionError, match="local_scalar_dense"):
        steps.step()  # it looks up how far the rotation has grown
    rotation.reach.fix(rotation.skew(), 1.5)
    with NoReading():
        steps.step()


class OnMeta:
    """A world on a device that has shapes but no numbers; to mix it up with the CPU, or to read from it, raises."""

    def __init__(self, world, monkeypatch):
        _, self.prompts, harvest, folder = world
        self.subject = load_subject(str(folder), "meta")
        move = lambda x: x.to("meta")  # noqa: E731
        self.harvest = Harvest(
            {layer: move(x) for layer, x in harvest.residuals.items()},
            [[tuple(map(move, pair)) for pair in prefix] for prefix in harvest.prefixes],
            harvest.prefix_of,
        )
        monkeypatch.setattr(
            Sae,
            "_alive_latents",  # which ones fire cannot be told here
            lambda _, x: (torch.arange(9, device="meta"), x.new_zeros(len(x), 9)),
        )

    def jobs(self, sae) -> list[Job]:
        das = Das(self.subject.d_model, seed=0, device="meta")
        found = []
        for featurizer in (Neuron(self.subject.d_model), das, Sae(sae.to("meta"))):
            engine = FastEngine(self.subject, self.prompts, self.harvest, LAYER, featurizer)
            rotation = das if featurizer is das else None
            names = make_pairs(self.prompts, "country", "paper", "pairs", 0, 40)["train"]
            found.append(Job(engine, rotation, index_pairs(names, self.prompts, "country"), 0))
        return found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_stays_on_its_device(world, monkeypatch, precision):
    on_meta = OnMeta(world, monkeypatch)
    sae = load_sae("bloom", locate("bloom", world[3] / "saes", LAYER, on_meta.subject.n_layers))
    jobs = on_meta.jobs(sae)
    thetas = [torch.zeros(job.engine.n_active, device="meta", requires_grad=True) for job in jobs]
    parameters = [p for theta, job in zip(thetas, jobs, strict=True) for p in (theta, *job.parameters)]
    steps = stepping.Steps(jobs, thetas, torch.optim.SGD(parameters), Plan.of(jobs, SCHEDULE), precision)
    with pytest.raises(RuntimeError):
        steps.step()  # it would read a norm: this device does refuse
    steps.rotations[0].reach.fixed = series(3.0, "meta", torch.float32)
    steps.step()
    assert all(p.grad.device.type == "meta" and p.grad.shape == p.shape for p in parameters)
    assert steps.record.device.type == "meta"


# ---------------------------------------------------------------- graphs


class FakeCuda:
    """In the place of torch.cuda: what is captured leaves no trace, and is called again when replayed."""

    def __init__(self, monkeypatch, fails: bool = False):
        self.captures = self.replays = 0
        self.fails = fails
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
        if self.fails:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    def replay(self):
        self.replays += 1
        self.steps.step()


def test_a_graph_is_captured_once_and_replayed(world, monkeypatch):
    methods = ("neuron", "openai")
    wanted = theta_of(make_jobs(world, methods))
    cuda = FakeCuda(monkeypatch)
    jobs = make_jobs(world, methods)
    found = theta_of(jobs, at_once=7)
    assert cuda.captures == 1
    assert cuda.replays == Plan.of(jobs, SCHEDULE).n_steps[0] - cuda.steps.warm_up
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_a_graph_is_captured_anew_when_a_series_must_reach_further(world, monkeypatch):
    cuda = FakeCuda(monkeypatch)
    reaches = []
    fix = Reach.fix
    monkeypatch.setattr(Reach, "fix", lambda reach, *args: (fix(reach, *args), reaches.append(reach.value))[0])
    train(make_jobs(world, ("das", "neuron")), SCHEDULE, "cpu", at_once=7)
    changes = sum(a != b for a, b in zip([None, *reaches[:-1]], reaches, strict=True))
    assert 1 < changes < len(reaches)
    assert cuda.captures == changes


def test_where_capture_fails_steps_are_taken_one_by_one(world, monkeypatch, capsys):
    wanted = theta_of(make_jobs(world, ("neuron",)))
    cuda = FakeCuda(monkeypatch, fails=True)
    (found,) = theta_of(make_jobs(world, ("neuron",)), at_once=7)
    assert torch.equal(found, wanted[0])
    assert (cuda.captures, cuda.replays) == (1, 0)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "cannot be captured as a CUDA graph: operation not permitted when" in err
