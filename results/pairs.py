"""Pair files: the test pairs by the names of their entities; whether a file, which is anyone's, holds such pairs."""

import functools
from dataclasses import dataclass

from data.names import KINDS, PAPER, is_attribute, is_isolation, other, sentence
from imports import np

WIDTHS = (3, 5, 7)  # columns of a pair: the paper's; RAVEL's of an earlier version; RAVEL's


def asked_for(kind: str, target: str) -> str:
    """The attribute that the base prompts of pairs of a kind ask for."""
    if kind == KINDS[0]:
        return target
    _, _, attribute = kind.partition(":")
    return attribute or other(target)


@dataclass(frozen=True)
class NamedPairs:
    """The test pairs of a target and seed, N in all; outcomes are in their order.

    base, source: [N] names of entities; group_N: int, into groups; facts: entity -> {attribute: value}.
    groups: kinds of pairs, cause first, as `stats.Outcomes` has them.
    templates: [N] of the base prompts, where there is more than the paper's.
    same_attribute: [N] bool, whether the source's prompt asks for what the base's does; answers: [N] the tokens of the
        model's answers to the base's template about base and source.  None where there are only the paper's prompts.
    """

    base: list[str]
    source: list[str]
    group_N: "np.ndarray"
    facts: dict[str, dict[str, str]]
    groups: tuple[str, ...] = KINDS
    templates: list[str] | None = None
    same_attribute: "np.ndarray | None" = None
    answers: list[tuple[list[int], list[int]]] | None = None

    @classmethod
    def of(cls, named_pairs: dict, part: str = "test") -> "NamedPairs":
        """named_pairs: the content of a pair file (data.pairs.named, data.ravel_pairs.named_ravel)."""
        base, source, kind, *more = zip(*named_pairs[part], strict=True)
        templates = same_attribute = answers = None
        if more:
            of_base, of_source, *both = more
            templates = [named_pairs["templates"][number] for number in of_base]
            if both:  # files of an earlier version have none
                attributes = np.array(named_pairs["asked_for"])
                same_attribute = attributes[list(of_base)] == attributes[list(of_source)]
                answers = list(zip(*both, strict=True))
        groups = [KINDS[0], *sorted({k for k in kind if is_isolation(k)})]
        return cls(
            list(base),
            list(source),
            np.array([groups.index(k) for k in kind]),
            named_pairs["facts"],
            tuple(groups),
            templates,
            same_attribute,
            answers,
        )

    @functools.cached_property
    def n_tokens(self) -> "np.ndarray":
        """[N] int: of the right answer, which is that about the source in a cause pair."""
        both = zip(self.answers, self.group_N == 0, strict=True)
        return np.array([len(source if is_cause else base) for (base, source), is_cause in both])

    def asked(self, i: int, target: str) -> str:
        """The attribute that the prompts of a pair ask for."""
        return asked_for(self.groups[self.group_N[i]], target)

    def question(self, i: int, asked: str) -> str:
        """The end of a pair's base prompt."""
        if self.templates is None:
            return sentence(asked, self.base[i])
        before, _, after = self.templates[i].partition("%s")
        return f"{before[-60:]}{self.base[i]}{after}"

    def clusters(self, unit: str) -> tuple[list[str], list[str]]:
        """Of each pair, the cluster of its base and of its source: an attribute's value, or the entity itself.

        An entity without that value is a cluster of its own.
        """
        named = {name: facts.get(unit, name) for name, facts in self.facts.items()}
        return [named[name] for name in self.base], [named[name] for name in self.source]


def fault_in_pairs(content: dict, part: str, target: str) -> str | None:
    """What keeps the content of a pair file from being `NamedPairs` of this part and target; None if nothing does."""
    rows, facts = content.get(part), content.get("facts")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        return f"it has no pairs for {part}"
    width = len(rows[0])
    if width not in WIDTHS or any(len(row) != width for row in rows):
        return f"its pairs for {part} have an unknown number of columns"
    if not isinstance(facts, dict) or not all(isinstance(values, dict) for values in facts.values()):
        return "it has no facts"
    templates, asked = content.get("templates"), content.get("asked_for")
    if width > WIDTHS[0] and not _are_texts(templates):
        return "it has no templates"
    if width == WIDTHS[-1] and not (_are_texts(asked) and len(asked) == len(templates)):
        return "its templates do not say what they ask for"
    for i, (base, source, kind, *more) in enumerate(rows):
        if not _is_pair(base, source, kind, facts, target):
            return f"pair {i} of {part} is none"
        if more and not all(type(number) is int and 0 <= number < len(templates) for number in more[:2]):
            return f"pair {i} of {part} has no template"
        if not all(isinstance(answer, list) and answer and _are_whole(answer) for answer in more[2:]):
            return f"pair {i} of {part} has no answers"
    kinds = {row[2] for row in rows}
    return None if KINDS[0] in kinds and len(kinds) > 1 else f"it lacks a kind of pairs for {part}"


def _are_texts(value) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_whole(values: list) -> bool:
    return all(type(value) is int for value in values)


def _is_pair(base, source, kind, facts: dict, target: str) -> bool:
    """Whether two entities of which what is asked is known are of a known kind."""
    if not isinstance(kind, str) or not (kind == KINDS[0] or is_isolation(kind)):
        return False
    if kind != KINDS[0] and ":" in kind and not is_attribute(kind.partition(":")[2]):
        return False
    if kind == KINDS[1] and target not in PAPER:
        return False
    attribute = asked_for(kind, target)
    known = [facts.get(name) if isinstance(name, str) else None for name in (base, source)]
    return all(values is not None and attribute in values and _are_texts([*values.values()]) for values in known)
