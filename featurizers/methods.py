"""The registry of methods: ways to choose the features that a mask selects from.

    METHOD           one of METHODS or FURTHER, or sae:FOLDER, a user's own SAE: a mask is trained over its features
    METHOD@SIZE      so many of its dimensions or latents, all patched, as SIZED says
    METHOD:VARIANT   the method with one thing changed, as VARIANTS says; also METHOD@SIZE:VARIANT

The command line reads the methods' names here, so nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from featurizers import builders
from featurizers.builders import Ingredients
from saes.names import OWN, is_own
from saes.releases import RELEASES

if TYPE_CHECKING:
    from featurizers.base import Featurizer

Builder = Callable[[Ingredients], "Featurizer"]

# The kinds of variants. A control is what the score would be by chance; an original is an SAE as the paper's code ran
# it: both stand under their method in tables. A method trained on cause pairs alone stands for itself.
CONTROL, ORIGINAL, CAUSE = "control", "original", "cause"


@dataclass(frozen=True)
class Method:
    """One way to choose features.

    build: makes its featurizer.
    release: which SAEs it needs, a name for saes.releases.release_named, if any.
    fixed_mask: the mask where that is 0 or 1 for all features; None where it is trained, or follows from something.
    is_chosen: a classifier chooses the `size` features that are patched.
    has_basis: its featurizer is trained by intervention, with a mask or without.
    uses_examples: features or their choice depend on the vectors of the training pairs.
    size: of METHOD@SIZE.  kind, variant, of: of METHOD:VARIANT, and the name of the method.
    """

    build: Builder
    release: str | None = None
    fixed_mask: float | None = None
    is_chosen: bool = False
    has_basis: bool = False
    uses_examples: bool = False
    size: int | None = None
    kind: str | None = None
    variant: str | None = None
    of: str | None = None
    is_chance: bool = False  # a control of all methods of a size, with a row of its own

    @property
    def stands_alone(self) -> bool:
        """Whether it is a method of its own in tables and figures, and no variant under its method."""
        return self.kind in (None, CAUSE)

    @property
    def is_trained(self) -> bool:
        """Whether anything in it is trained by intervention."""
        has_mask = self.fixed_mask is None and not self.is_chosen
        return (has_mask or self.has_basis) and self.variant != "features"


METHODS: dict[str, Method] = {  # the paper's: --methods all
    "none": Method(builders.neuron, fixed_mask=0.0),  # nothing is patched
    "full": Method(builders.neuron, fixed_mask=1.0),  # the whole vector is
    "neuron": Method(builders.neuron),
    "das": Method(builders.das, has_basis=True),
    **{release: Method(builders.sae, release=release) for release in RELEASES},
}
BASELINES = tuple(name for name, method in METHODS.items() if method.fixed_mask is not None)
FURTHER: dict[str, Method] = {"pca": Method(builders.pca, uses_examples=True)}  # by name only
SIZED: dict[str, Method] = {  # of METHOD@SIZE; sae: of any SAE
    "das": Method(builders.low_rank_das, fixed_mask=1.0, has_basis=True),
    "pca": Method(builders.pca, is_chosen=True, uses_examples=True),
    "rlap": Method(builders.probe, fixed_mask=1.0, uses_examples=True),
    "random": Method(builders.random_rotation, fixed_mask=1.0, is_chance=True),
    "sae": Method(builders.sae, is_chosen=True, uses_examples=True),
}
ORDER = ["none", "full", "neuron", "das", "pca", "rlap", "random", *RELEASES]  # in tables; users' own SAEs come last


class Variant(NamedTuple):
    """A kind, and what builds the featurizer where that is not the method's own."""

    kind: str
    build: Builder | None = None


TRAINED = {"cause": Variant(CAUSE), "features": Variant(CONTROL), "shuffled": Variant(CONTROL)}
VARIANTS: dict[str, dict[str, Variant]] = {  # featurizers/controls.py says how each control is made
    "neuron": TRAINED,
    "das": {
        "random": Variant(CONTROL, builders.random_rotation),
        **TRAINED,
        "features": Variant(CONTROL, builders.trained_rotation),
    },
    "das@": {"cause": Variant(CAUSE), "shuffled": Variant(CONTROL)},
    "pca": TRAINED,
    "sae": {
        "original": Variant(ORIGINAL),
        "random": Variant(CONTROL, builders.random_sae),
        "permuted": Variant(CONTROL, builders.permuted_sae),
        **TRAINED,
    },
}
CORRECTED = ("apollo", "bloom")  # families that the paper's code ran otherwise: raw residual, decoder as stored
RAVELS = {  # RAVEL's names of what is called otherwise here
    "mdas": "mdas is das here, and its das is das:cause",
    **dict.fromkeys(("mdbm", "dbm"), "mdbm is neuron here, and dbm is neuron:cause"),
}
_NAME = re.compile(r"(?P<base>.+?)(?:@(?P<size>[1-9]\d{0,5}))?(?::(?P<variant>[a-z]+))?")
_VARIANTS = {name for family in VARIANTS.values() for name in family}


class Parts(NamedTuple):
    """What a name says: BASE, BASE@SIZE, BASE:VARIANT or BASE@SIZE:VARIANT."""

    base: str
    size: int | None = None
    variant: str | None = None

    @property
    def family(self) -> str:
        """The key of VARIANTS and SIZED that it belongs to."""
        name = "sae" if self.base in RELEASES or is_own(self.base) else self.base
        return f"{name}@" if self.size else name

    @property
    def suffix(self) -> str:
        """What stands behind the base."""
        return (f"@{self.size}" if self.size else "") + (f":{self.variant}" if self.variant else "")


def parts_of(name: str) -> Parts:
    """A name taken apart; what is no size and no variant of any method belongs to the base."""
    prefix = OWN if is_own(name) else ""
    found = _NAME.fullmatch(name.removeprefix(prefix))
    if not found or (found["variant"] and found["variant"] not in _VARIANTS):
        return Parts(name)
    return Parts(prefix + found["base"], int(found["size"]) if found["size"] else None, found["variant"])


def _unsized(parts: Parts) -> Method | None:
    if is_own(parts.base):
        return Method(builders.sae, release=parts.base)
    return METHODS.get(parts.base) or FURTHER.get(parts.base)


def _of(parts: Parts) -> Method | None:
    """The method without its variant; None if there is none."""
    method = _unsized(parts)
    if parts.size is None:
        return method
    sized = SIZED.get(parts.family.removesuffix("@"))
    return sized and replace(sized, size=parts.size, release=method.release if method else None)


def _found(name: str) -> Method | None:
    parts = parts_of(name)
    method = _of(parts)
    if method is None or parts.variant is None:
        return method
    if name not in _variants(parts):
        return None
    kind, build = VARIANTS[parts.family][parts.variant]
    of = name.removesuffix(f":{parts.variant}")
    return replace(method, kind=kind, variant=parts.variant, of=of, build=build or method.build)


def _variants(parts: Parts, kind: str | None = None) -> list[str]:
    """The names of a method's variants of one kind, or of all."""
    if parts.base in BASELINES or _of(parts) is None:
        return []
    found = VARIANTS.get(parts.family, {})
    is_corrected = parts.base in RELEASES and RELEASES[parts.base].family in CORRECTED
    name = parts._replace(variant=None)
    return [
        f"{name.base}{name.suffix}:{variant}"
        for variant, about in found.items()
        if kind in (None, about.kind) and (about.kind != ORIGINAL or is_corrected)
    ]


def variants_of(name: str) -> list[str]:
    """Every METHOD:VARIANT of a method by name."""
    return [] if parts_of(name).variant else _variants(parts_of(name))


def controls_of(name: str) -> list[str]:
    """The controls of a method by name: of a size first as many random dimensions.

    A baseline and a control have none, and neither has METHOD:cause: those of METHOD are trained on other pairs.
    """
    parts, method = parts_of(name), _found(name)
    if method is None or not method.stands_alone or method.is_chance:
        return []
    at_random = [f"random@{parts.size}"] if parts.size else []
    return at_random + ([] if parts.variant else _variants(parts, CONTROL))


def originals_of(name: str) -> list[str]:
    """An SAE as the paper's code ran it, if that is not how it is run here."""
    parts = parts_of(name)
    return [] if parts.variant or parts.size else _variants(parts, ORIGINAL)


def beside(name: str) -> list[str]:
    """What a method's score is compared with beside other methods: itself as the paper's code ran it, its controls."""
    return [*originals_of(name), *controls_of(name)]


def is_compared(name: str) -> bool:
    """Whether it is compared with other methods: it stands for itself and is not what a score would be by chance."""
    method = method_named(name)
    return method.stands_alone and not method.is_chance


def is_method(name: object) -> bool:
    """Whether something is the name of a method."""
    return isinstance(name, str) and (is_own(name) or _found(name) is not None)


def size_family(name: str) -> str | None:
    """METHOD@ or METHOD@:VARIANT, of the sizes of one method; None of what has no size."""
    base, size, variant = parts_of(name)
    return f"{base}@" + (f":{variant}" if variant else "") if size else None


def with_sizes(name: str, sizes: Iterable[int]) -> list[str]:
    """METHOD@ or METHOD@:VARIANT at each of these sizes; any other name alone."""
    base, at, variant = name.rpartition("@")
    is_open = at and (not variant or variant.startswith(":"))
    return [f"{base}@{size}{variant}" for size in sizes] if is_open else [name]


def ordered(names: Iterable[str]) -> list[str]:
    """Methods, each once: the known ones in their order, then users' own SAEs by name; sizes and variants behind."""

    def place(name: str) -> tuple:
        base, size, variant = parts_of(name)
        return ORDER.index(base) if base in ORDER else len(ORDER), base, size or 0, variant or ""

    return sorted(set(names), key=place)


def method_named(name: str) -> Method:
    """A method by its name; also of sae:FOLDER, a user's own SAE, of METHOD@SIZE and METHOD:VARIANT."""
    return _found(name) or Method(builders.sae, release=name)
