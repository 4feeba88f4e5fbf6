"""Student's t distribution for any degrees of freedom, real and at least 1, element by element."""

from imports import np, scipy_special

SMALLEST_P = 1e-12  # p-values are not told apart below


def t_two_sided(t, df):
    """P(|T| > t), arrays of one shape or scalars -> array; never below SMALLEST_P.

    t: at least 0; df: at least 1 (a smaller one counts as 1).
    """
    return np.clip(2 * scipy_special.stdtr(np.maximum(df, 1), -np.asarray(t, float)), SMALLEST_P, 1.0)


def t_quantile(df, level=0.95):
    """The t with P(|T| < t) = level, for df and level of one shape -> array."""
    return -scipy_special.stdtrit(np.maximum(df, 1), (1 - np.asarray(level, float)) / 2)
