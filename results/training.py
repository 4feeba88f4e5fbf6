"""Whether the training loss still falls when training ends: more epochs would lower it, and might change the score.

The loss always falls while the temperature does, so what counts is how fast it falls in the end.  docs/table.md says
how often the rule is right.
"""

import math

FEWEST = 5  # epochs; of fewer nothing is said
END = 0.1  # of the epochs, at least one: the end of training
SPEED = 0.5  # of the mean fall from epoch to epoch


def still_falls(history: list[dict]) -> bool | None:
    """Whether the loss falls in the last tenth of the epochs at more than half its mean speed over all of them.

    history: the epochs of a result.  None: nothing was trained, or it cannot be told, as of few epochs, or of a loss
    that is not finite or did not fall at all.
    """
    losses = [epoch["loss"] for epoch in history]
    if len(losses) < FEWEST or not all(map(math.isfinite, losses)):
        return None
    n_end = max(1, round(END * len(losses)))
    whole, end = losses[0] - losses[-1], losses[-1 - n_end] - losses[-1]
    if whole <= 0:
        return None
    return end / n_end > SPEED * whole / (len(losses) - 1)
