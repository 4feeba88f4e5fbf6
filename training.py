"""Train masks and test them, on either of two engines that compute the same (engines.py)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from data.intervention_data import KINDS, PairBatch
from engines import FastEngine, NnsightEngine
from imports import functional, torch

SCORES = ("cause", "isolation", "disentangle")
FIXED_THETA = math.inf  # sigmoid(+-inf / T) is exactly 1 or 0 at every temperature


# ---------------------------------------------------------------- masks


def soft_mask(theta, temperature: float):
    return torch.sigmoid(theta / temperature)


def hard_mask(theta):
    """What 'select features' means: 1 where theta > 0."""
    return (theta > 0).to(theta.dtype)


@dataclass
class Schedule:
    """How masks are trained."""

    epochs: int
    batch_size: int
    lr: float
    temperature: tuple[float, float]  # start, end; linear over all steps

    def steps_per_epoch(self, n_pairs: int) -> int:
        return math.ceil(n_pairs / self.batch_size)


@dataclass
class Trained:
    """theta [n_active] and how it came about."""

    theta: torch.Tensor
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0  # its share of the time that all trained beside it took


def untrained(engine, fixed_mask: float | None, device: str) -> Trained:
    """A method without training: its fixed mask, or theta at its start."""
    theta = torch.zeros(engine.n_active, device=device)
    if fixed_mask is not None:
        theta.fill_(FIXED_THETA if fixed_mask else -FIXED_THETA)
    return Trained(theta)


@dataclass
class Job:
    """A mask to train: the engine of its featurizer, the featurizer's own parameters, its pairs, its random stream."""

    engine: FastEngine | NnsightEngine
    parameters: list
    pairs: PairBatch
    seed: int

    def batches(self, schedule: Schedule):
        """(batch, temperature, epoch if the batch is its last, else None) of every step.

        Pairs are shuffled anew each epoch by the seed; a batch mixes cause and isolation pairs.
        """
        generator = torch.Generator().manual_seed(self.seed)
        start, end = schedule.temperature
        per_epoch = schedule.steps_per_epoch(len(self.pairs))
        last_step = max(1, schedule.epochs * per_epoch - 1)
        step = 0
        for epoch in range(1, schedule.epochs + 1):
            shuffled = self.pairs[torch.randperm(len(self.pairs), generator=generator)]
            for i in range(per_epoch):
                batch = shuffled[slice(i * schedule.batch_size, (i + 1) * schedule.batch_size)]
                yield batch, start + (end - start) * step / last_step, epoch if i + 1 == per_epoch else None
                step += 1


def train(jobs: list[Job], schedule: Schedule, device: str, on_step=lambda **_: None) -> list[Trained]:
    """Train the masks of several runs at one layer in lockstep, all their rows in one forward pass.

    Adam on theta (and the featurizer's parameters) against cross-entropy over the full
    vocabulary.  theta starts at 0, the mask is sigmoid(theta / T).  The loss is the sum of
    the runs' own, and they share no parameter: each trains as it would alone, but for
    the rounding of products over more rows (tests/test_joint.py).
    on_step(runs=, loss=, accuracy=): called after each step; the last two are means, as tensors.
    """
    began = time.perf_counter()
    thetas = [torch.zeros(job.engine.n_active, device=device, requires_grad=True) for job in jobs]
    parameters = [p for theta, job in zip(thetas, jobs, strict=True) for p in (theta, *job.parameters)]
    optimizer = torch.optim.Adam(parameters, lr=schedule.lr, fused=device != "mps")
    trained = [Trained(theta.detach()) for theta in thetas]
    sums = torch.zeros(2, len(jobs), device=device)  # of losses and of right answers, this epoch so far
    streams = [job.batches(schedule) for job in jobs]
    while turn := [(j, *step) for j, stream in enumerate(streams) if (step := next(stream, None)) is not None]:
        running, batches, temperatures, ends = zip(*turn, strict=True)
        masks = [soft_mask(thetas[j], temperature) for j, temperature in zip(running, temperatures, strict=True)]
        logits = jobs[0].engine.joint([jobs[j].engine for j in running], batches, masks)
        label = torch.cat([batch.label for batch in batches]).to(device)
        sizes = torch.tensor([len(batch) for batch in batches])
        run_of_row = torch.tensor(running).repeat_interleave(sizes).to(device)
        share = (1 / sizes).repeat_interleave(sizes).to(device)
        losses = functional.cross_entropy(logits, label, reduction="none")
        optimizer.zero_grad(set_to_none=True)  # a run that has finished has no gradient, and Adam leaves it alone
        (losses * share).sum().backward()
        optimizer.step()
        with torch.no_grad():
            hits = (logits.argmax(-1) == label).float()
            sums.index_add_(1, run_of_row, torch.stack([losses, hits]))
        on_step(runs=len(running), loss=losses.detach().mean(), accuracy=hits.mean())
        for j, temperature, epoch in zip(running, temperatures, ends, strict=True):
            if epoch is not None:
                loss, right = (sums[:, j] / len(jobs[j].pairs)).tolist()
                entry = {"epoch": epoch, "loss": loss, "accuracy": right, "temperature": temperature}
                trained[j].history.append(entry)
                sums[:, j] = 0
    for its in trained:
        its.seconds = (time.perf_counter() - began) / len(jobs)
    return trained


# ---------------------------------------------------------------- scores


def predictions(engine, pairs: PairBatch, mask, batch_size: int = 256):
    """The most likely next token of every patched prompt, [N] on the CPU."""
    with torch.no_grad():
        parts = [
            engine.logits(pairs[index], mask).argmax(-1).cpu() for index in torch.arange(len(pairs)).split(batch_size)
        ]
    return torch.cat(parts)


def score(hits, is_cause) -> dict:
    """hits, is_cause [N] bool -> shares of right answers; disentangle is the mean of the two."""
    shares = {kind: hits[is_cause == (kind == "cause")].double().mean().item() for kind in KINDS}
    return {
        **shares,
        "disentangle": (shares["cause"] + shares["isolation"]) / 2,
        "n_cause": int(is_cause.sum()),
        "n_isolation": int((~is_cause).sum()),
    }


def city_interval(hits, pairs: PairBatch, n_cities: int, draws: int = 1000, seed: int = 0) -> dict:
    """95 % bootstrap intervals of the scores, resampling cities and not pairs.

    Pairs share cities, so they are no independent draws: with n cities drawn with
    replacement, a pair counts as often as its base times its source was drawn
    (Owen 2007, "The pigeonhole bootstrap").  Returns {score: [low, high]}.
    """
    base, source = pairs.base % n_cities, pairs.source % n_cities
    taking_part = torch.cat([base, source]).unique()
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(taking_part), (draws, len(taking_part)), generator=generator)
    counts = torch.zeros(draws, len(taking_part)).scatter_add_(1, drawn, torch.ones(drawn.shape))
    place = torch.zeros(n_cities, dtype=torch.long)
    place[taking_part] = torch.arange(len(taking_part))
    weight = counts[:, place[base]] * counts[:, place[source]]  # [draws, N]
    shares = {}
    for kind in KINDS:
        of_kind = pairs.is_cause == (kind == "cause")
        shares[kind] = (weight[:, of_kind] @ hits[of_kind].float()) / weight[:, of_kind].sum(1)
    shares["disentangle"] = (shares["cause"] + shares["isolation"]) / 2
    levels = torch.tensor([0.025, 0.975])
    return {name: [round(v, 6) for v in share.nanquantile(levels).tolist()] for name, share in shares.items()}


def evaluate(engine, theta, pairs: PairBatch, temperature: float, n_cities: int, intervals: bool = False) -> dict:
    """Scores with the soft mask at this temperature and with the hard one: {"soft": {..}, "hard": {..}}."""
    result = {}
    soft, hard = soft_mask(theta, temperature), hard_mask(theta)
    for name, mask in (("soft", soft), ("hard", hard)):
        if name == "soft" or not torch.equal(soft, hard):  # a fixed mask is both
            hits = predictions(engine, pairs, mask) == pairs.label
        result[name] = score(hits, pairs.is_cause)
        if intervals:
            result[name]["interval95"] = city_interval(hits, pairs, n_cities)
    return result


def label_baseline(pairs: PairBatch, labels) -> dict:
    """What doing nothing scores if every fact is known: the answer is the base prompt's own label."""
    return score(labels[pairs.base] == pairs.label, pairs.is_cause)
