"""The device that computes, and the settings that depend on it: chosen after the command line is read."""

from common.errors import UserError
from grid.settings import InputSettings, Settings
from imports import torch


def choose_device(settings: InputSettings) -> None:
    """Replace `auto` by the device that is there.  Raises UserError if the one asked for is not."""
    settings.device = _device(settings.device)


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


def use_gpu(settings: InputSettings, number: int) -> None:
    """Let this process, by its number among those of this machine, work on a GPU of its own as far as there are any."""
    if settings.device == "cuda" and not settings.spread:
        n_gpus = min(settings.gpus or torch.cuda.device_count(), torch.cuda.device_count())
        torch.cuda.set_device(number % n_gpus)


def device_name(device: str) -> str:
    """As results name it."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def _device(wanted: str) -> str:
    if wanted == "cpu":
        return wanted
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next((name for name in has if has[name]), "cpu")
    if not has[wanted]:
        raise UserError(f"--device {wanted} was asked for, but torch sees no {wanted} device here; use --device cpu")
    return wanted
