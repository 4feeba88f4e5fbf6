"""Read files of tensors that come from outside, without running what is in them."""

import pickle
from pathlib import Path

from common.errors import UserError
from imports import safetensors, safetensors_torch, torch


def read_torch(path: Path) -> dict:
    """A torch.save of one dict of tensors and plain values; refuses a pickle with anything else."""
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        with open(path, "rb") as file:
            is_pickle = file.read(2) in (b"PK", *(bytes([0x80, protocol]) for protocol in range(2, 6)))
        if is_pickle and ("Unsupported" in str(error) or "GLOBAL" in str(error)):
            raise UserError(
                f"{path} is a pickle with more than tensors and plain values; it was not loaded, as it could run code: "
                "get the publisher's own file"
            ) from None
        raise UserError(f"{path} is truncated or no file of torch.save; download it again") from None
    except Exception as error:  # noqa: BLE001 - damaged bytes raise whatever they happen to hit
        raise UserError(
            f"{path} is truncated or no file of torch.save ({type(error).__name__}); download it again"
        ) from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of tensors; get the publisher's own file")
    return content


def read_safetensors(path: Path) -> dict:
    try:
        return safetensors_torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}); download it again") from None


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no entry is NaN or infinite; takes no second tensor of its size."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.split(4096))
