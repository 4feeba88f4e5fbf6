"""Scores of the same test pairs by the formulas of RAVEL, SAEBench and MIB.

Only how outcomes become scores is theirs; pairs, prompts and training stay ours.  docs/ravel.md says what else differs.
In each a pair is right if the first n tokens of its answer are, all of them where it has fewer.  (SAEBench and MIB
compare texts, with answers that were written token by token as here; they also take a right text in other tokens.)

    RAVEL      n = 3.  The share of right pairs of every task, a base template with one kind of source (a prompt for
               the same attribute, or for another), rounded to 2 digits; its mean over the tasks of a group; isolation
               is the mean over groups, that is attributes.
    SAEBench   n = 6.  All isolation pairs are one group.  A cause pair is one of cause only if the answers about base
               and source begin with different tokens; else it is one of isolation.
    MIB        n = 2.  One number: the share of right pairs among all, whatever their kind.

Sources: explanare/ravel (10-2025) and SAEBench 0.6.0, read in their code; MIB's formula is second-hand.
"""

import functools
import math
from collections import defaultdict

from featurizers.methods import BASELINES
from imports import np
from results.estimates import Grid
from results.pairs import NamedPairs

MASK = "hard"  # all three test masks of zeros and ones
Cell = tuple[str, str, int]  # target, method, layer

TOKENS = {"ravel": 3, "saebench": 6, "mib": 2}  # of an answer that are looked at


@functools.lru_cache(maxsize=4)  # the table, the file and an export ask alike
def of_cells(grid: Grid) -> dict[Cell, dict[str, dict[str, float]]]:
    """The scores of every cell and of the baselines beside it, each the mean over seeds; none without RAVEL's prompts.

    By cell as `scores_elsewhere` has them.
    """
    by_seed: dict[Cell, dict[int, dict]] = defaultdict(dict)
    for r in grid.results:
        for name in (MASK, *BASELINES):
            seeds = by_seed[r["target"], name if name in BASELINES else r["method"], r["layer"]]
            if name in r["right"] and r["seed"] not in seeds:
                seeds[r["seed"]] = scores_elsewhere(r["right"][name], r["test_pairs"])
    return {cell: _mean(list(seeds.values())) for cell, seeds in by_seed.items() if seeds}


def _mean(of_seeds: list[dict]) -> dict:
    return {
        protocol: {name: sum(scores[protocol][name] for scores in of_seeds) / len(of_seeds) for name in first}
        for protocol, first in of_seeds[0].items()
    }


def over_layers(cells: dict[Cell, dict]) -> dict[tuple[str, str], dict[str, float]]:
    """MIB's two scores of a method, by target and method: its best over the layers that were run, and its mean."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (target, method, _), scores in cells.items():
        found[target, method].append(scores["mib"]["accuracy"])
    return {key: {"best": max(scores), "mean": sum(scores) / len(scores)} for key, scores in found.items()}


def scores_elsewhere(right_N, pairs: NamedPairs) -> dict[str, dict[str, float]]:
    """By protocol its scores; of cause, isolation and disentangle for RAVEL and SAEBench, of MIB one.

    right_N: int, of each pair the right tokens before the first wrong one.  A score of no pair is NaN.
    """
    hit = {name: right_N >= np.minimum(n, pairs.n_tokens) for name, n in TOKENS.items()}
    begin_alike = np.array([base[:1] == source[:1] for base, source in pairs.answers])
    return {
        "ravel": ravel(hit["ravel"], pairs.group_N, pairs.templates, pairs.same_attribute),
        "saebench": saebench(hit["saebench"], pairs.group_N, begin_alike),
        "mib": {"accuracy": _share(hit["mib"])},
    }


def ravel(hit_N, group_N, templates: list[str], same_attribute_N) -> dict[str, float]:
    """group_N: 0 for cause, from 1 on the other attributes; templates: [N] of the base prompts.

    same_attribute_N: bool, whether the source's prompt asks for what the base's does.
    """
    of_task: dict[tuple, list[bool]] = defaultdict(list)
    for hit, *task in zip(hit_N, group_N, templates, same_attribute_N, strict=True):
        of_task[tuple(task)].append(hit)
    of_group: dict[int, list[float]] = defaultdict(list)
    for (group, *_), hits in of_task.items():
        of_group[group].append(round(_share(hits), 2))
    shares = {group: sum(found) / len(found) for group, found in of_group.items()}
    return _three(shares.pop(0, math.nan), sum(shares.values()) / len(shares) if shares else math.nan)


def saebench(hit_N, group_N, begin_alike_N) -> dict[str, float]:
    """begin_alike_N: bool, whether the answers about base and source begin with the same token."""
    is_cause_N = (group_N == 0) & ~begin_alike_N
    return _three(_share(hit_N[is_cause_N]), _share(hit_N[~is_cause_N]))


def _three(cause: float, isolation: float) -> dict[str, float]:
    return {"cause": cause, "isolation": isolation, "disentangle": (cause + isolation) / 2}


def _share(hits) -> float:
    return float(np.mean(hits)) if len(hits) else math.nan
