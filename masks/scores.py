"""Test masks: which patched prompts get the right answer, and the scores that follow."""

import math

from data.batches import PairBatch
from data.names import KINDS
from imports import torch


def soft_mask(theta, temperature: float):
    return torch.sigmoid(theta / temperature)


def hard_mask(theta):
    """What 'select features' means: 1 where theta > 0."""
    return (theta > 0).to(theta.dtype)


def predictions(engine, pairs: PairBatch, mask):
    """The most likely next token of every patched prompt, [N] on the CPU."""
    return engine.subject.test_rows(lambda batch_size: _predictions(engine, pairs, mask, batch_size))


def _predictions(engine, pairs: PairBatch, mask, batch_size: int):
    with torch.no_grad():
        batches = (pairs[index].to(mask.device) for index in torch.arange(len(pairs)).split(batch_size))
        parts = [
            engine.batched_loss([engine], b.base[None], b.source[None], b.label[None], [mask])[1][0] for b in batches
        ]
    return torch.cat(parts).cpu()


def score(hits, kind) -> dict:
    """Shares of right answers; isolation is the mean over its attributes' shares, disentangle that of the two.

    hits: [N] bool; kind: [N] int64 as in `PairBatch`.
    """
    numbers = kind.unique().tolist()
    share = {number: hits[kind == number].double().mean().item() for number in numbers}
    kept = [share[number] for number in numbers if number]
    shares = dict(zip(KINDS, (share.get(0, math.nan), sum(kept) / len(kept) if kept else math.nan), strict=True))
    n_cause = int((kind == 0).sum())
    return {
        **shares,
        "disentangle": (shares["cause"] + shares["isolation"]) / 2,
        "n_cause": n_cause,
        "n_isolation": len(kind) - n_cause,
    }


def answers(engine, theta, pairs: PairBatch, temperature: float) -> dict[str, torch.Tensor]:
    """The likeliest tokens with the soft mask at this temperature and with the hard one: [M] int64 each."""
    soft, hard = soft_mask(theta, temperature), hard_mask(theta)
    found = {"soft": predictions(engine, pairs, soft)}
    is_fixed = torch.equal(soft, hard)  # such a mask is both
    found["hard"] = found["soft"] if is_fixed else predictions(engine, pairs, hard)
    return found


def outcomes(engine, theta, pairs: PairBatch, temperature: float) -> dict[str, torch.Tensor]:
    """Which questions are answered right, with the masks of `answers`: [M] bool each.

    `PairBatch.answered` makes outcomes of pairs of them.
    """
    return {mask: best_N == pairs.label for mask, best_N in answers(engine, theta, pairs, temperature).items()}
