"""Runs that train together: each as it would alone."""

import json
from dataclasses import replace

import pytest
import torch
from helpers_cli import error_line, require_words
from helpers_masks import LAYER, METHODS, World, make_job, toy_at_layer
from safetensors.torch import load_file

from data.pairs import batch_of
from decoder.products import InBf16, Product
from featurizers.neuron import Neuron
from main import main
from masks.engines import ENGINES
from masks.scores import soft_mask
from masks.training import MaskRun, Schedule, train

SCHEDULE = Schedule(epochs=2, batch_size=16, lr=3e-3, temperature=(1.0, 0.1))


@pytest.fixture(scope="module")
def world(toy_world) -> World:
    return toy_at_layer(toy_world, "bare")


def make_jobs(world, engine: str = "fast") -> list[MaskRun]:
    """neuron, das, openai and bloom: two targets, own seeds, the last with fewer pairs, so that it ends earlier."""
    return [
        make_job(world, method, seed, 70 if method == "bloom" else 150, target, "strict", "cities", engine)
        for seed, (method, target) in enumerate(zip(METHODS, ("country", "continent") * 2, strict=True))
    ]


def test_run_trains_beside_others_as_it_would_alone(world):
    together = train(make_jobs(world), SCHEDULE, "cpu")
    assert [len(its.history) for its in together] == [2, 2, 2, 2]
    for i, beside in enumerate(together):
        (alone,) = train([make_jobs(world)[i]], SCHEDULE, "cpu")
        assert alone.theta.abs().max() > 0.01, "something was learned"
        if i == 1:
            continue  # das: its first gradients are rounding noise, see below
        assert (beside.theta - alone.theta).abs().max() < 1e-4
        for ours, theirs in zip(beside.history, alone.history, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-4)


def test_das_answers_beside_others_as_it_does_alone(world):
    """While the mask is uniform the rotation cancels, and Adam scales up what rounding leaves: compare answers."""
    answers = []
    for chosen in (slice(None), slice(1, 2)):
        jobs = make_jobs(world)[chosen]
        trained = train(jobs, SCHEDULE, "cpu")
        i = 1 if len(jobs) > 1 else 0
        with torch.no_grad():
            logits = jobs[i].engine.logits(jobs[i].pairs, soft_mask(trained[i].theta, 0.1))
        answers.append(logits.argmax(-1))
    assert (answers[0] == answers[1]).float().mean() > 0.95


def test_das_of_a_size_trains_beside_others_as_it_would_alone(world):
    """Its theta is fixed, and its directions move from the first step on."""

    def made() -> list[MaskRun]:
        return [make_job(world, method, 3, 100, mode="strict", split="cities") for method in ("das@8", "neuron", "das")]

    moved = []
    for jobs in (made(), made()[:1]):
        trained = train(jobs, SCHEDULE, "cpu")
        moved.append(jobs[0].featurizer.B.detach().clone())
        assert torch.equal(trained[0].theta, torch.full((8,), float("inf")))
        assert list(trained[0].history[0]) == ["epoch", "loss", "accuracy"]
    assert moved[1].abs().max() > 0.01
    assert (moved[0] - moved[1]).abs().max() < 1e-3


def test_training_is_adam_on_each_runs_own_mean_loss(world):
    """The first run of a joint training, redone with a loop of its own on the plain engine."""
    jobs = make_jobs(world)
    trained = train(jobs, SCHEDULE, "cpu")
    job = make_jobs(world, engine="nnsight")[0]
    theta = torch.zeros(64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    pairs, step, wrong = job.pairs, 0, []
    steps = 2 * -(-len(pairs) // 16)
    for _ in range(2):
        losses, hits = [], []
        for index in torch.randperm(len(pairs), generator=generator).split(16):
            temperature = 1.0 + (0.1 - 1.0) * step / (steps - 1)
            logits = job.engine.logits(pairs[index], torch.sigmoid(theta / temperature))
            each = -logits.log_softmax(-1)[torch.arange(len(index)), pairs.label[index]]
            optimizer.zero_grad()
            each.mean().backward()
            optimizer.step()
            losses.append(each.detach())
            hits.append(logits.argmax(-1) == pairs.label[index])
            step += 1
        wrong.append((torch.cat(losses).mean().item(), torch.cat(hits).float().mean().item(), temperature))
    assert (trained[0].theta - theta).abs().max() < 1e-4
    for entry, (loss, accuracy, temperature) in zip(trained[0].history, wrong, strict=True):
        assert entry["loss"] == pytest.approx(loss, abs=1e-4)
        assert entry["accuracy"] == pytest.approx(accuracy, abs=0.01)
        assert entry["temperature"] == pytest.approx(temperature)


def test_training_in_bf16_is_near_and_is_not_fp32(world):
    """Its rounding shows in theta, the direction it goes in is the same; the model itself is left in fp32."""
    exact = train(make_jobs(world), SCHEDULE, "cpu")
    rounded = train(make_jobs(world), replace(SCHEDULE, precision="bf16"), "cpu")
    for j in (0, 2, 3):  # not das, whose first steps are rounding anyway
        ours, theirs = rounded[j].theta, exact[j].theta
        assert not torch.equal(ours, theirs)
        assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.99
        assert ours.dtype == torch.float32
    subject, cache, _ = world
    assert all(weight.dtype == torch.float32 for weight in subject.model.parameters())
    assert cache.residuals[LAYER].dtype == torch.float32
    last = subject.layers._in_form[subject.n_layers - 1, InBf16]
    products = [module for module in last.modules() if isinstance(module, Product)]
    assert {module.matrix.weight.dtype for module in products} == {torch.bfloat16}


def test_training_in_tf32_reads_the_weights_in_fp32(world):
    """What a GPU makes of their products is torch's affair; a CPU has no tf32, and so computes what fp32 does."""
    before = torch.get_float32_matmul_precision()
    exact = train(make_jobs(world), SCHEDULE, "cpu")
    found = train(make_jobs(world), replace(SCHEDULE, precision="tf32"), "cpu")
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.equal(ours.theta, theirs.theta)
    assert torch.get_float32_matmul_precision() == before


def test_training_in_bf16_is_tested_in_fp32(world, tmp_path):
    """A recorded score is what fp32 makes of the saved theta."""
    flags = ("--model", "toy", "--methods", "neuron", "--layers", str(LAYER), "--targets", "country", "--epochs", "1")
    assert main([*flags, "--precision", "bf16", "--output", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "toy/country/neuron/layer02-seed0.json").read_text())
    theta = load_file(tmp_path / "toy/country/neuron/layer02-seed0.safetensors")["theta"]
    assert result["config"]["precision"] == "bf16"
    subject, cache, _ = world
    names = json.loads((tmp_path / "toy/country" / result["pairs"]).read_text())["test"]
    place = {city.name: i for i, city in enumerate(cache.prompts.entities)}
    pairs = batch_of([(place[base], place[source], kind) for base, source, kind in names], cache.prompts, "country")
    engine = ENGINES["nnsight"](subject, cache, LAYER, Neuron(subject.d_model))
    with torch.no_grad():
        hits = engine.logits(pairs, (theta > 0).float()).argmax(-1) == pairs.label
    for kind, chosen in (("cause", pairs.is_cause), ("isolation", ~pairs.is_cause)):
        assert result["test"]["hard"][kind] == pytest.approx(hits[chosen].double().mean().item())


@pytest.mark.parametrize("flag", ["--workers", "--joint"])
def test_workers_and_joint_refuse_a_bad_number(flag, capsys):
    assert main(["--model", "toy", flag, "0"]) == 2
    require_words(error_line(capsys.readouterr().err), (flag, "at least 1"))
