"""Two engines that compute the same: what the model answers to patched prompts.

fast    frozen residuals and prefix, only what the patch can reach (models.py)
nnsight the same the plain way: base and source in full, as two invokes of one
        trace; slow, kept to check the fast one against

An engine is bound to one layer and one featurizer.  `joint` takes several of them at
one layer through the model together: rows of J runs, B each, in one batch.
"""

from __future__ import annotations

from data.intervention_data import PairBatch
from data.ravel_data_prep import ATTRIBUTES, Prompts
from decoder.products import form_for
from featurizers.base import BoundFeaturizer
from imports import functional, nnsight, torch
from models import Harvest, Subject

AT_ONCE = 64  # rows through the blocks where nothing is trained


class FastEngine:
    """Answers to patched prompts on the exact fast path, at one layer.

    holds_still: `joint` reads nothing back from the device, and its shapes depend on J and B alone,
    unless the engine leaves_out rows or its site sorts them, as on a CPU.
    """

    holds_still = True

    def __init__(self, subject: Subject, prompts: Prompts, harvest: Harvest, layer: int, featurizer):
        self.site = harvest.site(subject, layer)
        self.frozen: BoundFeaturizer = featurizer.freeze(self.site.residuals[:, 0])
        n_features = featurizer.n_features  # and not the featurizer, which may hold a whole SAE
        self.n_active = n_features if self.frozen.alive is None else len(self.frozen.alive)
        self.widen = lambda theta: self.frozen.widen(theta, n_features)
        self.leaves_out = subject.device == "cpu"
        self._unmoved: dict[str, torch.Tensor] = {}

    def logits(self, pairs: PairBatch, mask):
        """Pairs and mask [n_active] -> last-position logits [N, vocabulary]."""
        subject = self._subject("fp32")
        base, source = (rows.to(subject.device) for rows in (pairs.base, pairs.source))
        return subject.logits(self.site.run(self.frozen.patch(base, source, mask), base, subject))

    @staticmethod
    def joint(engines: list[FastEngine], base_JB, source_JB, label_JB, masks: list, precision: str = "fp32"):
        """The answers' cross-entropy [J, B], differentiable in masks and featurizers, and likeliest tokens [J, B].

        Rows and labels lie on the subject's device; masks: [n_active] each.
        precision: of the products with the model's weights (training.PRECISIONS).
        """
        site, subject = engines[0].site, engines[0]._subject(precision)
        rows = zip(engines, base_JB, source_JB, masks, strict=True)
        x_ND = torch.cat([engine.frozen.patch(*its) for engine, *its in rows])
        base_N, moved = base_JB.flatten(), (base_JB != source_JB).flatten()
        # A city patched with itself (one pair of n in mode paper) gets the same answer whatever the mask, so it
        # needs no blocks.  A single row that is left would be rounded in another way than among others.
        if not engines[0].leaves_out or moved.all() or moved.sum() < 2:
            final_ND = site.run(x_ND, base_N, subject)
        else:
            rows = zip(engines, base_JB, strict=True)
            unmoved_ND = torch.cat([engine.unmoved(precision).index_select(0, base) for engine, base in rows])
            kept = moved.nonzero()[:, 0]
            final_ND = unmoved_ND.index_copy(0, kept, site.run(x_ND[kept], base_N[kept], subject))
        loss, best = subject.loss_and_best(final_ND, label_JB.flatten())
        return loss.view(base_JB.shape), best.view(base_JB.shape)

    def unmoved(self, precision: str):
        """Of all prompts, each city patched with itself: the last position's residuals [2 n, d_model], at the end."""
        if precision not in self._unmoved:
            subject, device = self._subject(precision), self.site.residuals.device
            mask = torch.zeros(self.n_active, device=device)
            with torch.no_grad():
                parts = [
                    self.site.run(self.frozen.patch(rows, rows, mask), rows, subject)
                    for rows in torch.arange(len(self.site.residuals), device=device).split(AT_ONCE)
                ]
            self._unmoved[precision] = torch.cat(parts)
        return self._unmoved[precision]

    def _subject(self, precision: str) -> Subject:
        subject = self.site.subject
        return subject.in_form(form_for(precision, subject.device))


class NnsightEngine:
    """The same from full forward passes of base and source, traced by nnsight."""

    holds_still = False

    def __init__(self, subject: Subject, prompts: Prompts, harvest: Harvest | None, layer: int, featurizer):
        self.subject = subject
        self.prompts = prompts
        self.layer = layer
        self.featurizer = featurizer
        self.n_active = featurizer.n_features
        self.widen = lambda theta: theta

    def logits(self, pairs: PairBatch, mask):
        """Pairs and mask [n_features] -> last-position logits [N, vocabulary]."""
        n = len(self.prompts)
        base, source = pairs.base.cpu(), pairs.source.cpu()
        parts, order = [], []
        for a, attribute in enumerate(ATTRIBUTES):  # prompts of one trace must be equally long
            chosen = (base // n == a).nonzero()[:, 0]
            if len(chosen):
                tokens = self.prompts.tokens[attribute]
                parts.append(self._traced(tokens[base[chosen] % n], tokens[source[chosen] % n], mask))
                order.append(chosen)
        return torch.cat(parts)[torch.cat(order).argsort().to(parts[0].device)]

    @staticmethod
    def joint(engines: list[NnsightEngine], base_JB, source_JB, label_JB, masks: list, precision: str = "fp32"):
        """One run after the other: this engine is there to be plain.  Raises ValueError unless in fp32."""
        if precision != "fp32":
            raise ValueError(f"the nnsight engine computes in fp32, not {precision}")
        losses, best = [], []
        for engine, base, source, label, mask in zip(engines, base_JB, source_JB, label_JB, masks, strict=True):
            logits = engine.logits(PairBatch(base, source, label, torch.ones_like(base, dtype=torch.bool)), mask)
            losses.append(functional.cross_entropy(logits, label, reduction="none"))
            best.append(logits.argmax(-1))
        return torch.stack(losses), torch.stack(best)

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
