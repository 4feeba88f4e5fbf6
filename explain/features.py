"""What a feature is like on the cities: where it fires, how strongly, and which values of a fact it separates.

Names of arrays end in their shape: C cities, F features, G values of an attribute.
"""

from imports import np

STRONGEST = 5  # cities and values that are named of a feature


def explained(f_CF, value_C: list[str]) -> np.ndarray:
    """The share of each feature's variance over cities that an attribute's values explain, [F].

    Epsilon squared (Kelley 1935, "An unbiased correlation ratio measure"): with C cities of G values,

        1 - (SS_within / (C - G)) / (SS_total / (C - 1)).

    It is 1 where a feature is equal in all cities of a value, and 0 on average, so at times below, where it has
    nothing to do with them: the plain ratio 1 - SS_within / SS_total would be (G - 1) / (C - 1) there.
    NaN where the feature is constant, or no two cities share a value.
    """
    f_CF = np.asarray(f_CF, float)
    mean_GF, group_C = means(f_CF, value_C)
    C, G = len(f_CF), len(mean_GF)
    total_F = ((f_CF - f_CF.mean(0)) ** 2).sum(0)
    within_F = ((f_CF - mean_GF[group_C]) ** 2).sum(0)
    is_constant_F = total_F <= 1e-12 * (f_CF**2).sum(0)
    if C == G or G == 1:
        return np.full(f_CF.shape[1], np.nan)
    return np.where(is_constant_F, np.nan, 1 - (within_F / (C - G)) / (np.where(is_constant_F, 1, total_F) / (C - 1)))


def means(f_CF, value_C: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Each value's mean [G, F], values in alphabetical order, and the value of each city as an index [C]."""
    values, group_C = np.unique(value_C, return_inverse=True)
    sums_GF = np.zeros((len(values), f_CF.shape[1]))
    np.add.at(sums_GF, group_C, f_CF)
    return sums_GF / np.bincount(group_C)[:, None], group_C


def describe(f_CF, names_C: list[str], values: dict[str, list[str]], target: str, are_latents: bool) -> list[dict]:
    """A row of words and numbers for each feature.

    values: attribute -> its value of each city [C]; target: the one whose values are named, with their means.
    are_latents: they fire or do not, and the values where they fire most are named.  Of other features only the means
    say something: all are named, those furthest from their mean first.
    """
    f_CF = np.asarray(f_CF, float)
    shares = {attribute: explained(f_CF, value_C) for attribute, value_C in values.items()}
    mean_GF, _ = means(f_CF, values[target])
    named_G = np.unique(values[target]).tolist()
    order_GF = np.argsort(-(mean_GF if are_latents else abs(mean_GF - mean_GF.mean(0))), axis=0, kind="stable")
    n_named = STRONGEST if are_latents else len(named_G)
    rows = []
    for i, f_C in enumerate(f_CF.T):
        strongest = [c for c in np.argsort(-f_C, kind="stable")[:STRONGEST] if f_C[c] > 0]
        rows.append(
            {
                "n_fires": int((f_C != 0).sum()) if are_latents else None,
                "strongest": [[names_C[c], rounded(f_C[c])] for c in strongest] if are_latents else None,
                "values": [[named_G[g], rounded(mean_GF[g, i])] for g in order_GF[:n_named, i]],
                "explained": {attribute: rounded(share_F[i]) for attribute, share_F in shares.items()},
            }
        )
    return rows


def rounded(x: float, digits: int = 4) -> float | None:
    """To so many digits; None for what is no number."""
    return float(f"{x:.{digits}g}") if np.isfinite(x) else None
