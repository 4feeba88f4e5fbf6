"""Products with a model's frozen weights, each in the form that a device takes fastest.

More than 80 % of a training step are products with weights that never change, once forward
and once back for the gradient of what came in.  So the weights may be laid out for it
beforehand: where oneDNN (a part of torch) is given weights in its own layout, torch.addmm, which calls
MKL, took 1.1 to 1.2 times as long on an AMD processor (benchmarks/parts.py: products, few).
torch offers that for inference alone, through the operators that its compiler emits; what is
added here is the way back.

A form is made of a weight [K, N] and has two products: `times`, rows [R, K] -> [R, N], and `back`,
gradients [R, N] -> [R, K], both with fp32 outside.
"""

from __future__ import annotations

import functools
import platform
from types import SimpleNamespace

from imports import torch

WORTH_PACKING = 2**18  # entries of a weight: below, calling oneDNN takes longer than it saves
ROWS = 512  # that a layout is made for; it serves any number of them


class Plain:
    """As torch multiplies."""

    def __init__(self, weight_KN):
        self.weight = weight_KN

    def times(self, x_RK, bias_N=None):
        return x_RK @ self.weight if bias_N is None else torch.addmm(bias_N, x_RK, self.weight)

    def back(self, grad_RN):
        return grad_RN @ self.weight.T

    @staticmethod
    def rounded(x):
        """What of these numbers a product sees."""
        return x


class InBf16:
    """Weights and what meets them rounded to bfloat16, sums in fp32 where the device has them."""

    def __init__(self, weight_KN):
        self.weight = weight_KN.to(torch.bfloat16)

    def times(self, x_RK, bias_N=None):
        low = x_RK.to(torch.bfloat16)
        out = low @ self.weight if bias_N is None else torch.addmm(bias_N.to(torch.bfloat16), low, self.weight)
        return out.to(x_RK.dtype)

    def back(self, grad_RN):
        return (grad_RN.to(torch.bfloat16) @ self.weight.T).to(grad_RN.dtype)

    @staticmethod
    def rounded(x):
        return x.to(torch.bfloat16).to(x.dtype)


class Packed(Plain):
    """In oneDNN's layout, one for either direction, each made on first use; the weight itself is kept too.

    A row's result does not depend on how many rows there are, from two on (tests/test_products.py).
    """

    def times(self, x_RK, bias_N=None):
        return self._linear(x_RK, self._forth, bias_N)

    def back(self, grad_RN):
        return self._linear(grad_RN, self._back, None)

    @functools.cached_property
    def _forth(self):
        return self._pack(self.weight.T)

    @functools.cached_property
    def _back(self):
        return self._pack(self.weight)

    @staticmethod
    def _pack(weight_OI):
        return torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach().contiguous(), ROWS)

    @staticmethod
    def _linear(x_RI, packed, bias_O):
        return torch.ops.mkldnn._linear_pointwise(x_RI.contiguous(), packed, bias_O, "none", [], "")


def packed(weight_KN):
    """`Packed` where that is faster, else `Plain`."""
    is_worth_it = weight_KN.numel() >= WORTH_PACKING and weight_KN.dtype == torch.float32
    return (Packed if is_worth_it else Plain)(weight_KN)


@functools.cache
def can_pack() -> bool:
    """Whether this torch and processor have what `Packed` calls; elsewhere it was never tried."""
    operators = ("_linear_pointwise", "_reorder_linear_weight")
    return (
        platform.machine().lower() in ("x86_64", "amd64")
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in operators)
    )


def form_for(precision: str, device: str):
    """What makes the form in which steps of a precision (training.PRECISIONS) multiply; with `Plain` nothing is new.

    tf32 is the weights in fp32, of which torch makes what it was told to (`training.in_precision`).
    """
    if precision == "bf16":
        return InBf16
    return packed if device == "cpu" and can_pack() else Plain


# ---------------------------------------------------------------- in a model


class Layer:
    """Stands for a model's Conv1D: x @ weight + bias of the last axis, differentiable in x alone."""

    def __init__(self, matrix: Plain | InBf16, bias):
        self.matrix, self.weight, self.bias = matrix, matrix.weight, bias

    def __call__(self, x):
        flat = x.reshape(-1, x.shape[-1])
        return _product().apply(flat, self.matrix, self.bias).view(*x.shape[:-1], -1)


@functools.cache
def _product():
    # Defined on first use, as its base class would load torch when this file is imported.
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x_RK, matrix, bias_N):
            ctx.matrix = matrix
            return matrix.times(x_RK, bias_N)

        @staticmethod
        def backward(ctx, grad_RN):
            return ctx.matrix.back(grad_RN) if ctx.needs_input_grad[0] else None, None, None

    return Product


def block_in(block, form):
    """A GPT-2 block as blocks.py reads it, its four large products in this form; all else is the block's own."""

    def made(layer):
        matrix = form(layer.weight)
        return layer if type(matrix) is Plain else Layer(matrix, layer.bias)

    attn, mlp = block.attn, block.mlp
    return SimpleNamespace(
        ln_1=block.ln_1,
        attn=SimpleNamespace(c_attn=made(attn.c_attn), c_proj=made(attn.c_proj), num_heads=attn.num_heads),
        ln_2=block.ln_2,
        mlp=SimpleNamespace(c_fc=made(mlp.c_fc), c_proj=made(mlp.c_proj), act=mlp.act),
    )
