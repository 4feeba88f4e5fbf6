"""Load a decoder and its tokenizer from a folder or the Hugging Face hub; one line says why that failed."""

import contextlib
import os
import sys
from pathlib import Path

from common.errors import UserError
from imports import hub_logging, huggingface_hub, require, torch, transformers, uncollected

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
        with quiet(bars=not is_folder), uncollected():  # it imports the model's module
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
    """The configuration of a causal decoder's text model (num_hidden_layers, hidden_size, ..).

    Raises UserError as `load_model` does.
    """
    with _loading(name):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        _require_decoder(config, name)
        return config.get_text_config()


def load_model(name: str, dtype: str = "float32", spread: bool = False):
    """A decoder and its tokenizer, from a checkpoint folder or the Hugging Face hub.

    dtype: of the weights, a key of DTYPES.  spread: over all GPUs, by the library accelerate.
    Raises UserError if it is no causal decoder, wants code of its own to be run, is incomplete, or cannot be reached.
    """
    if spread:
        require("accelerate")
    with _loading(name):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        _require_decoder(config, name)
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            name,
            dtype=DTYPES[dtype],
            device_map="auto" if spread else None,
            output_loading_info=True,
            trust_remote_code=False,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    tied = getattr(model, "all_tied_weights_keys", None) or getattr(model, "_tied_weights_keys", None) or ()
    lacking = sorted(set(report["missing_keys"]) - set(tied))
    if lacking:
        raise UserError(
            f"{name} lacks weights that a {config.model_type} model has ({lacking[0]} and {len(lacking) - 1} more); "
            "get it anew"
        )
    n_words = config.get_text_config().vocab_size
    if len(tokenizer) > n_words:
        raise UserError(
            f"the tokenizer of {name} has {len(tokenizer)} tokens, the model knows {n_words}; put the model's own "
            "tokenizer there"
        )
    return model, tokenizer


def _require_decoder(config, name: str) -> None:
    auto = transformers.models.auto.modeling_auto
    is_known = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    is_encoder = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if not is_known or is_encoder or getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"{name} is a {config.model_type} model and no causal decoder, which this experiment needs; use another "
            "--model, such as openai-community/gpt2"
        )


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
    if "trust_remote_code" in str(error):
        return f"{name} wants code of its own to be run, which is not done here; use a model that transformers knows"
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
