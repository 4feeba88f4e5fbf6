"""The model's head, where only the loss and the best token are asked for.

Logits of all 50,257 tokens are never held at once: the head's weights are read a part at a
time, and a part is used for the logits and for the gradient while it is at hand (cf. Wijmans
et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models").
"""

from __future__ import annotations

import functools
import math

from imports import torch
from products import Plain

PART = 1024  # tokens at a time on a CPU: their weights, 3 MB at GPT-2 small's width, stay in its cache


class Head:
    """The frozen weights W [V, d_model] of lm_head, in parts of some tokens each, all in a form (products.py)."""

    def __init__(self, W_VD, form=Plain):
        self.W = W_VD
        part = PART if W_VD.device.type == "cpu" else len(W_VD)  # a GPU would wait for so many small products
        self.parts = [form(weights.T) for weights in W_VD.split(part)]

    def loss_and_best(self, x_ND, label_N):
        """Cross-entropy [N] of the logits x @ W.T against the labels, in nats, and the likeliest token [N].

        Differentiable in x alone.  Of equal logits the first token is the best.
        """
        return _function().apply(x_ND, self, label_N)


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
                here, token = logits.max(dim=1)
                best = torch.where(here > largest, token + start, best)
                top = torch.maximum(here, largest)
                scale = (largest - top).exp()
                shares = logits.sub_(top[:, None]).exp_()
                total = total * scale + shares.sum(dim=1)
                if asks_gradient:
                    mean = mean.mul_(scale[:, None]).add_(part.back(shares))
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
