"""What single features do to the score, and how many of a mask's features are needed.

Names of arrays end in their shape: N test pairs, S selected features, K numbers of features kept, T features whose
effects are measured.
"""

from dataclasses import dataclass

import stats
from explain.subsets import Subsets
from imports import np
from masks.names import SCORES
from results.outcomes import outcomes_of
from results.pairs import NamedPairs
from results.reading import scores_of

DIGITS = 12  # to which two differences of shares are equal
ENOUGH = 0.9  # of what a mask's score has above that of `none`


@dataclass(frozen=True)
class Judged:
    """The test pairs of a result, and what intervals take to be independent."""

    pairs: NamedPairs
    unit: str

    def scores(self, hit_MN) -> dict[str, np.ndarray]:
        return scores_of(hit_MN, self.pairs.group_N)

    def differences(self, a_MN, b_MN) -> dict[str, np.ndarray]:
        """Scores of A minus those of B on the same pairs, and of disentangle the 95 % interval and p; arrays [M]."""
        a_MN, b_MN = np.broadcast_arrays(a_MN, b_MN)
        d = stats.difference(*([outcomes_of(hit_MN, self.pairs, self.unit)] for hit_MN in (a_MN, b_MN)), "disentangle")
        a, b = self.scores(a_MN), self.scores(b_MN)
        changes = {name: (a[name] - b[name]).round(DIGITS) for name in SCORES}
        return {**changes, "low": d.low, "high": d.high, "p": d.p}

    def loss(self, nats_MN) -> np.ndarray:
        """The mean cross-entropy of the right answers [M]; cause and isolation pairs weigh the same."""
        return self.scores(nats_MN)["disentangle"]


@dataclass(frozen=True)
class Effects:
    """Of T features: what is lost when one is taken out of the mask, and gained when it alone is patched.

    lost, gained: as `Judged.differences` has them, with p corrected for these T features (Holm); and "nats", by how
    much the cross-entropy of the right answers rises without the feature, or falls by it alone.
    mask_N, empty_N: the outcomes of the whole mask, and of none of its features.
    """

    lost: dict[str, np.ndarray]
    gained: dict[str, np.ndarray]
    mask_N: np.ndarray
    empty_N: np.ndarray

    @property
    def effect_T(self) -> np.ndarray:
        """The mean of what disentangle loses and gains.

        A feature's Shapley value is the mean of what it adds to the score over all orders in which the features may be
        patched one after another; this is the mean of the last place and the first.
        """
        return self._mean("disentangle").round(DIGITS)

    def order(self) -> np.ndarray:
        """Best first [T]: by effect, then by the same of nats, as few pairs may turn on a single feature."""
        return np.lexsort((-self._mean("nats"), -self.effect_T))

    def _mean(self, key: str) -> np.ndarray:
        return (self.lost[key] + self.gained[key]) / 2


def single_effects(subsets: Subsets, judged: Judged, top: int, text: str = "") -> Effects:
    """The effects of the first `top` selected features, one by one."""
    S = subsets.differs_MS.shape[1]
    alone_TS = np.eye(min(top, S), S, dtype=bool)
    T = len(alone_TS)
    ends_2S = np.stack([np.zeros(S, bool), np.ones(S, bool)])
    hit_VN, nats_VN = subsets.answers(np.concatenate([ends_2S, ~alone_TS, alone_TS]), text)
    empty_N, mask_N, without_TN, alone_TN = hit_VN[0], hit_VN[1], hit_VN[2 : 2 + T], hit_VN[2 + T :]
    lost, gained = judged.differences(mask_N, without_TN), judged.differences(alone_TN, empty_N)
    nats_V = judged.loss(nats_VN)
    for found, nats_T in ((lost, nats_V[2 : 2 + T] - nats_V[1]), (gained, nats_V[0] - nats_V[2 + T :])):
        found |= {"p": stats.holm(found["p"]), "nats": nats_T}
    return Effects(lost, gained, mask_N, empty_N)


def grid_of(n: int) -> list[int]:
    """1, 2, 3, 4, 5, 6, 8, 10, 13, ... 100, 158, 251, ... and n: ten numbers from k to 10 k, above 100 five."""
    fine, coarse = (round(10 ** (i / 10)) for i in range(21)), (round(10 ** (i / 5)) for i in range(11, 40))
    return sorted({k for k in (*fine, *coarse) if k < n} | {n}) if n else []


def curves(subsets: Subsets, judged: Judged, orders: dict[str, np.ndarray], text: str = "") -> dict[str, dict]:
    """The scores [K] when only the first k features in an order [S] are patched; "k": those numbers."""
    k_K = np.array(grid_of(subsets.differs_MS.shape[1]), int)
    first_OKS = [np.argsort(order_S) < k_K[:, None] for order_S in orders.values()]
    hit_VN, _ = subsets.answers(np.concatenate(first_OKS), text)
    found = {}
    for name, hit_KN in zip(orders, np.split(hit_VN, len(orders)), strict=True):
        scores = judged.scores(hit_KN)
        found[name] = {"k": k_K.tolist(), **{score: scores[score].tolist() for score in SCORES}}
    return found


def needed(found: dict[str, list], none: float) -> int | None:
    """How many features have ENOUGH of what the whole mask's score has above `none`.

    found: one of `curves`.  It may rise above and fall again, so it is the least k from which on all larger ones have
    it too.  None where the whole mask is not above `none`.
    """
    if not found["k"] or found["disentangle"][-1] <= none:
        return None
    goal = none + ENOUGH * (found["disentangle"][-1] - none)
    least = None
    for k, score in zip(found["k"][::-1], found["disentangle"][::-1], strict=True):
        if score < goal - 1e-12:
            break
        least = k
    return least
