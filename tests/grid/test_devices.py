"""Which device is used; there need be no GPU: a fake torch.cuda stands for one."""

import pytest
import torch

from common.errors import UserError
from grid.devices import choose_device, settle, use_gpu
from grid.settings import read_settings


class Gpus:
    """So many GPUs, and which one is current."""

    def __init__(self, n: int, monkeypatch):
        self.current = 0
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)
        monkeypatch.setattr(torch.cuda, "set_device", self.set_device)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    def set_device(self, number: int) -> None:
        self.current = number


def settings(*argv: str):
    return read_settings(["--model", "toy", *argv])


CHOSEN = [(0, "auto", "cpu", 0), (2, "auto", "cuda", 0), (2, "cpu", "cpu", 0), (2, "cuda", "cuda", 0)]


@pytest.mark.parametrize(("n", "wanted", "device", "current"), [*CHOSEN, (3, "cuda:2", "cuda", 2)])
def test_device(monkeypatch, n, wanted, device, current):
    gpus = Gpus(n, monkeypatch)
    chosen = settings("--device", wanted)
    settle(chosen)
    assert (chosen.device, gpus.current) == (device, current)
    assert chosen.joint == 12


@pytest.mark.parametrize(
    ("n", "visible", "wanted", "words"),
    [
        (0, None, "cuda", ["--device cuda", "no cuda device", "--device cpu"]),
        (0, "", "cuda:1", ["--device cuda:1", "CUDA_VISIBLE_DEVICES is ''", "--device cpu"]),
        (1, "3", "cuda:3", ["no cuda:3", "1 GPU here", "cuda:0", "CUDA_VISIBLE_DEVICES is '3'"]),
        (2, None, "cuda:2", ["no cuda:2", "2 GPUs"]),
        (1, None, "mps", ["no mps device"]),
    ],
)
def test_device_that_is_not_there(monkeypatch, n, visible, wanted, words):
    Gpus(n, monkeypatch)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(UserError) as error:
        choose_device(settings("--device", wanted))
    assert [word for word in words if word not in str(error.value)] == []


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_device_that_makes_no_sense(wanted):
    with pytest.raises(UserError, match="is no device"):
        settings("--device", wanted)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ((), [0, 1, 2, 0, 1]),  # five processes on three GPUs
        (("--gpus", "2"), [0, 1, 0, 1, 0]),
        (("--gpus", "8"), [0, 1, 2, 0, 1]),  # no more than there are
        (("--device", "cuda:1"), [1, 1, 1, 1, 1]),
        (("--spread",), [None] * 5),  # the model is on all of them
        (("--device", "cpu"), [None] * 5),
    ],
)
def test_each_process_has_a_gpu_of_its_own(monkeypatch, flags, wanted):
    gpus = Gpus(3, monkeypatch)
    chosen = settings("--workers", "5", *flags)
    choose_device(chosen)
    found = []
    for number in range(5):
        gpus.current = None
        use_gpu(chosen, number)
        found.append(gpus.current)
    assert found == wanted
