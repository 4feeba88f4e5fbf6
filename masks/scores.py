"""Test masks: which patched prompts get the right answer, and the scores that follow."""

from data.names import KINDS
from data.pairs import PairBatch
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


def score(hits, is_cause) -> dict:
    """hits, is_cause [N] bool -> shares of right answers; disentangle is the mean of the two."""
    shares = {kind: hits[is_cause == (kind == "cause")].double().mean().item() for kind in KINDS}
    return {
        **shares,
        "disentangle": (shares["cause"] + shares["isolation"]) / 2,
        "n_cause": int(is_cause.sum()),
        "n_isolation": int((~is_cause).sum()),
    }


def answers(engine, theta, pairs: PairBatch, temperature: float) -> dict[str, torch.Tensor]:
    """The likeliest tokens with the soft mask at this temperature and with the hard one: [N] int64 each."""
    soft, hard = soft_mask(theta, temperature), hard_mask(theta)
    found = {"soft": predictions(engine, pairs, soft)}
    is_fixed = torch.equal(soft, hard)  # such a mask is both
    found["hard"] = found["soft"] if is_fixed else predictions(engine, pairs, hard)
    return found


def outcomes(engine, theta, pairs: PairBatch, temperature: float) -> dict[str, torch.Tensor]:
    """Which pairs are answered right, with the masks of `answers`: [N] bool each."""
    return {mask: best_N == pairs.label for mask, best_N in answers(engine, theta, pairs, temperature).items()}
