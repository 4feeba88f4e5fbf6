"""Skew-symmetric matrices A as what multiplies rows, and what gives the gradient of their parameter.

`times` multiplies by -A, which is A^T: oneDNN packs a transpose ten times as fast as A itself.
"""

from decoder.products import form_for
from imports import torch


class Dense:
    """A [D, D] as it stands, its own parameter.

    form: of the product (decoder/products.py); by default the fastest on its device.
    """

    def __init__(self, skew_DD, form=None):
        self.weight, self.width = skew_DD.detach(), len(skew_DD)
        self.form = (form or form_for("fp32", skew_DD.device.type))(self.weight.T)

    def times(self, x_BD):
        return self.form.times(x_BD)

    def gradient(self, rows_ND, grads_ND):
        """That of A among all matrices, where the sum over n of <rows A, grads> has this one of A."""
        return rows_ND.T @ grads_ND


class Blocks:
    """A = [[0, -B^T], [B, 0]] with the parameter B [D - K, K]: two narrow products in place of a wide one."""

    def __init__(self, B_EK):
        self.weight, self.width, self.size = B_EK.detach(), sum(B_EK.shape), B_EK.shape[1]

    def times(self, x_BD):
        first, rest = x_BD[:, : self.size], x_BD[:, self.size :]
        return torch.cat([-(rest @ self.weight), first @ self.weight.T], dim=1)

    def gradient(self, rows_ND, grads_ND):
        """That of B: of the lower block of A's gradient less the transpose of the upper one."""
        first, rest = rows_ND[:, : self.size], rows_ND[:, self.size :]
        grads_first, grads_rest = grads_ND[:, : self.size], grads_ND[:, self.size :]
        return rest.T @ grads_first - grads_rest.T @ first
