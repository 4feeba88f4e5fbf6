"""A training whose state is saved and taken up elsewhere takes the same steps, to the last bit."""

import pytest
import torch
from helpers_masks import METHODS, World, make_job, toy_at_layer

from masks.training import Schedule, Training, train

SCHEDULE = Schedule(epochs=3, batch_size=16, lr=3e-3, temperature=(1.0, 0.1))
N_PAIRS = (48, 120, 40, 120, 72)  # so that runs end at different steps


@pytest.fixture(scope="module")
def world(toy_world) -> World:
    return toy_at_layer(toy_world, "few-shot")


def jobs(world) -> list:
    methods = (*METHODS, "das@8")
    return [make_job(world, method, seed, n) for seed, (method, n) in enumerate(zip(methods, N_PAIRS, strict=True))]


class Enough(Exception):
    """Raised between two steps, in place of a kill."""


def state_after(training: Training, n: int) -> dict:
    """Take steps until n are done, and keep the state as a file would: copies."""

    def between() -> None:
        if training.done >= n:
            raise Enough

    if n:
        with pytest.raises(Enough):
            training.take_steps(between=between)
    return {name: tensor.clone() for name, tensor in training.state().items()}


def require_same(ours: list, theirs: list, their_jobs: list, our_jobs: list) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.theta, other.theta)
        assert one.theta.abs().max() > 0.01
        assert one.history == other.history
    for one, other in zip(our_jobs, their_jobs, strict=True):
        for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.fixture(scope="module")
def undisturbed(world) -> dict:
    """at_once -> (jobs, what they were trained to)."""
    found = {}
    for at_once in (1, 6):
        made = jobs(world)
        found[at_once] = made, train(made, SCHEDULE, "cpu", at_once=at_once)
    return found


# 9 steps an epoch for the shortest and 24 for the longest: within the first, at an end, between ends, at the last step
@pytest.mark.parametrize("n", [1, 9, 13, 24])
@pytest.mark.parametrize("at_once", [1, 6])
def test_taken_up(world, undisturbed, n, at_once):
    """As on a CPU, and many steps at a time as on a GPU, where the bound of a rotation's norm is state too."""
    state = state_after(Training(jobs(world), SCHEDULE, "cpu", at_once), n)
    again = jobs(world)
    training = Training(again, SCHEDULE, "cpu", at_once)
    training.take_up(state)
    assert training.done >= n
    training.take_steps()
    their_jobs, theirs = undisturbed[at_once]
    require_same(training.trained(), theirs, their_jobs, again)


def test_taken_up_again_and_again(world, undisturbed):
    state = None
    for n in range(2, 24, 3):
        training = Training(jobs(world), SCHEDULE, "cpu")
        if state is not None:
            training.take_up(state)
        state = state_after(training, n)
    again = jobs(world)
    training = Training(again, SCHEDULE, "cpu")
    training.take_up(state)
    training.take_steps()
    their_jobs, theirs = undisturbed[1]
    require_same(training.trained(), theirs, their_jobs, again)


def test_adam_is_the_same_as_plain_pytorch_says(world):
    """Moments after n steps are those of Adam's formula on the gradients, worked out in float64 beside it."""
    (job,) = jobs(world)[:1]
    training = Training([job], SCHEDULE, "cpu")
    gradients = []
    job.theta.register_hook(lambda grad: gradients.append(grad.double().clone()))
    state = state_after(training, 4)
    first, second = torch.zeros(2, len(gradients[0]), dtype=torch.float64)
    for grad in gradients:
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
    assert len(gradients) == 4
    assert torch.allclose(state["moment.0.exp_avg"].double(), first, rtol=1e-5, atol=1e-9)
    assert torch.allclose(state["moment.0.exp_avg_sq"].double(), second, rtol=1e-5, atol=1e-12)
    assert float(state["moment.0.step"]) == 4


BAD = {
    "another width": lambda state: state | {"parameter.0": torch.zeros(3)},
    "one is missing": lambda state: {name: tensor for name, tensor in state.items() if name != "record"},
    "one too many": lambda state: state | {"moment.99.exp_avg": torch.zeros(3)},
    "no moment of Adam's": lambda state: state | {"moment.0.secret": torch.zeros(3)},
    "more steps than there are": lambda state: state | {"done": torch.tensor(1000)},
}


@pytest.mark.parametrize("what", BAD)
def test_what_does_not_fit_changes_nothing(world, undisturbed, what):
    state = state_after(Training(jobs(world), SCHEDULE, "cpu"), 5)
    again = jobs(world)
    training = Training(again, SCHEDULE, "cpu")
    with pytest.raises(ValueError, match=r"it (does not fit|holds|has)"):
        training.take_up(BAD[what](state))
    training.take_steps()
    their_jobs, theirs = undisturbed[1]
    require_same(training.trained(), theirs, their_jobs, again)
