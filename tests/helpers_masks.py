"""Masks to train on the toy world, or on any subject whose prompts were harvested."""

import math
from pathlib import Path
from typing import NamedTuple

import torch

from data.batches import PairBatch
from data.facts import read_cities
from data.pairs import batch_of, make_pairs
from data.prompts import build_prompts
from decoder.activations import ActivationCache
from featurizers.das import Das, LowRankDas
from featurizers.neuron import Neuron
from featurizers.sae import Sae
from masks.engines import ENGINES
from masks.scores import outcomes, score
from masks.training import MaskRun
from models import Subject, load_subject
from saes.loading import load_sae
from saes.releases import locate

LAYER = 2
METHODS = ("neuron", "das", "openai", "bloom")


class World(NamedTuple):
    """A subject, its prompts at LAYER, and the folder of the toy world with its SAEs if it is that."""

    subject: Subject
    cache: ActivationCache
    folder: Path | None = None


def toy_at_layer(folder: Path, style: str) -> World:
    """All cities of the toy world."""
    subject = load_subject(str(folder))
    prompts = build_prompts(read_cities(folder / "cities.csv"), subject.tokenizer, style)
    return World(subject, subject.harvest(prompts, [LAYER], progress=False), folder)


def make_job(
    world: World,
    method: str,
    seed: int,
    n_pairs: int,
    target: str = "country",
    mode: str = "paper",
    split: str = "pairs",
    engine: str = "fast",
) -> MaskRun:
    """At most n_pairs of either kind."""
    subject, cache, folder = world
    if method == "neuron":
        featurizer = Neuron(subject.d_model)
    elif method == "das":
        featurizer = Das(subject.d_model, seed, subject.device)
    elif method.startswith("das@"):
        featurizer = LowRankDas(subject.d_model, int(method[4:]), seed, subject.device)
    else:
        featurizer = Sae(load_sae(method, locate(method, folder / "saes", LAYER, subject.n_layers)).to(subject.device))
    bound = ENGINES[engine](subject, cache, LAYER, featurizer)
    chosen = make_pairs(cache.prompts, target, mode, split, seed, n_pairs)["train"]
    rotation = featurizer if featurizer.is_trained else None
    fixed = torch.full((bound.n_active,), math.inf, device=subject.device) if "@" in method else None
    return MaskRun(bound, rotation, batch_of(chosen, cache.prompts, target), seed, fixed)


def evaluate(engine, theta, pairs: PairBatch, temperature: float) -> dict[str, dict]:
    """The scores of both masks: {"soft": {..}, "hard": {..}}."""
    return {mask: score(hits, pairs.kind) for mask, hits in outcomes(engine, theta, pairs, temperature).items()}
