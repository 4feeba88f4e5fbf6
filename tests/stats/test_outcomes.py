import numpy as np
import pytest

from stats import Outcomes, score_weights, stack


def test_outcomes_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="shapes"):
        Outcomes(np.ones(3, bool), [0, 1], [0, 1, 2], [1, 2, 0])
    with pytest.raises(ValueError, match="none of the 2 groups"):
        Outcomes(np.ones(3, bool), [0, 1, 2], [0, 1, 2], [1, 2, 0])
    with pytest.raises(ValueError, match="no pair of group isolation"):
        Outcomes.of_kinds(np.ones(2, bool), [True, True], [0, 1], [1, 0])


def test_score_weights_average_isolation_over_attributes():
    groups = ("cause", "isolation:continent", "isolation:language")
    assert score_weights(groups, "isolation").tolist() == [0, 0.5, 0.5]
    assert score_weights(groups, "disentangle").tolist() == [0.5, 0.25, 0.25]
    with pytest.raises(ValueError, match="no score"):
        score_weights(groups, "precision")
    with pytest.raises(ValueError, match="groups are"):
        score_weights(("cause", "other"), "cause")


def test_stack_refuses_other_pairs():
    a = Outcomes.of_kinds([True, False], [True, False], [0, 1], [1, 2])
    b = Outcomes.of_kinds([True, False], [True, False], [0, 1], [1, 3])
    assert stack([a, a]).hit_MN.shape == (2, 2)
    with pytest.raises(ValueError, match="different pairs"):
        stack([a, b])
