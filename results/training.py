"""Whether the training loss still falls when training ends: more epochs would lower it, and might change the score.

The loss falls while the temperature T does, as masks sharpen: with theta fixed it depends on theta / T alone.  So the
fall of the loss is measured against that of log T.  docs/table.md says how often the rule is right.
"""

import math

FEWEST = 5  # epochs; of fewer nothing is said
END = 0.1  # of the epochs, at least one: the end of training
SPEED = 1 / 3  # of the mean fall of the loss for the same fall of log T
CONSTANT = 0.01  # log T that falls by less does not count: epochs do


def still_falls(history: list[dict]) -> bool | None:
    """Whether the loss falls in the last tenth of the epochs at more than a third of its mean speed over all of them.

    history: the epochs of a result.  Speed: the fall of the loss over that of log T, or where T is constant over
    epochs.  None: nothing was trained, or it cannot be told: of few epochs, or of a loss that is not finite or did not
    fall at all.
    """
    losses, temperatures = ([epoch.get(key) for epoch in history] for key in ("loss", "temperature"))
    if len(losses) < FEWEST or not all(map(_is_number, losses)):
        return None
    n, n_end = len(losses), max(1, round(END * len(losses)))
    whole, end = losses[0] - losses[-1], losses[-1 - n_end] - losses[-1]
    if whole <= 0:
        return None
    share = n_end / (n - 1)  # of what drives the fall, in the last tenth
    if all(_is_number(t) and t > 0 for t in temperatures):
        log_t = [math.log(t) for t in temperatures]
        if log_t[0] - log_t[-1] > CONSTANT:
            share = (log_t[-1 - n_end] - log_t[-1]) / (log_t[0] - log_t[-1])
    return end / whole > SPEED * share


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
