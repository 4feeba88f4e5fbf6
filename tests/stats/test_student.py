"""Student's t against printed tables and closed forms."""

import math

import numpy as np
import pytest

from stats.student import SMALLEST_P, t_quantile, t_two_sided


@pytest.mark.parametrize(
    ("df", "level", "t"),
    [
        (1, 0.95, 12.7062),
        (2, 0.95, 4.3027),
        (4, 0.95, 2.7764),
        (10, 0.99, 3.1693),
        (30, 0.9, 1.6973),
        (1e9, 0.95, 1.96),
    ],
)
def test_t_quantile_equals_tables(df, level, t):
    assert float(t_quantile(df, level)) == pytest.approx(t, abs=6e-5)


def test_t_two_sided_equals_closed_forms():
    t = np.array([0.0, 0.3, 1.0, 4.0, 30.0])
    np.testing.assert_allclose(t_two_sided(t, 1), 1 - 2 / math.pi * np.arctan(t), atol=1e-9)  # Cauchy
    np.testing.assert_allclose(t_two_sided(t, 2), 1 - t / np.sqrt(2 + t**2), atol=1e-9)


def test_t_quantile_inverts_t_two_sided_between_whole_df():
    df, level = np.meshgrid([1, 1.4, 2.7, 11.3, 200.5], [0.01, 0.5, 0.95, 0.9999])
    np.testing.assert_allclose(t_two_sided(t_quantile(df, level), df), 1 - level, rtol=1e-6, atol=1e-10)


def test_t_two_sided_is_never_0():
    assert float(t_two_sided(1e6, 50)) == SMALLEST_P
