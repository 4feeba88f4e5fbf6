"""Two engines that compute the same: what the model answers to patched prompts.

fast    only what the patch can reach, behind frozen keys and values (models.py)
nnsight the same the plain way: base and source in full, as two invokes of one
        trace; slow, kept to check the fast one against

An engine is bound to one layer and one featurizer.  `batched_loss` takes several of them at
one layer through the model together: rows of J runs, B each, in one batch.
"""

from __future__ import annotations

from data.batches import PairBatch
from decoder.activations import ActivationCache
from featurizers.base import BoundFeaturizer, Featurizer
from imports import functional, torch
from models import Subject


class FastEngine:
    """Answers to patched prompts on the exact fast path, at one layer.

    has_static_shapes: `batched_loss` reads nothing back from the device, and its shapes depend on J and B alone.
    """

    has_static_shapes = True

    def __init__(self, subject: Subject, cache: ActivationCache, layer: int, featurizer: Featurizer):
        self.subject = subject
        self.layer_cache = subject.layer_cache(cache, layer)
        self.bound: BoundFeaturizer = featurizer.freeze(self.layer_cache.residuals[:, 0])
        self.n_features = featurizer.n_features  # and not the featurizer, which may hold a whole SAE
        self.n_active = self.n_features if self.bound.alive is None else len(self.bound.alive)

    def widen(self, theta: torch.Tensor) -> torch.Tensor:
        """theta of the features that are trained [n_active] -> of all [n_features]."""
        return self.bound.widen(theta, self.n_features)

    def narrow(self, theta: torch.Tensor) -> torch.Tensor:
        """The inverse of `widen`, for a theta of features that are fixed."""
        return theta if self.bound.alive is None else theta[self.bound.alive]

    def logits(self, pairs: PairBatch, mask: torch.Tensor) -> torch.Tensor:
        """Pairs and mask [n_active] -> logits [N, vocabulary] of the answer."""
        base, source = (rows.to(self.subject.device) for rows in (pairs.base, pairs.source))
        x_BD = self.bound.patch(base, source, mask)
        return self.subject.logits(self.layer_cache.run(x_BD, base, self.subject.form()))

    @staticmethod
    def batched_loss(engines: list[FastEngine], base_JB, source_JB, label_JB, masks: list, precision: str = "fp32"):
        """The answers' cross-entropy [J, B], differentiable in masks and featurizers, and likeliest tokens [J, B].

        Rows and labels lie on the subject's device; masks: [n_active] each.
        precision: of the products with the model's weights (masks/names.py).
        """
        subject = engines[0].subject
        form = subject.form(precision)
        rows = zip(engines, base_JB, source_JB, masks, strict=True)
        x_ND = torch.cat([engine.bound.patch(*its) for engine, *its in rows])
        final_ND = engines[0].layer_cache.run(x_ND, base_JB.flatten(), form)
        loss_N, best_N = subject.loss_and_best(final_ND, label_JB.flatten(), form)
        return loss_N.view(base_JB.shape), best_N.view(base_JB.shape)


class NnsightEngine:
    """The same from full forward passes of base and source, traced by nnsight."""

    has_static_shapes = False

    def __init__(self, subject: Subject, cache: ActivationCache, layer: int, featurizer: Featurizer):
        self.subject, self.prompts, self.featurizer = subject, cache.prompts, featurizer
        self.layer = layer
        self.n_active = self.n_features = featurizer.n_features

    def widen(self, theta: torch.Tensor) -> torch.Tensor:
        return theta

    def narrow(self, theta: torch.Tensor) -> torch.Tensor:
        return theta

    def logits(self, pairs: PairBatch, mask: torch.Tensor) -> torch.Tensor:
        """Pairs and mask [n_features] -> logits [N, vocabulary] of the answer."""
        subject, n = self.subject, len(pairs)
        base, source = self._padded(pairs.base.tolist() + pairs.source.tolist(), n)
        layer, has_tuple = subject.traced_layer(self.layer), subject.layers.returns_tuple
        rows = torch.arange(n, device=subject.device)
        at_base, at_source = base.pop("at"), source.pop("at")
        with subject.traced.trace() as tracer:
            with tracer.invoke(source):
                output = layer.output[0] if has_tuple else layer.output
                x_source = output[rows, at_source].clone()
            with tracer.invoke(base):
                output = layer.output[0] if has_tuple else layer.output
                x_base = output[rows, at_base].clone()  # cloned: its place is written to below
                new = self.featurizer.patch(x_base.float(), x_source.float(), mask)
                output[rows, at_base] = new.to(output.dtype)
                logits = subject.traced.output.logits[:, -1].save()
        return logits.float()

    def _padded(self, rows: list[int], n: int) -> tuple[dict, dict]:
        """The first n prompts and the others, all as long as the longest: padded on the left, with explicit positions.

        "at" says where the patched token is.
        """
        prompts = [self.prompts.rows[row] for row in rows]
        longest = max(len(prompt.tokens) for prompt in prompts)
        missing = torch.tensor([longest - len(prompt.tokens) for prompt in prompts])
        slots = torch.arange(longest) - missing[:, None]
        inputs = {
            "input_ids": torch.tensor([(0,) * (longest - len(p.tokens)) + p.tokens for p in prompts]),
            "attention_mask": (slots >= 0).long(),
            "position_ids": slots.clamp_min(0),
            "at": missing + torch.tensor([prompt.at for prompt in prompts]),
        }
        inputs = {name: value.to(self.subject.device) for name, value in inputs.items()}
        return {k: v[:n] for k, v in inputs.items()}, {k: v[n:] for k, v in inputs.items()}

    @staticmethod
    def batched_loss(engines: list[NnsightEngine], base_JB, source_JB, label_JB, masks: list, precision: str = "fp32"):
        """One run after the other: this engine is there to be plain.  Raises ValueError unless in fp32."""
        if precision != "fp32":
            raise ValueError(f"the nnsight engine computes in fp32, not {precision}")
        losses, best = [], []
        for engine, base, source, label, mask in zip(engines, base_JB, source_JB, label_JB, masks, strict=True):
            logits = engine.logits(PairBatch.of(base, source, label, torch.zeros_like(base)), mask)
            losses.append(functional.cross_entropy(logits, label, reduction="none"))
            best.append(logits.argmax(-1))
        return torch.stack(losses), torch.stack(best)


ENGINES = {"fast": FastEngine, "nnsight": NnsightEngine}
