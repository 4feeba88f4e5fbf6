"""x expm(A) for a few rows x and a skew-symmetric A, without ever forming expm(A).

The eigenvalues of A lie on the imaginary axis between -i r and i r for every r >= |A|, and there

    exp(z) = J_0(r) + 2 sum_k J_k(r) p_k(z / r),    p_0 = 1,  p_1 = z,  p_{k+1} = 2 z p_k + p_{k-1}

with Bessel functions J_k: the Chebyshev series of the exponential (Tal-Ezer & Kosloff 1984, "An
accurate and efficient scheme for propagating the time dependent Schrödinger equation"), p_k being
i^k times the Chebyshev polynomial of -i z.  So x expm(A) is a sum of x p_k(A / r), each one
product of a few rows with A further than the last.  Some r + 12 terms reach fp32's rounding;
scaling and a Taylor series need about twice as many, and torch.matrix_exp multiplies whole
matrices and exponentiates one of twice the width in its backward.
"""

from __future__ import annotations

import functools
import math

from imports import UserError, np, torch
from products import Plain, form_for

LARGEST_NORM = 1e4  # of A; a training that gets there has diverged
SMALLEST_REACH = 0.25
GRID = 1.1  # reaches are powers of it: a series changes seldom while A grows
MARGIN = 1.15  # `norm_estimate` is a lower bound, up to a tenth too low


class Turn:
    """expm(A) for a skew A [D, D] by which several sets of rows are to be multiplied.

    reach: a `Reach` that knows how far the series must go; by default it is measured.
    Raises UserError if the norm of A is measured, and is too large or not a number.
    """

    def __init__(self, skew_DD, reach: Reach | None = None):
        self.skew = skew_DD
        # A's transpose, -A, is what oneDNN lays out at once; A itself would take it ten times as long.
        self.backwards = form_for("fp32", skew_DD.device.type)(skew_DD.detach().T)
        self.reach = (reach or Reach(skew_DD.device)).of(self.backwards)

    def __call__(self, x_BD, sign: int = 1):
        """x @ expm(sign * A) for rows x [B, D], differentiable in both."""
        coefficients = series(self.reach, torch.finfo(x_BD.dtype).eps, sign)
        return _action().apply(x_BD, self.skew, self.backwards, self.reach, coefficients)


def expm_action(x_BD, skew_DD, sign: int = 1):
    """x @ expm(sign * A) of one `Turn`."""
    return Turn(skew_DD)(x_BD, sign)


def skew_of(lower_DD):
    """The skew matrix with this lower triangle, differentiable; what stands on the diagonal and above is not read."""
    return _skew().apply(lower_DD)


def reach_for(norm: float) -> float:
    """A reach for matrices of this estimated norm.

    Raises UserError if the training that led there has diverged.
    """
    if not norm < LARGEST_NORM:
        raise UserError(f"das diverged (its rotation's parameter grew to a norm of {norm:.2g}); lower --lr")
    wanted = max(SMALLEST_REACH, MARGIN * norm)
    return GRID ** math.ceil(math.log(wanted, GRID) - 1e-9)


class Reach:
    """How far the series of an A that is trained must reach: looked up each time, or fixed for many.

    Steps that a GPU takes without the host cannot look it up (stepping.py).  So it is fixed
    before them, with room for A to grow, and after them it is asked whether that was enough.

    value: while it is fixed, else None.
    """

    def __init__(self, device="cpu"):
        self.value: float | None = None
        self._before: float | None = None
        self._largest = torch.zeros((), device=device)  # norm of A while it is fixed

    def of(self, matrix: Plain) -> float:
        """For an A, or -A, now.  Raises UserError if it is looked up and has diverged."""
        norm = norm_estimate(matrix)
        if self.value is None:
            return reach_for(float(norm))
        torch.maximum(self._largest, norm, out=self._largest)
        return self.value

    def fix(self, skew_DD, room: float, at_least: float = 0.0) -> None:
        """As far as for this A, times `room`.  Raises UserError if it has diverged.

        The value that was fixed before is taken again if it is still fair: a graph that has it built in serves on.
        """
        norm = float(norm_estimate(Plain(skew_DD.detach())))
        lowest, highest = (max(reach_for(times * norm), at_least) for times in (1.1, room**2))
        if self._before is None or not lowest <= self._before <= highest:
            self._before = reach_for(max(room * norm, at_least / MARGIN))
        self.value = self._before
        self._largest.zero_()

    def was_enough(self) -> bool:
        """For A at every time since."""
        return MARGIN * float(self._largest) <= self.value

    def free(self) -> None:
        """From now on, it is looked up."""
        self.value = None


def norm_estimate(matrix: Plain):
    """A lower bound of the 2-norm, mostly within a tenth of it, as a tensor: power iterations on four fixed rows."""
    D, like = matrix.weight.shape[0], matrix.weight
    grid = torch.arange(1, 4 * D + 1, dtype=like.dtype, device=like.device).view(4, D)
    probe = torch.sin(grid * grid * 0.7390851)  # no two alike, and no random numbers used up
    for _ in range(6):
        probe = matrix.times(probe / probe.norm(dim=1, keepdim=True).clamp_min(1e-30))
    return probe.norm(dim=1).max()


@functools.lru_cache(maxsize=256)
def series(reach: float, precision: float, sign: int = 1) -> tuple[float, ...]:
    """The coefficients of exp(sign z) on [-i reach, i reach], up to those below the precision.

    J_k(r) is the k-th Fourier coefficient of exp(i r cos t) over i^k.
    """
    n = 2 * math.ceil(reach) + 80
    waves = np.fft.fft(np.exp(1j * reach * np.cos(2 * np.pi * np.arange(n) / n))) / n
    bessel = (waves / 1j ** (np.arange(n) % 4)).real[: n // 2]
    found = sign ** np.arange(n // 2) * bessel * np.where(np.arange(n // 2) > 0, 2, 1)
    kept = np.nonzero(np.abs(found) > precision)[0][-1] + 1
    return tuple(found[: max(2, kept)].tolist())


# ---------------------------------------------------------------- with their gradients

# Defined on first use, as their base class would load torch when this file is imported.


@functools.cache
def _action():
    class ExpmAction(torch.autograd.Function):
        """Keeps every x p_k(A / r), so that A's gradient is one product at the end."""

        @staticmethod
        def forward(ctx, x, _, backwards, reach, coefficients):
            terms = x.new_empty(len(coefficients), *x.shape)
            terms[0] = x
            torch.mul(backwards.times(x), -1 / reach, out=terms[1])
            for k in range(2, len(coefficients)):
                torch.add(terms[k - 2], backwards.times(terms[k - 1]), alpha=-2 / reach, out=terms[k])
            ctx.save_for_backward(terms)
            ctx.backwards, ctx.reach, ctx.coefficients = backwards, reach, coefficients
            total = terms[0] * coefficients[0]
            for k in range(1, len(coefficients)):
                total.add_(terms[k], alpha=coefficients[k])
            return total

        @staticmethod
        def backward(ctx, grad):
            """The recurrence backwards (Clenshaw's), with A^T = -A."""
            (terms,) = ctx.saved_tensors
            last = len(ctx.coefficients) - 1
            grads = torch.empty_like(terms[:-1])  # of each product with A
            here, later = grad * ctx.coefficients[last], None  # of terms k and k + 1
            for k in range(last - 1, -1, -1):
                torch.mul(here, (1 if k == 0 else 2) / ctx.reach, out=grads[k])
                if k == 0 and not ctx.needs_input_grad[0]:
                    break
                own = grad * ctx.coefficients[k] if later is None else later.add(grad, alpha=ctx.coefficients[k])
                here, later = ctx.backwards.times(grads[k]).add_(own), here
            grad_skew = None
            if ctx.needs_input_grad[1]:
                D = grad.shape[1]
                grad_skew = terms[:-1].reshape(-1, D).T @ grads.reshape(-1, D)
            return here, grad_skew, None, None, None

    return ExpmAction


@functools.cache
def _skew():
    class Skew(torch.autograd.Function):
        @staticmethod
        def forward(_, lower):
            kept = lower.tril(-1)
            return kept - kept.T

        @staticmethod
        def backward(_, grad):
            return (grad - grad.T).tril_(-1)

    return Skew
