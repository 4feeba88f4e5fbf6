"""What is said of a feature on the cities, worked out by hand."""

import numpy as np
import pytest

from explain.features import describe, explained, means, rounded

VALUES = ["Japan", "Japan", "Peru", "Peru", "Chile", "Chile"]


def test_explained_share_by_hand():
    """Within: 4 x 1; total: mean 3, 16 + 4 + 4 + 0 + 0 + ... worked out in fractions."""
    f_C = np.array([1.0, 3.0, 5.0, 7.0, 0.0, 2.0])
    within = 2 * 1.0 + 2 * 1.0 + 2 * 1.0  # each value's two cities lie 1 from their mean
    total = sum((x - 3.0) ** 2 for x in f_C)  # 4 + 0 + 4 + 16 + 9 + 1
    assert total == 34
    assert explained(f_C[:, None], VALUES)[0] == pytest.approx(1 - (within / 3) / (34 / 5))


def test_explained_share_is_1_for_what_the_values_decide_and_unknown_for_constants():
    f_CF = np.array([[2.0, 2, 5, 5, 9, 9], [0.0] * 6, [4.0] * 6]).T
    assert explained(f_CF, VALUES)[0] == pytest.approx(1)
    assert np.isnan(explained(f_CF, VALUES)[1:]).all()
    assert np.isnan(explained(f_CF, list("abcdef"))).all()  # every city has a value of its own
    assert np.isnan(explained(f_CF, ["a"] * 6)).all()


def test_explained_share_is_0_on_average_where_values_have_nothing_to_do_with_a_feature():
    """The plain ratio would be 29 / 59 = 0.49 with 30 values of 60 cities."""
    rng = np.random.default_rng(0)
    f_CF = rng.standard_normal((60, 4000)) * (rng.random((60, 4000)) < 0.3)
    found = explained(f_CF, [str(i // 2) for i in range(60)])
    assert abs(np.nanmean(found)) < 4 * np.nanstd(found) / 4000**0.5
    assert np.nanstd(found) > 0.05


def test_means_of_values():
    mean_GF, group_C = means(np.array([[1.0, 3, 5, 7, 0, 2]]).T, VALUES)
    assert mean_GF[:, 0].tolist() == [1, 2, 6]  # Chile, Japan, Peru
    assert group_C.tolist() == [1, 1, 2, 2, 0, 0]


def test_words_of_a_latent_and_of_a_direction():
    names = ["Tokyo", "Kobe", "Lima", "Cusco", "Santiago", "Arica"]
    values = {"country": VALUES, "continent": ["Asia"] * 2 + ["South America"] * 4}
    f_CF = np.array([[0.0, 2.0, 0.0, 0.0, 0.0, 1.0], [-4.0, -4.0, 1.0, 1.0, 0.0, 0.0]]).T
    latent, direction = describe(f_CF, names, values, "country", are_latents=True)
    assert latent["n_fires"] == 2
    assert latent["strongest"] == [["Kobe", 2.0], ["Arica", 1.0]]
    assert latent["values"] == [["Japan", 1.0], ["Chile", 0.5], ["Peru", 0.0]]
    assert direction["strongest"] == [["Lima", 1.0], ["Cusco", 1.0]]
    direction = describe(f_CF, names, values, "country", are_latents=False)[1]
    assert (direction["n_fires"], direction["strongest"]) == (None, None)
    assert direction["values"] == [["Japan", -4.0], ["Peru", 1.0], ["Chile", 0.0]]  # furthest from their mean, -1
    assert direction["explained"]["country"] == 1.0
    assert direction["explained"]["continent"] == pytest.approx(1 - (1 / 4) / (28 / 5), abs=1e-4)


def test_rounding_keeps_digits_and_drops_what_is_no_number():
    assert rounded(0.000123456) == 0.0001235
    assert rounded(float("inf")) is None
    assert rounded(float("nan")) is None
