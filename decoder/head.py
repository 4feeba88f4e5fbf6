"""The model's head, where only the loss and the likeliest token are asked for.

The logits of all words are never held at once.  The vocabulary is taken in parts; what a part
contributes is added up, and its logits are let go.  For a row with logits z_v that takes

    a = sum_v exp(z_v)     and     w = sum_v exp(z_v) dz_v/dx,      loss = log a - z_label,
                                                                    dloss/dx = w / a - dz_label/dx.

Exponentials of large logits overflow, so both sums are kept relative to the largest logit m seen so
far: a' = a exp(-m), w' = w exp(-m).  When a part brings a larger one, m_new, what was summed is
multiplied by exp(m - m_new) <= 1, and the sums go on relative to it (the "online softmax" of
Milakov & Gimelshein 2018; for a vocabulary: Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary
Language Models").  So one pass over the weights gives the loss and its gradient.

Names of tensors end in their shape: N rows, V words (of a part), D d_model.
"""

import math

from decoder.products import Plain
from decoder.structure import Structure
from imports import torch

PART = 4096  # words at a time on a CPU: the logits of 64 rows, 1 MB, stay in its cache


class Head:
    """The weights [V, D] of the head in parts of some words each, and what follows them.

    form: of the products with the weights (products.py).
    """

    def __init__(self, structure: Structure, form=Plain):
        self.weight_VD, self.bias_V = structure.head.weight, structure.head.bias
        self.scale, self.softcap = structure.scale, structure.softcap
        # A GPU takes one large product faster than many small ones.
        part = PART if self.weight_VD.device.type == "cpu" else len(self.weight_VD)
        self.parts = [form(weight.T) for weight in self.weight_VD.split(part)]
        self.biases = [None] * len(self.parts) if self.bias_V is None else self.bias_V.split(part)

    def logits(self, x_ND):
        """All logits [N, V] in fp32, differentiable."""
        z_NV = torch.nn.functional.linear(x_ND, self.weight_VD, self.bias_V).float()
        return self.capped(z_NV)[0]

    def capped(self, z_NV):
        """From what the product gives to logits, and their derivative by it (a number where it is one)."""
        z_NV = z_NV if self.scale == 1 else z_NV * self.scale
        if self.softcap is None:
            return z_NV, self.scale
        share = (z_NV / self.softcap).tanh()
        return share * self.softcap, (1 - share * share) * self.scale

    @staticmethod
    def by_slope(weight_NV, slope):
        return weight_NV.mul_(slope) if torch.is_tensor(slope) or slope != 1 else weight_NV

    def loss_and_best(self, x_ND, label_N):
        """Cross-entropy [N] of the logits against the labels, in nats, and the likeliest token [N].

        Differentiable in x alone.  Of equal logits the first token is the best.
        """
        return _LossAndBest.apply(x_ND, self, label_N)


class _LossAndBest(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_ND, head: Head, label_N):
        asks_gradient = ctx.needs_input_grad[0]
        x = x_ND.float()
        largest_N = x.new_full((len(x),), -math.inf)
        total_N, sum_ND = torch.zeros_like(largest_N), torch.zeros_like(x)
        best_N, start = torch.zeros_like(label_N), 0
        for part, bias in zip(head.parts, head.biases, strict=True):
            z_NV, slope = head.capped(part.times(x, bias).float())
            here_N, place_N = z_NV.max(dim=1)
            best_N = torch.where(here_N > largest_N, place_N + start, best_N)
            top_N = torch.maximum(here_N, largest_N)
            weight_NV = z_NV.sub_(top_N[:, None]).exp_()
            shrink_N = (largest_N - top_N).exp()
            total_N = total_N * shrink_N + weight_NV.sum(dim=1)
            if asks_gradient:
                sum_ND.mul_(shrink_N[:, None]).add_(part.back(head.by_slope(weight_NV, slope)))
            largest_N, start = top_N, start + weight_NV.shape[1]
        row_ND = part.rounded(head.weight_VD.index_select(0, label_N).float())
        z_N1 = (part.rounded(x) * row_ND).sum(dim=1, keepdim=True)
        if head.bias_V is not None:
            z_N1 = z_N1 + head.bias_V[label_N, None].float()
        z_N1, slope = head.capped(z_N1)
        if asks_gradient:
            ctx.save_for_backward(sum_ND / total_N[:, None] - row_ND * slope)
        ctx.mark_non_differentiable(best_N)
        return largest_N + total_N.log() - z_N1[:, 0], best_N

    @staticmethod
    def backward(ctx, grad_N, _):
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * grad_N[:, None], None, None
