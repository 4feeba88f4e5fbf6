"""Compare what the model answers to patched prompts: logits, loss, and gradients of theta and rotation."""

import copy
import math

from imports import functional, torch
from masks.engines import ENGINES
from masks.training import in_precision
from verify.reference import TwoPasses
from verify.sample import Sample

LARGEST_COPIED = 2e9  # bytes of a model that is copied to the processor
ANSWERS = ("logits", "loss", "gradient of theta", "gradient of rotation")


def share(found, wanted) -> float:
    """The largest difference, of the largest wanted number."""
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def answers(sample: Sample) -> dict[str, float]:
    """The engine against two forward passes with hooks, at every layer; the worst of each, of the largest.

    Half of the pairs are patched by a mask over neurons, half by one over rotated directions, in one batch.  The
    rotation of the reference is torch.matrix_exp in float64; its gradient is that of the sum over layers.
    """
    subject, das = sample.subject, sample.das()
    exact = "cpu" if subject.device == "mps" else subject.device  # where float64 is to be had
    lower_DD = das.A.detach().to(exact).double().tril(-1).requires_grad_()
    exact_rotation = das.start.to(exact).double() @ torch.matrix_exp(lower_DD - lower_DD.T)
    rotation = exact_rotation.detach().float().to(subject.device).requires_grad_()

    def by_neuron(mask):
        return lambda x_base, x_source: x_base + mask * (x_source - x_base)

    def by_rotation(mask):
        return lambda x_base, x_source: x_base + rotation @ (mask * (rotation.T @ (x_source - x_base)))

    worst = dict.fromkeys(ANSWERS[:3], 0.0)
    for layer in sample.layers:
        reference = TwoPasses(subject, sample.cache.prompts, layer)
        engines = [sample.bound(layer, featurizer) for featurizer in (sample.neuron(), das)]
        thetas = [sample.normal(subject.d_model, seed=2 * layer + 2 + j).requires_grad_() for j in range(len(engines))]
        base_JB, source_JB, label_JB = (
            rows.view(len(engines), -1) for rows in (sample.pairs.base, sample.pairs.source, sample.pairs.label)
        )
        with in_precision(sample.precision):
            masks = [torch.sigmoid(theta) for theta in thetas]
            loss_JB, _ = ENGINES[sample.engine].batched_loss(
                engines, base_JB, source_JB, label_JB, masks, sample.precision
            )
            loss_JB.sum().backward()
        found = []
        for j, (theta, patch_by) in enumerate(zip(thetas, (by_neuron, by_rotation), strict=True)):
            pairs = sample.pairs[slice(j * len(base_JB[0]), (j + 1) * len(base_JB[0]))]
            own = theta.detach().clone().requires_grad_()
            mask = torch.sigmoid(own)
            rows = zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)
            wanted_BV = torch.stack([reference.logits(base, source, patch_by(mask)) for base, source in rows])
            loss_B = functional.cross_entropy(wanted_BV, pairs.label.to(wanted_BV.device), reduction="none")
            loss_B.sum().backward()
            with torch.no_grad():
                logits_BV = engines[j].logits(pairs, mask)
            found.append(
                {
                    "logits": share(logits_BV, wanted_BV),
                    "loss": share(loss_JB[j], loss_B),
                    "gradient of theta": share(_gradient(theta), own.grad),
                }
            )
        for what in worst:
            worst[what] = _worse(worst[what], *(its[what] for its in found))
    exact_rotation.backward(rotation.grad.to(exact).double())
    wanted_DD = lower_DD.grad.tril(-1)
    return {**worst, ANSWERS[3]: share(_gradient(das.A).tril(-1), wanted_DD)}


def on_processor(sample: Sample) -> dict[str, float]:
    """The device itself: the logits of whole prompts there against those on the processor.

    Left out where the model is on the processor, is spread over devices, or is too large to be copied.
    """
    subject = sample.subject
    spread = getattr(subject.model, "hf_device_map", None) is not None
    if subject.device == "cpu" or spread or subject.n_bytes > LARGEST_COPIED:
        return {}
    tokens = [torch.tensor([sample.cache.prompts.rows[row].tokens]) for row in sample.pairs.base[:2].tolist()]
    with torch.no_grad():
        found = [subject.model(input_ids=its.to(subject.device), use_cache=False).logits.float() for its in tokens]
        processor = copy.deepcopy(subject.model).to("cpu")
        wanted = [processor(input_ids=its, use_cache=False).logits.float() for its in tokens]
    return {"device": _worse(*(share(a, b) for a, b in zip(found, wanted, strict=True)))}


def _gradient(leaf):
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _worse(*values: float) -> float:
    """The largest, and no number where one is none."""
    return math.nan if any(map(math.isnan, values)) else max(values)
