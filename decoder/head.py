"""The model's head, where only the loss and the best token are asked for.

Logits of all 50,257 tokens are never held at once: a part of the vocabulary is used for the logits
and for the gradient before the next is looked at (cf. Wijmans et al. 2024, "Cut Your Losses in
Large-Vocabulary Language Models").
"""

from __future__ import annotations

import functools
import math

from decoder.products import Plain
from imports import torch

PART = 4096  # tokens at a time on a CPU: 64 rows' logits, 1 MB, stay in its cache; fewer cost more in calls


class Head:
    """The frozen weights W [V, d_model] of lm_head, in parts of some tokens each, all in a form (products.py).

    reads_back: numbers decide what is computed next; so it is on a CPU, while a GPU would have to be waited for.
    """

    def __init__(self, W_VD, form=Plain):
        self.W = W_VD
        self.reads_back = W_VD.device.type == "cpu"
        part = PART if self.reads_back else len(W_VD)  # a GPU would wait for so many small products
        self.parts = [form(weights.T) for weights in W_VD.split(part)]

    def loss_and_best(self, x_ND, label_N):
        """Cross-entropy [N] of the logits x @ W.T against the labels, in nats, and the likeliest token [N].

        Differentiable in x alone.  Of equal logits the first token is the best.
        """
        return _function().apply(x_ND, self, label_N)


def _first_best(best_N, largest_N, here_N, logits_NV, start: int, reads_back: bool):
    """The likeliest token so far: of the parts before, or in this one, where its largest logit, `here`, is larger."""
    is_better = here_N > largest_N
    if not reads_back:
        return torch.where(is_better, logits_NV.argmax(dim=1) + start, best_N)
    rows = is_better.nonzero()[:, 0]  # soon few; an argmax takes ten times as long as an amax
    return best_N.index_copy(0, rows, logits_NV.index_select(0, rows).argmax(dim=1) + start)


@functools.cache
def _function():
    # Defined on first use, as its base class would load torch when this file is imported.
    class LossAndBest(torch.autograd.Function):
        """The softmax's normaliser and its product with the weights are kept relative to the largest logit so far."""

        @staticmethod
        def forward(ctx, x, head, label):
            asks_gradient = ctx.needs_input_grad[0]
            largest = x.new_full((len(x),), -math.inf)
            total, mean = torch.zeros_like(largest), torch.zeros_like(x)
            best = torch.zeros_like(label)
            start, rounded = 0, head.parts[0].rounded
            for part in head.parts:
                logits = part.times(x)
                here = logits.amax(dim=1)
                best = _first_best(best, largest, here, logits, start, head.reads_back)
                top = torch.maximum(here, largest)
                shares, scale = logits.softmax(dim=1), (largest - top).exp()
                weight = (here - top).exp() / shares.amax(dim=1)  # the largest share is 1 over the part's sum
                total = total * scale + weight
                if asks_gradient:
                    mean = mean.mul_(scale[:, None]).addcmul_(part.back(shares), weight[:, None])
                largest = top
                start += logits.shape[1]
            of_label = rounded(head.W.index_select(0, label))
            if asks_gradient:
                ctx.save_for_backward(mean / total[:, None] - of_label)
            ctx.mark_non_differentiable(best)
            return largest + total.log() - (rounded(x) * of_label).sum(dim=1), best

        @staticmethod
        def backward(ctx, grad_N, _):
            (gradient,) = ctx.saved_tensors
            return gradient * grad_N[:, None], None, None

    return LossAndBest
