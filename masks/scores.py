"""Test masks: the answers that patched prompts get, as scores with intervals over cities."""

from data.names import KINDS
from data.pairs import PairBatch
from imports import torch


def soft_mask(theta, temperature: float):
    return torch.sigmoid(theta / temperature)


def hard_mask(theta):
    """What 'select features' means: 1 where theta > 0."""
    return (theta > 0).to(theta.dtype)


def predictions(engine, pairs: PairBatch, mask, batch_size: int = 256):
    """The most likely next token of every patched prompt, [N] on the CPU."""
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


def city_interval(hits, pairs: PairBatch, draws: int = 1000, seed: int = 0) -> dict:
    """95 % bootstrap intervals of the scores, resampling cities and not pairs.

    Pairs share cities, so they are no independent draws: with n cities drawn with
    replacement, a pair counts as often as its base times its source was drawn
    (Owen 2007, "The pigeonhole bootstrap").  Returns {score: [low, high]}.
    """
    taking_part, place = torch.cat([pairs.base_city, pairs.source_city]).unique(return_inverse=True)
    base, source = place.chunk(2)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(taking_part), (draws, len(taking_part)), generator=generator)
    counts = torch.zeros(draws, len(taking_part)).scatter_add_(1, drawn, torch.ones(drawn.shape))
    weight = counts[:, base] * counts[:, source]  # [draws, N]
    shares = {}
    for kind in KINDS:
        of_kind = pairs.is_cause == (kind == "cause")
        shares[kind] = (weight[:, of_kind] @ hits[of_kind].float()) / weight[:, of_kind].sum(1)
    shares["disentangle"] = (shares["cause"] + shares["isolation"]) / 2
    levels = torch.tensor([0.025, 0.975])
    return {name: [round(v, 6) for v in share.nanquantile(levels).tolist()] for name, share in shares.items()}


def evaluate(engine, theta, pairs: PairBatch, temperature: float, intervals: bool = False) -> dict:
    """Scores with the soft mask at this temperature and with the hard one: {"soft": {..}, "hard": {..}}."""
    result = {}
    soft, hard = soft_mask(theta, temperature), hard_mask(theta)
    for name, mask in (("soft", soft), ("hard", hard)):
        if name == "soft" or not torch.equal(soft, hard):  # a fixed mask is both
            hits = predictions(engine, pairs, mask) == pairs.label
        result[name] = score(hits, pairs.is_cause)
        if intervals:
            result[name]["interval95"] = city_interval(hits, pairs)
    return result


def label_baseline(pairs: PairBatch, labels) -> dict:
    """What doing nothing scores if every fact is known: the answer is the base prompt's own label."""
    return score(labels[pairs.base] == pairs.label, pairs.is_cause)
