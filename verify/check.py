"""The self-check: measure every way that the program computes against a plainer one, and leave out what is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from common.errors import UserError
from decoder.products import Plain, never_pack
from imports import torch
from verify.answers import ANSWERS, answers, on_processor
from verify.sample import Sample
from verify.steps import graph, joint, three_steps

# Rounding of what computes, and of the products with weights while training: of the largest number compared.
EXACT = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
IN_PRECISION = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 1e-1}
# Times as far apart may be what sums many roundings, and the steps of Adam, whose first ones turn rounding over.
GRADIENTS, STEPS = 10, 100


@dataclass(frozen=True)
class Ways:
    """Which of the fast ways are used: those that the self-check found to be right."""

    packed: bool = True  # weights in oneDNN's layout
    graphed: bool = True  # steps as a CUDA graph
    joint: bool = True  # several runs in one batch

    def apply(self) -> None:
        """In this process."""
        if not self.packed:
            never_pack()


@dataclass(frozen=True)
class Check:
    """measure: function of a sample -> {what is compared: how far it is apart}, {} where there is nothing to compare.

    whats: all that may be compared; way: of `Ways`, is left out if that is too far; None: then there is no other way.
    """

    measure: Callable[[Sample], dict[str, float]]
    whats: tuple[str, ...]
    compared: str  # with what, in words
    way: str | None = None
    instead: str = ""


CHECKS = (
    Check(on_processor, ("device",), "the same model on the processor"),
    Check(answers, ANSWERS, "two forward passes with hooks", "packed", "products are computed as torch does"),
    Check(three_steps, ("three steps",), "Adam on such passes, in float64"),
    Check(graph, ("graph",), "steps one by one", "graphed", "steps are taken one by one"),
    Check(joint, ("joint",), "each run alone", "joint", "each run is trained alone"),
)


@dataclass(frozen=True)
class Verified:
    """What the self-check found.

    figures: what was compared -> how far apart it is; limits: how far it may be; layers: where.
    """

    figures: dict[str, float]
    limits: dict[str, float]
    layers: list[int]
    ways: Ways
    seconds: float

    def as_json(self) -> dict:
        return asdict(self)

    def for_result(self) -> dict:
        """All but the time it took: that would make equal results differ."""
        return {key: value for key, value in self.as_json().items() if key != "seconds"}

    @classmethod
    def of_json(cls, content: dict) -> Verified:
        return cls(**{**content, "ways": Ways(**content["ways"])})


def limit(what: str, dtype, precision: str) -> float:
    """How far apart may be what is compared."""
    if what in ("device", "logits"):
        return EXACT[dtype]
    least = max(EXACT[dtype], IN_PRECISION[precision])
    times = 1 if what == "loss" else GRADIENTS if what in ANSWERS else STEPS
    return min(times * least, 0.5)


def self_check(sample: Sample) -> Verified:
    """Measure all; say which ways are left out.  Raises UserError if the answers themselves are wrong."""
    began, ways, figures, limits = time.perf_counter(), Ways(), {}, {}
    for check in CHECKS:
        found, wrong = _measured(check, sample)
        if wrong and check.way == "packed" and sample.subject.form() is not Plain:
            ways = _without(ways, check, wrong)
            found, wrong = _measured(check, sample)
        if wrong and check.way in ("graphed", "joint"):
            ways, found, wrong = _without(ways, check, wrong), {}, ""
        if wrong:
            raise UserError(_refusal(sample, wrong))
        figures |= found
        limits |= {what: limit(what, sample.subject.dtype, sample.precision) for what in found}
    return Verified(figures, limits, sample.layers, ways, round(time.perf_counter() - began, 1))


def _measured(check: Check, sample: Sample) -> tuple[dict[str, float], str]:
    """What a check found, and in words what is wrong with it, '' if nothing is."""
    try:
        found = check.measure(sample)
    except RuntimeError as error:
        if check.way != "graphed":
            raise
        return {}, " ".join(str(error).split())[:120]  # what a driver cannot do
    dtype, precision = sample.subject.dtype, sample.precision
    far = [
        f"{what} {difference:.1e}, at most {limit(what, dtype, precision):.0e}"
        for what, difference in found.items()
        if not difference <= limit(what, dtype, precision)
    ]
    return found, f"differences are {'; '.join(far)}; compared with {check.compared}" if far else ""


def _without(ways: Ways, check: Check, wrong: str) -> Ways:
    print(f"note: {check.instead}, as the fast way is wrong here ({wrong})", file=sys.stderr)
    ways = replace(ways, **{check.way: False})
    ways.apply()
    return ways


def _refusal(sample: Sample, wrong: str) -> str:
    subject = sample.subject
    how = f"{str(subject.dtype).removeprefix('torch.')}, {subject.attention} attention, precision {sample.precision}"
    others = ["--device cpu"] if subject.device != "cpu" else []
    others += ["--precision fp32"] if sample.precision != "fp32" else []
    others += ["--engine nnsight"] if sample.engine == "fast" else []
    remedy = f"try {' or '.join(others)}, and " if others else ""
    return (
        f"the self-check failed: the {sample.engine} engine is not exact for {subject.name} on {subject.device} "
        f"({how}) at layers {' '.join(map(str, sample.layers))}: {wrong}; {remedy}report this with what "
        "python main.py --doctor prints"
    )
