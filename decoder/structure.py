"""Find the parts of a Hugging Face decoder: its layers and its head.

No architecture is known by name.  The layers are the one `ModuleList` with as many entries as
`config.num_hidden_layers` says, the head is what `get_output_embeddings` returns.
"""

from dataclasses import dataclass

from common.errors import UserError
from imports import torch

MODULE_LIST = torch.nn.ModuleList


@dataclass(frozen=True)
class Structure:
    """The parts of a decoder, and what its config says of them.

    trunk: the module that holds the layers, and with them the embeddings and the final norm.
    windows: per layer, how many positions back it sees, its own included; None: all.
    scale, softcap: logits are  softcap * tanh(scale * head(x) / softcap),  without softcap  scale * head(x).
    """

    trunk: torch.nn.Module
    layers: torch.nn.ModuleList
    layers_path: str
    head: torch.nn.Linear
    d_model: int
    n_positions: int | None
    windows: tuple[int | None, ...]
    scale: float
    softcap: float | None


def find_structure(model, name: str) -> Structure:
    """Raises UserError if the model is no causal decoder, or if its layers or head cannot be told."""
    config = model.config.get_text_config()
    layers_path, layers = _find_layers(model, config.num_hidden_layers, name)
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise UserError(f"{name} ({type(model).__name__}) has no output head for next tokens; use another --model")
    return Structure(
        layers_path=layers_path,
        trunk=model.get_submodule(layers_path.rpartition(".")[0]),
        layers=layers,
        head=head,
        d_model=config.hidden_size,
        n_positions=getattr(config, "max_position_embeddings", None),
        windows=tuple(_window(config, i, name) for i in range(len(layers))),
        scale=(getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def _find_layers(model, n: int, name: str) -> tuple[str, torch.nn.ModuleList]:
    lists = {path: m for path, m in model.named_modules() if isinstance(m, MODULE_LIST) and len(m) == n}
    # The experts of a layer may be as many as the layers: only lists that lie in no other count.
    found = {path: m for path, m in lists.items() if not any(path.startswith(f"{other}.") for other in lists)}
    if len(found) != 1:
        raise UserError(
            f"cannot tell the layers of {name}: its config names {n} layers, and {len(found)} lists of modules have "
            f"that length ({', '.join(found) or 'none'}); use another --model"
        )
    return next(iter(found.items()))


def _window(config, i: int, name: str) -> int | None:
    width = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    kind = kinds[i] if kinds else "sliding_attention" if width else "full_attention"
    if kind == "full_attention":
        return None
    if kind == "sliding_attention" and width:
        return width
    raise UserError(f"layer {i} of {name} has {kind}; full and sliding attention are supported, use another --model")
