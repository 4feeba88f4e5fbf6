"""Read files of tensors that come from outside, without running what is in them."""

import pickle
import zipfile
from pathlib import Path

from common.errors import UserError
from imports import safetensors, safetensors_torch, torch


def read_torch(path: Path) -> dict:
    """A torch.save of one dict of plain values and dense tensors; refuses a pickle with anything else."""
    try:
        if zipfile.is_zipfile(path) and _unpacked_size(path) > path.stat().st_size:
            raise UserError(f"{path} would unpack to more than its size, as no file of torch.save; download it again")
        content = torch.load(path, weights_only=True, map_location="cpu")
    except UserError:
        raise
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
    for name, tensor in content.items():
        if isinstance(tensor, torch.Tensor) and not _is_whole(tensor):
            what = name[:60] if isinstance(name, str) else "a tensor"
            raise UserError(f"{path} is damaged: the numbers of {what} are not all in it; download it again")
    return content


def _unpacked_size(path: Path) -> int:
    with zipfile.ZipFile(path) as parts:
        return sum(part.file_size for part in parts.infolist())


def _is_whole(tensor: torch.Tensor) -> bool:
    """Whether each entry has its own number in the file, so that a copy takes no more memory than the file did.

    A view may claim any size: with stride 0 it repeats a few numbers.
    """
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    return is_dense and tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes()


def read_safetensors(path: Path) -> dict:
    try:
        return safetensors_torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}); download it again") from None


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no entry is NaN or infinite; takes no second tensor of its size."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.split(4096))
