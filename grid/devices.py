"""The device that computes, and the settings that depend on it: chosen after the command line is read."""

import os

from common.errors import UserError
from grid.settings import InputSettings, Settings
from imports import torch


def choose_device(settings: InputSettings) -> None:
    """Replace `auto` by the device that is there, and make of cuda:N the current one, named cuda.

    Raises UserError if the one asked for is not there.
    """
    settings.device, settings.gpu = _device(settings.device)
    if settings.gpu is not None:
        torch.cuda.set_device(settings.gpu)


def settle(settings: Settings) -> None:
    """Choose the device; check and fill in what depends on it.  Raises UserError."""
    choose_device(settings)
    device, precision = settings.device, settings.precision
    if settings.engine == "nnsight" and device == "mps":
        raise UserError("the nnsight engine is not supported on mps; use --device cpu")
    if precision == "tf32" and device != "cuda":
        raise UserError(f"--precision tf32 is a CUDA GPU's, not of device {device}; use fp32 here")
    if precision != "fp32" and device == "mps":
        raise UserError(f"--precision {precision} is not supported on mps; use fp32 here")
    if settings.joint is None:  # beyond 64 rows a CPU gains little, and small products want more of them
        settings.joint = 4 if device == "cpu" and not settings.place.is_toy else 12


def use_gpu(settings: Settings, number: int) -> None:
    """Let a process, by its number among those of this machine, compute on a GPU of its own.

    The GPUs are those that CUDA_VISIBLE_DEVICES leaves, as many as --gpus says; --device cuda:N is for all processes.
    """
    if settings.device == "cuda" and not settings.spread:
        n_gpus = min(settings.gpus or torch.cuda.device_count(), torch.cuda.device_count())
        torch.cuda.set_device(number % n_gpus if settings.gpu is None else settings.gpu)


def device_name(device: str) -> str:
    """As results name it."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def _device(wanted: str) -> tuple[str, int | None]:
    """auto, cpu, mps, cuda or cuda:N -> (cpu, mps or cuda, N if it was given)."""
    if wanted == "cpu":
        return wanted, None
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next((name for name in has if has[name]), "cpu"), None
    name, _, number = wanted.partition(":")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    left = f" (CUDA_VISIBLE_DEVICES is {visible!r})" if name == "cuda" and visible is not None else ""
    if not has[name]:
        raise UserError(
            f"--device {wanted} was asked for, but torch sees no {name} device here{left}; use --device cpu"
        )
    if number and int(number) >= torch.cuda.device_count():
        n = torch.cuda.device_count()
        raise UserError(f"there is no {wanted}: torch sees {n} GPU{'s' * (n > 1)} here, from cuda:0 on{left}")
    return name, int(number) if number else None
