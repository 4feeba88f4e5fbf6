"""Load a GPT-2 from a checkpoint folder or the Hugging Face hub, and say in one line why it could not be."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from common.errors import UserError
from imports import hub_logging, huggingface_hub, torch, transformers
from models import Subject, require_plain_gpt2


@contextlib.contextmanager
def _loading(name: str):
    """Silence the library's own remarks, and turn its many kinds of errors into one line."""
    folder = Path(name)
    is_folder = os.path.isdir(name)  # unlike Path's own it takes a name of any length
    if is_folder:
        _require_checkpoint_files(folder)
    elif os.path.exists(name) or name.startswith((".", "/", "~")):
        raise UserError(f"{name} is not a folder with a checkpoint; name one, a hub id, or toy")
    else:
        print(
            f"looking for {name} in the cache and on the Hugging Face hub (half a minute without a network)",
            file=sys.stderr,
        )
    hub_logging.set_verbosity_error()
    try:
        with quiet(bars=not is_folder):
            yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - it raises many kinds, none of which says what to do
        raise UserError(_why_not_loaded(name, is_folder, error)) from None


@contextlib.contextmanager
def quiet(bars: bool = False):
    """Hold back transformers' remarks and, without `bars`, its progress bars; then let it be as it was."""
    logging = transformers.utils.logging
    level, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if has_bars:
            logging.enable_progress_bar()


def load_config(name: str):
    """The configuration of a GPT-2 (n_layer, n_embd, ..).  Raises UserError as `load_subject` does."""
    with _loading(name):
        config = transformers.AutoConfig.from_pretrained(name)
        require_plain_gpt2(config, name)
        return config


def load_subject(name: str, device: str = "cpu") -> Subject:
    """Load a GPT-2 in fp32 from a checkpoint folder or the Hugging Face hub.

    Raises UserError if it is not a GPT-2, is incomplete, or cannot be reached.
    """
    config = load_config(name)
    with _loading(name):
        model, loading = transformers.GPT2LMHeadModel.from_pretrained(
            name, config=config, dtype=torch.float32, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
    lacking = sorted(set(loading["missing_keys"]) - {"lm_head.weight"})
    if lacking:
        raise UserError(
            f"{name} lacks weights that a GPT-2 has ({lacking[0]} and {len(lacking) - 1} more); get it anew"
        )
    if tokenizer.bos_token is None:
        raise UserError(f"the tokenizer of {name} has no start token; use a GPT-2 tokenizer")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, the model knows {config.vocab_size}; "
            "put the model's own tokenizer there"
        )
    return Subject(model, tokenizer, name, device)


def _require_checkpoint_files(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json; name a folder that save_pretrained wrote, a hub id, or toy")
    kinds = ("*.safetensors", "pytorch_model*.bin")
    if not any(path.stat().st_size for kind in kinds for path in folder.glob(kind)):
        raise UserError(f"{folder} holds no weights (model.safetensors); put them there or name another folder")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise UserError(f"{folder} holds no tokenizer (tokenizer.json or vocab.json); save it there beside the model")


def _why_not_loaded(name: str, is_folder: bool, error: Exception) -> str:
    reason = " ".join(str(error).split())[:160]
    if is_folder:
        return f"cannot load the model in {name}: {reason}; get the folder anew or name another"
    how = "use --model toy (offline), a local checkpoint folder, or try again with a network"
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return f"{name} is not in the local cache and HF_HUB_OFFLINE is set; {how}"
    text = f"{type(error).__name__} {error}"
    if "HFValidationError" in text or "Repo id must" in text:
        return f"{name!r} is neither a folder nor a possible name on the hub; {how}"
    if "404" in text or "RepositoryNotFound" in text or "not a valid model identifier" in text:
        return f"the hub has no model {name}, or it cannot be seen without a login; check the name, or {how}"
    return f"cannot get {name} from the Hugging Face hub; {how}"
