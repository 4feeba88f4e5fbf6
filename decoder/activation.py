"""GPT-2's activation, with its slope computed on the way there.

gelu_new(x) = x s, where s = sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) (Hendrycks & Gimpel 2016, "Gaussian Error
Linear Units"; the tanh there is 2 s - 1).  The slope, s + x s (1 - s) (2 sqrt(2/pi) (1 + 3 * 0.044715 x^2)),
costs little once s is at hand; torch's backward takes another tanh.
"""

from __future__ import annotations

import functools
import math

from imports import functional, torch

STEEPNESS = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715
AT_ONCE = 2**18  # numbers whose intermediate results stay in a processor's cache


def activation(module):
    """The same as a module: gelu_new in few passes, any other as it is."""
    return gelu if type(module).__name__ == "NewGELUActivation" else module


def gelu(x):
    """gelu_new of any shape, differentiable."""
    on_cpu = x.device.type == "cpu"  # elsewhere a single kernel is faster than few passes
    return _gelu().apply(x) if on_cpu else functional.gelu(x, approximate="tanh")


@functools.cache
def _gelu():
    # Defined on first use, as its base class would load torch when this file is imported.
    class Gelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            x = x.contiguous()
            out, steepness = torch.empty_like(x), x.new_full((), STEEPNESS)
            slope = torch.empty_like(x) if ctx.needs_input_grad[0] else None
            for start in range(0, x.numel(), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                x_N, out_N = x.view(-1)[part], out.view(-1)[part]
                ratio = torch.addcmul(steepness, x_N, x_N, value=STEEPNESS * CUBIC)  # of the sigmoid's argument to x
                s = (ratio * x_N).sigmoid_()
                torch.mul(x_N, s, out=out_N)
                if slope is not None:
                    rest = torch.addcmul(out_N, out_N, s, value=-1)
                    torch.addcmul(s, rest, ratio.sub_(STEEPNESS * 2 / 3), value=3, out=slope.view(-1)[part])
            ctx.save_for_backward(slope)
            return out

        @staticmethod
        def backward(ctx, grad):
            (slope,) = ctx.saved_tensors
            return grad * slope

    return Gelu
