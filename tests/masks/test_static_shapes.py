"""What a CUDA graph asks of a training step: it reads nothing back, and stays on its device.

There need be no GPU: a dispatch mode refuses what makes the host wait, and the meta device, which has shapes
but no numbers, refuses what mixes it up with the CPU.
"""

import io

import pytest
import torch
from helpers_decoders import random_prompts, tiny_subject
from helpers_masks import LAYER, METHODS, World, make_job, toy_at_layer
from torch.utils._python_dispatch import TorchDispatchMode

from featurizers.rotation import series
from featurizers.sae import Sae
from masks import stepping
from masks.training import Batches, MaskRun, Schedule, adam

SCHEDULE = Schedule(epochs=3, batch_size=16, lr=3e-3, temperature=(1.0, 0.1))
WORLDS = {  # the toy, where all cities are one token behind prefixes of two lengths; then any lengths
    "toy": (*METHODS, "das@8"),
    "gpt2": ("neuron", "das", "das@8"),
    "llama": ("neuron", "das"),
    "gemma3": ("neuron", "das"),
}


@pytest.fixture(scope="module", params=WORLDS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def world(name, toy_world) -> World:
    if name == "toy":
        return toy_at_layer(toy_world, "few-shot")
    subject = tiny_subject(name, "sdpa")
    return World(subject, subject.harvest(random_prompts(0, own=(1, 2, 3, 4) * 2), [LAYER], progress=False))


def make_jobs(world: World, name: str) -> list[MaskRun]:
    return [make_job(world, method, seed, 40) for seed, method in enumerate(WORLDS[name])]


class NoReading(TorchDispatchMode):
    """Refuses what makes the host wait for a device, or hands it a new number: neither can be captured."""

    READS = ("_local_scalar_dense", "nonzero", "lift_fresh", "item", "masked_select", "unique", "equal", "bincount")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        if any(name.strip("_").startswith(read.strip("_")) for read in self.READS):
            raise AssertionError(f"{func.name()} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_reads_nothing_back(world, name, precision):
    jobs = make_jobs(world, name)
    steps = stepping.Steps(jobs, adam(jobs, SCHEDULE.lr, "cpu"), Batches.of(jobs, SCHEDULE), precision)
    steps.advance(1)  # what is set up on first use
    with NoReading(), pytest.raises(AssertionError, match="local_scalar_dense"):
        steps.step()  # it looks up how far the rotation has grown
    assert len(steps.rotations) == sum(method.startswith("das") for method in WORLDS[name])
    for rotation in steps.rotations:
        rotation.norm_bound.fix(rotation.skew(), 1.5)
    with NoReading():
        steps.step()


def on_meta(world: World) -> World:
    """The same world on the meta device, with all that a layer keeps."""
    subject, cache, folder = world
    subject.layer_cache(cache, LAYER)
    file = io.BytesIO()
    torch.save((subject, cache), file)
    file.seek(0)
    subject, cache = torch.load(file, map_location="meta", weights_only=False)
    subject.device = "meta"
    assert subject.layer_cache(cache, LAYER).residuals.device.type == "meta"
    return World(subject, cache, folder)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_stays_on_its_device(world, name, monkeypatch, precision):
    monkeypatch.setattr(
        Sae,
        "_alive_latents",  # which ones fire cannot be told here
        lambda _, x: (torch.arange(9, device="meta"), x.new_zeros(len(x), 9)),
    )
    jobs = make_jobs(on_meta(world), name)
    parameters = [p for job in jobs for p in job.parameters()]
    steps = stepping.Steps(jobs, torch.optim.SGD(parameters), Batches.of(jobs, SCHEDULE), precision)
    with pytest.raises(RuntimeError):
        steps.step()  # it would read a norm: this device does refuse
    for rotation in steps.rotations:
        rotation.norm_bound.fixed = series(3.0, "meta", torch.float32)
    steps.step()
    assert all(p.grad.device.type == "meta" and p.grad.shape == p.shape for p in parameters)
    assert steps.record.device.type == "meta"
