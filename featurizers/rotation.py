"""x expm(A) for a few rows x and a skew-symmetric A, without ever forming expm(A).

The eigenvalues of A lie on the imaginary axis between -i r and i r for every r >= |A|, and there

    exp(s z) = J_0(s r) + 2 sum_k J_k(s r) p_k(z / r),    p_0 = 1,  p_1 = z,  p_{k+1} = 2 z p_k + p_{k-1}

with Bessel functions J_k: the Chebyshev series of the exponential (Tal-Ezer & Kosloff 1984, "An
accurate and efficient scheme for propagating the time dependent Schrödinger equation"), p_k being
i^k times the Chebyshev polynomial of -i z.  So x expm(s A) for any s up to 1 is a sum of the same
terms x p_k(A / r), each one product of a few rows with A further than the last.  Some r + 12 of
them reach fp32's rounding; scaling and a Taylor series need about twice as many, and
torch.matrix_exp multiplies whole matrices and exponentiates one of twice the width in its backward.

The gradient is of the same kind.  With g that of y = x expm(A), and A^T = -A,

    dL/dx = g expm(-A),    dL/dA = integral over s from 0 to 1 of  (x expm(s A))^T (g expm((s - 1) A))

(Wilcox 1967, "Exponential operators and parameter differentiation in quantum physics", eq. 2.1).  What is
integrated swings no faster than exp(2 i r s), so a few points of Gauss and Legendre give the
integral to rounding (7 where the series has 13 terms), and all of them are sums of terms at hand.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

from common.errors import UserError
from decoder.products import Plain
from featurizers.skew import Blocks, Dense
from imports import np, torch

LARGEST_NORM = 1e4  # of A; a training that gets there has diverged
SMALLEST_REACH = 0.25
GRID = 1.1  # reaches are powers of it: a series changes seldom while A grows
MARGIN = 1.15  # `norm_estimate` is a lower bound, up to a tenth too low


class SkewExp:
    """The rotation expm(A) of a skew A [D, D], and its inverse, applied to rows.

    parameter: what A is made of, by `kind`: A itself, or B of featurizers/skew.py's Blocks.
    bound: of the norm of A, which sets the length of the series; by default the norm is measured.
    Raises UserError if the norm is measured and is too large or not a number.
    """

    def __init__(self, parameter, bound: NormBound | None = None, kind: type[Dense | Blocks] = Dense):
        self.parameter, self.backwards = parameter, kind(parameter)
        self.series = (bound or NormBound(parameter.device, parameter.dtype)).of(self.backwards)

    def masked(self, x_BD, mask_D):
        """(x expm(A) * mask) expm(-A) for rows x [B, D], differentiable in all three.

        The gradient of a dense A is that among all matrices; `keep_skew` makes of it what keeps A skew.
        """
        return _Masked.apply(x_BD, mask_D, self.parameter, self.backwards, self.series)


def keep_skew(skew_DD):
    """Identity forward; backward antisymmetrises the gradient, so that Adam keeps A skew.

    Adam treats every entry alone, and g like -g: the lower triangle moves as if it alone were the parameter, and the
    upper one stays its negative.
    """
    return _KeepSkew.apply(skew_DD)


def bound_for(norm: float) -> float:
    """A bound for the norm of matrices whose norm was estimated so.

    Raises UserError if it is so large that training must have diverged.
    """
    if not norm < LARGEST_NORM:
        raise UserError(f"das diverged (its rotation's parameter grew to a norm of {norm:.2g}); lower --lr")
    wanted = max(SMALLEST_REACH, MARGIN * norm)
    return GRID ** math.ceil(math.log(wanted, GRID) - 1e-9)


class NormBound:
    """A bound for the norm of an A that is trained, which sets the length of its series.

    By default the norm is estimated for each step.  A chunk of steps on a GPU runs without the host
    (masks/stepping.py): there the bound is fixed before the chunk, with room for A to grow, and checked after it.
    """

    def __init__(self, device="cpu", dtype=None):
        """dtype: of A; fp32 by default."""
        self.kind = (str(device), dtype or torch.float32)
        self.fixed: Series | None = None
        self._before: Series | None = None  # kept: a captured graph reads its coefficients in place
        self._largest = torch.zeros((), device=device)  # norm of A while it is fixed

    @property
    def value(self) -> float | None:
        """The bound while it is fixed."""
        return self.fixed.reach if self.fixed else None

    @property
    def kept(self) -> float:
        """The bound that was fixed last, which `fix` reuses while it fits; 0 before the first."""
        return self._before.reach if self._before else 0.0

    def keep(self, reach: float) -> None:
        """Let this be the bound that was fixed last, as in a training that is taken up."""
        self._before = series(reach, *self.kind) if reach else None

    def of(self, matrix: Dense | Blocks) -> Series:
        """The series for an A, or -A.  Raises UserError if its norm is estimated and shows that training diverged."""
        norm = norm_estimate(matrix)
        if self.fixed is None:
            return series(bound_for(float(norm)), *self.kind)
        torch.maximum(self._largest, norm, out=self._largest)
        return self.fixed

    def fix(self, skew_DD, room: float, at_least: float = 0.0) -> None:
        """Fix the bound at the norm of this A times `room`.  Raises UserError if training diverged.

        A series that was fixed before is reused if its bound still fits, so that a captured graph stays valid.
        """
        norm = float(norm_estimate(Dense(skew_DD, Plain)))
        lowest, highest = (max(bound_for(times * norm), at_least) for times in (1.1, room**2))
        if self._before is None or not lowest <= self._before.reach <= highest:
            self._before = series(bound_for(max(room * norm, at_least / MARGIN)), *self.kind)
        self.fixed = self._before
        self._largest.zero_()

    def was_enough(self) -> bool:
        """Whether the norm of A stayed below the bound since it was fixed."""
        return MARGIN * float(self._largest) <= self.value

    def free(self) -> None:
        """From now on, estimate the norm for each step."""
        self.fixed = None


def norm_estimate(matrix: Dense | Blocks):
    """A lower bound of the 2-norm, mostly within a tenth of it, as a tensor: power iterations on four fixed rows."""
    probe = _probe(matrix.width, str(matrix.weight.device), matrix.weight.dtype)
    for _ in range(6):
        probe = matrix.times(probe / probe.norm(dim=1, keepdim=True).clamp_min(1e-30))
    return probe.norm(dim=1).max()


@functools.lru_cache(maxsize=8)
def _probe(D: int, device: str, dtype):
    """Four rows [4, D], no two alike, and no random numbers used up."""
    grid = torch.arange(1, 4 * D + 1, dtype=dtype, device=device).view(4, D)
    return torch.sin(grid * grid * 0.7390851)


@dataclass(frozen=True)
class Series:
    """What multiplies the n terms of x, x p_k(A / r), or those of a gradient, to give what is asked for.

    reach: r; by sign, 1 or -1, of A:
    end: [1, n], for x expm(sign A); nodes: [m, n], for x expm(sign s A) at each of m points s;
    back: [m, n], for sign * weight * g expm(sign (s - 1) A) at each.
    """

    reach: float
    end: dict[int, torch.Tensor]
    nodes: dict[int, torch.Tensor]
    back: dict[int, torch.Tensor]

    @property
    def n(self) -> int:
        return self.end[1].shape[1]


@functools.lru_cache(maxsize=64)
def series(reach: float, device: str, dtype) -> Series:
    """On [-i reach, i reach], cut below the precision of `dtype`."""
    precision = torch.finfo(dtype).eps
    n = max(2, np.nonzero(np.abs(_coefficients(reach, [1.0])[0]) > precision)[0][-1] + 1)
    s, weight = _gauss(reach, precision)

    def tensor(times, scale=1.0):
        found = _coefficients(reach, times)[:, :n] * np.reshape(scale, (-1, 1))
        return torch.tensor(found, dtype=dtype, device=device)

    end, nodes, back = {}, {}, {}
    for sign in (1, -1):
        end[sign] = tensor([sign])
        nodes[sign] = tensor(sign * s)
        back[sign] = tensor(sign * (s - 1), sign * weight)
    return Series(reach, end, nodes, back)


def _coefficients(reach: float, times) -> np.ndarray:
    """[times, terms]: those of exp(s z) on [-i reach, i reach], for every s in -1 to 1.

    J_k(r) is the k-th Fourier coefficient of exp(i r cos t) over i^k.
    """
    n = 2 * math.ceil(reach) + 80
    cosines = np.cos(2 * np.pi * np.arange(n) / n)
    waves = np.fft.fft(np.exp(1j * reach * np.outer(times, cosines))) / n
    bessel = (waves / 1j ** (np.arange(n) % 4)).real[:, : n // 2]
    return bessel * np.where(np.arange(n // 2) > 0, 2, 1)


def _gauss(reach: float, precision: float) -> tuple[np.ndarray, np.ndarray]:
    """Points in [0, 1] and weights, as many as integrate exp(i w s) to this precision for every |w| <= 2 reach."""
    swings = np.linspace(0, reach, 2 * math.ceil(reach) + 9)  # from the middle of the interval
    exact = np.sinc(swings / np.pi)
    for n in itertools.count(math.ceil(reach / 2) + 2):
        points, weights = np.polynomial.legendre.leggauss(n)
        found = np.cos(np.outer(swings, points)) @ weights / 2
        if np.abs(found - exact).max() < max(precision, 1e-13):  # below, these numbers are rounded themselves
            return (points + 1) / 2, weights / 2


def _terms(x, backwards, series):
    """x p_k(A / r), [n, B * D]; backwards: -A."""
    terms = x.new_empty(series.n, *x.shape)
    each = terms.unbind()
    each[0].copy_(x)
    torch.mul(backwards.times(each[0]), -1 / series.reach, out=each[1])
    for k in range(2, series.n):
        torch.add(each[k - 2], backwards.times(each[k - 1]), alpha=-2 / series.reach, out=each[k])
    return terms.view(series.n, -1)


# ---------------------------------------------------------------- with their gradients


class _Masked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mask, _, backwards, series):
        there = _terms(x, backwards, series)
        turned = (series.end[1] @ there).view_as(x)
        back = _terms(turned * mask, backwards, series)
        ctx.save_for_backward(mask, turned, there, back)
        ctx.given = backwards, series
        return (series.end[-1] @ back).view_as(x)

    @staticmethod
    def backward(ctx, grad):
        (mask, turned, there, back), (backwards, series) = ctx.saved_tensors, ctx.given
        rows, their_grads = grad.new_empty(2, 2, len(series.nodes[1]), grad.numel()).unbind()  # of both ways
        terms = _terms(grad, backwards, series)
        of_masked = (series.end[1] @ terms).view_as(grad)
        torch.mm(series.nodes[-1], back, out=rows[0])
        torch.mm(series.back[-1], terms, out=their_grads[0])
        terms = _terms(of_masked * mask, backwards, series)
        torch.mm(series.nodes[1], there, out=rows[1])
        torch.mm(series.back[1], terms, out=their_grads[1])
        D = grad.shape[1]
        of_x = (series.end[-1] @ terms).view_as(grad) if ctx.needs_input_grad[0] else None
        of_mask = (of_masked * turned).sum(dim=0) if ctx.needs_input_grad[1] else None
        of_parameter = None
        if ctx.needs_input_grad[2]:
            of_parameter = backwards.gradient(rows.view(-1, D), their_grads.view(-1, D))
        return of_x, of_mask, of_parameter, None, None


class _KeepSkew(torch.autograd.Function):
    @staticmethod
    def forward(_, skew):
        return skew.view_as(skew)

    @staticmethod
    def backward(_, grad):
        other = grad.T.contiguous()  # to read a matrix across takes longer than to turn it over first
        return torch.sub(grad, other, out=other)
