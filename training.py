"""Train one mask and test it, on either of two engines that compute the same.

fast    frozen residuals and prefix, only what the patch can reach (models.py)
nnsight the same step the plain way: base and source in full, as two invokes of
        one trace; slow, kept to check the fast one against
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from data.intervention_data import KINDS, PairBatch
from data.ravel_data_prep import ATTRIBUTES, Prompts
from featurizers import Frozen
from imports import functional, nnsight, torch
from models import Harvest, Subject

SCORES = ("cause", "isolation", "disentangle")
FIXED_THETA = math.inf  # sigmoid(+-inf / T) is exactly 1 or 0 at every temperature


# ---------------------------------------------------------------- engines


class FastEngine:
    """Logits of patched prompts on the exact fast path, at one layer."""

    def __init__(self, subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, featurizer):
        self.subject = subject
        self.harvest = harvest
        self.layer = layer
        self.residuals = harvest.residuals[layer]  # [2 n, S, d_model]
        self.frozen: Frozen = featurizer.freeze(self.residuals[:, 0])
        n_features = featurizer.n_features  # and not the featurizer, which may hold a whole SAE
        self.n_active = n_features if self.frozen.alive is None else len(self.frozen.alive)
        self.widen = lambda theta: self.frozen.widen(theta, n_features)

    def logits(self, pairs: PairBatch, mask):
        """Pairs (rows on the CPU) and mask [n_active] -> last-position logits [B, vocabulary]."""
        prefix_of = [self.harvest.prefix_of[row] for row in pairs.base.tolist()]
        order = sorted(range(len(prefix_of)), key=prefix_of.__getitem__)  # stable
        used = sorted(set(prefix_of))
        index = torch.tensor(order)
        base, source = pairs.base[index].to(self.subject.device), pairs.source[index].to(self.subject.device)
        x_BD = self.frozen.patch(base, source, mask)
        x_BSD = torch.cat([x_BD[:, None], self.residuals[base, 1:]], dim=1)
        logits = self.subject.suffix_logits(
            x_BSD, self.layer, [self.harvest.prefixes[p] for p in used], [prefix_of.count(p) for p in used]
        )
        return logits if len(used) == 1 else logits[index.argsort().to(logits.device)]


class NnsightEngine:
    """The same logits from full forward passes of base and source, traced by nnsight."""

    def __init__(self, subject: Subject, prompts: Prompts, harvest: Harvest | None, layer: int, featurizer):
        self.subject = subject
        self.prompts = prompts
        self.layer = layer
        self.featurizer = featurizer
        self.n_active = featurizer.n_features
        self.widen = lambda theta: theta

    def logits(self, pairs: PairBatch, mask):
        """Pairs (rows on the CPU) and mask [n_features] -> last-position logits [B, vocabulary]."""
        n = len(self.prompts)
        parts, order = [], []
        for a, attribute in enumerate(ATTRIBUTES):  # prompts of one trace must be equally long
            chosen = (pairs.base // n == a).nonzero()[:, 0]
            if len(chosen):
                tokens = self.prompts.tokens[attribute]
                parts.append(self._traced(tokens[pairs.base[chosen] % n], tokens[pairs.source[chosen] % n], mask))
                order.append(chosen)
        return torch.cat(parts)[torch.cat(order).argsort().to(parts[0].device)]

    def _traced(self, base_BL, source_BL, mask):
        model, at = self.subject.traced, -self.prompts.suffix
        block, featurizer = model.transformer.h[self.layer], self.featurizer
        base_BL, source_BL = base_BL.to(self.subject.device), source_BL.to(self.subject.device)
        with model.trace() as tracer:
            with tracer.invoke({"input_ids": source_BL}):
                x_source = block.output[:, at].clone()
            with tracer.invoke({"input_ids": base_BL}):
                x_base = block.output[:, at].clone()  # cloned: its place is written to below
                block.output[:, at] = featurizer.patch(x_base, x_source, mask)
                logits = nnsight.save(model.lm_head.output[:, -1])
        return logits


ENGINES: dict[str, Callable] = {"fast": FastEngine, "nnsight": NnsightEngine}


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
    seconds: float = 0.0


def untrained(engine, fixed_mask: float | None, device: str) -> Trained:
    """A method without training: its fixed mask, or theta at its start."""
    theta = torch.zeros(engine.n_active, device=device)
    if fixed_mask is not None:
        theta.fill_(FIXED_THETA if fixed_mask else -FIXED_THETA)
    return Trained(theta)


def train(
    engine, parameters: list, pairs: PairBatch, schedule: Schedule, seed: int, device: str, on_step=lambda **_: None
) -> Trained:
    """Adam on theta (and the featurizer's parameters) against cross-entropy over the full vocabulary.

    theta starts at 0, the mask is sigmoid(theta / T).  Pairs are shuffled anew each
    epoch by the seed; a batch mixes cause and isolation pairs.
    on_step(loss=, accuracy=): called after each step with tensors.
    """
    started = time.perf_counter()
    theta = torch.zeros(engine.n_active, device=device, requires_grad=True)
    optimizer = torch.optim.Adam([theta, *parameters], lr=schedule.lr)
    generator = torch.Generator().manual_seed(seed)
    start, end = schedule.temperature
    last_step = max(1, schedule.epochs * schedule.steps_per_epoch(len(pairs)) - 1)
    trained = Trained(theta.detach())
    step = 0
    for epoch in range(1, schedule.epochs + 1):
        loss_sum = torch.zeros((), device=device)
        right = torch.zeros((), device=device)
        for index in torch.randperm(len(pairs), generator=generator).split(schedule.batch_size):
            batch = pairs[index]
            label = batch.label.to(device)
            temperature = start + (end - start) * step / last_step
            logits = engine.logits(batch, soft_mask(theta, temperature))
            loss = functional.cross_entropy(logits, label)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                hits = (logits.argmax(-1) == label).sum()
                loss_sum += loss * len(batch)
                right += hits
            on_step(loss=loss.detach(), accuracy=hits / len(batch))
            step += 1
        trained.history.append(
            {
                "epoch": epoch,
                "loss": float(loss_sum) / len(pairs),
                "accuracy": float(right) / len(pairs),
                "temperature": temperature,
            }
        )
    trained.seconds = time.perf_counter() - started
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
