"""Products with frozen weights, each in the form that a device takes fastest.

More than 80 % of a training step are products with weights that never change, once forward and once
backward.  oneDNN (a part of torch) takes weights that lie in its own layout 1.1 to 1.2 times as fast
as torch.addmm takes plain ones (AMD processor, few rows; benchmarks/parts.py).  torch offers that for
inference, through the operators that its compiler emits; what is added here is the backward pass.

A form is made of a weight [K, N] and has two products: `times`, rows [R, K] -> [R, N], and `back`,
gradients [R, N] -> [R, K], both with the dtype of what comes in outside.
"""

import copy
import functools
import platform

from imports import torch, transformers

WORTH_PACKING = 2**18  # entries of a weight: below, calling oneDNN takes longer than it saves
ROWS = 512  # that a layout is made for; it serves any number of them


class Plain:
    """As torch multiplies, in the weight's own dtype."""

    def __init__(self, weight_KN):
        self.weight = weight_KN

    def times(self, x_RK, bias_N=None):
        x = x_RK.to(self.weight.dtype)
        out = x @ self.weight if bias_N is None else torch.addmm(bias_N.to(x.dtype), x, self.weight)
        return out.to(x_RK.dtype)

    def back(self, grad_RN):
        return (grad_RN.to(self.weight.dtype) @ self.weight.T).to(grad_RN.dtype)

    def rounded(self, x):
        """What of these numbers a product sees."""
        return x.to(self.weight.dtype).to(x.dtype)


class InBf16(Plain):
    """Weights and what meets them rounded to bfloat16, sums in fp32 where the device has them."""

    def __init__(self, weight_KN):
        super().__init__(weight_KN.to(torch.bfloat16))


class Packed(Plain):
    """In oneDNN's layout, one for either direction, each made on first use; the weight itself is kept too.

    A row's result does not depend on how many rows there are, from two on (tests/decoder/test_products.py).
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


def never_pack() -> None:
    """From now on this process multiplies as torch does."""
    global _may_pack
    _may_pack = False


_may_pack = True


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
    """What makes the form in which steps of a precision (masks/names.py) multiply on a kind of device.

    tf32 multiplies fp32 weights; torch is told separately (`training.in_precision`).
    """
    if precision == "bf16":
        return InBf16
    return packed if device == "cpu" and _may_pack and can_pack() else Plain


# ---------------------------------------------------------------- in a layer


class Product(torch.nn.Module):
    """Stands for a layer's Linear: x @ weight + bias, differentiable in x alone."""

    def __init__(self, matrix: Plain, bias_N=None):
        super().__init__()
        self.matrix, self.bias_N = matrix, bias_N

    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        return _Product.apply(flat, self.matrix, self.bias_N).view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_RK, matrix: Plain, bias_N):
        ctx.matrix = matrix
        return matrix.times(x_RK, bias_N)

    @staticmethod
    def backward(ctx, grad_RN):
        return ctx.matrix.back(grad_RN) if ctx.needs_input_grad[0] else None, None, None


def with_products(layer, form):
    """The same layer with every linear map in a form; it shares all parameters and settings with the layer.

    `Plain`: the layer itself.
    """
    if form is Plain:
        return layer
    kept = [*layer.parameters(), *layer.buffers(), *(m.config for m in layer.modules() if hasattr(m, "config"))]
    other = copy.deepcopy(layer, {id(thing): thing for thing in kept})
    for path, module in list(other.named_modules()):
        matrix = _matrix(module, form)
        if matrix is not None and type(matrix) is not Plain:
            setattr(other.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], Product(matrix, module.bias))
    return other


def _matrix(module, form) -> Plain | None:
    if type(module) is torch.nn.Linear:
        return form(module.weight.T)
    if type(module) is transformers.pytorch_utils.Conv1D:
        return form(module.weight)
    return None
