"""The mark of a mask that was not trained out, on histories made by formulas."""

import math

import pytest

from results.training import still_falls


def history(losses, temperatures=None) -> list[dict]:
    temperatures = temperatures or [0.5] * len(losses)
    rows = zip(losses, temperatures, strict=True)
    return [{"epoch": i, "loss": loss, "accuracy": 0.5, "temperature": t} for i, (loss, t) in enumerate(rows, 1)]


def linear(start: float, end: float, n: int) -> list[float]:
    """T at the end of each epoch, as training sets it."""
    return [start + (end - start) * e / n for e in range(1, n + 1)]


@pytest.mark.parametrize("n", [5, 8, 20, 60])
@pytest.mark.parametrize("ends", [(1.0, 0.1), (10.0, 0.1)])
def test_a_loss_that_follows_log_t_to_the_end_still_falls(n, ends):
    temperatures = linear(*ends, n)
    assert still_falls(history([2 + math.log(t) for t in temperatures], temperatures)) is True


@pytest.mark.parametrize("n", [8, 20, 60])
@pytest.mark.parametrize("ends", [(1.0, 0.1), (10.0, 0.1)])
def test_a_loss_that_is_flat_in_the_end_does_not(n, ends):
    """It follows log T, and stays where it is when the last tenth of the epochs begins."""
    temperatures = linear(*ends, n)
    floor = math.log(temperatures[-1 - max(1, round(n / 10))])
    assert still_falls(history([max(math.log(t), floor) for t in temperatures], temperatures)) is False


def test_the_threshold_by_hand():
    """T halves in each of nine steps; the loss falls by 1 in the first eight.

    In the last it falls by x, of 8 + x in all: more than a third of a ninth of that if x > 8 / 26 = 0.3077.
    """
    temperatures = [0.5**e for e in range(10)]
    for x, wanted in ((0.31, True), (0.30, False), (0.0, False), (-1.0, False)):
        losses = [*(8.0 - e for e in range(9)), -x]
        assert still_falls(history(losses, temperatures)) is wanted, x


def test_a_fall_is_held_against_that_of_log_t():
    """Two of nineteen equal steps of the loss, while log T falls by 2.39 of 4.55: .105 of all, in .525 of it."""
    losses, temperatures = [20.0 - e for e in range(20)], linear(10.0, 0.1, 20)
    assert still_falls(history(losses, temperatures)) is False
    assert still_falls(history(losses)) is True


def test_where_the_temperature_is_constant_epochs_count():
    assert still_falls(history([10 - e for e in range(10)])) is True
    assert still_falls(history([max(0, 8 - e) for e in range(20)])) is False


def test_noise_at_the_end_is_no_fall():
    """Of a loss that levelled out: .01 up and down where the whole fall was 2."""
    temperatures = linear(1.0, 0.1, 20)
    losses = [2 * math.exp(-e) + 0.01 * (-1) ** e for e in range(20)]
    assert still_falls(history(losses, temperatures)) is False
    assert still_falls(history(losses[:-1], temperatures[:-1])) is False


@pytest.mark.parametrize(
    "losses",
    [[], [3.0], [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0, 5.0], [5.0, 4.0, math.nan, 2.0, 1.0], [math.inf] * 6],
    ids=["untrained", "one epoch", "four epochs", "rising", "diverged", "infinite"],
)
def test_what_cannot_be_told(losses):
    assert still_falls(history(losses)) is None


def test_temperatures_that_a_stranger_wrote():
    losses = [10.0 - e for e in range(10)]
    for odd in (None, "hot", 0, -1.0, math.nan):
        assert still_falls(history(losses, [odd] * 10)) is True
