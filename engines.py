"""Two engines that compute the same: the logits of patched prompts.

fast    frozen residuals and prefix, only what the patch can reach (models.py)
nnsight the same step the plain way: base and source in full, as two invokes of
        one trace; slow, kept to check the fast one against

An engine is bound to one layer and one featurizer.  `joint` takes several of them at
one layer through the model together: rows of several runs in one batch.
"""

from __future__ import annotations

from data.intervention_data import PairBatch
from data.ravel_data_prep import ATTRIBUTES, Prompts
from featurizers import Frozen
from imports import nnsight, torch
from models import Harvest, Subject


class FastEngine:
    """Logits of patched prompts on the exact fast path, at one layer."""

    def __init__(self, subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, featurizer):
        self.subject = subject
        self.harvest = harvest
        self.layer = layer
        self.residuals = harvest.residuals[layer]  # [2 n, S, d_model]
        self.prefix_of = torch.tensor(harvest.prefix_of)
        self.frozen: Frozen = featurizer.freeze(self.residuals[:, 0])
        n_features = featurizer.n_features  # and not the featurizer, which may hold a whole SAE
        self.n_active = n_features if self.frozen.alive is None else len(self.frozen.alive)
        self.widen = lambda theta: self.frozen.widen(theta, n_features)

    def logits(self, pairs: PairBatch, mask):
        """Pairs (rows on the CPU) and mask [n_active] -> last-position logits [B, vocabulary]."""
        return self.joint([self], [pairs], [mask])

    @staticmethod
    def joint(engines: list[FastEngine], batches: list[PairBatch], masks: list):
        """Logits [sum of B, vocabulary] of every engine's own pairs and mask, in the order given."""
        first = engines[0]
        device, prefixes = first.subject.device, first.harvest.prefixes
        base = torch.cat([pairs.base for pairs in batches])
        prefix_of = first.prefix_of[base]
        order = prefix_of.argsort(stable=True)  # rows are run sorted by prefix
        sizes = prefix_of.bincount(minlength=len(prefixes)).tolist()
        used = [p for p, size in enumerate(sizes) if size]
        x_BD = torch.cat(
            [
                engine.frozen.patch(pairs.base.to(device), pairs.source.to(device), mask)
                for engine, pairs, mask in zip(engines, batches, masks, strict=True)
            ]
        )
        x_BSD = torch.cat([x_BD[:, None], first.residuals[base.to(device), 1:]], dim=1)
        if len(used) > 1:
            x_BSD = x_BSD[order.to(device)]
        logits = first.subject.suffix_logits(x_BSD, first.layer, [prefixes[p] for p in used], [sizes[p] for p in used])
        return logits if len(used) == 1 else logits[order.argsort().to(device)]


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

    @staticmethod
    def joint(engines: list[NnsightEngine], batches: list[PairBatch], masks: list):
        """One after the other: this engine is there to be plain."""
        return torch.cat([engine.logits(*its) for engine, *its in zip(engines, batches, masks, strict=True)])

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


ENGINES = {"fast": FastEngine, "nnsight": NnsightEngine}
