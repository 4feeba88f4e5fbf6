"""Call a decoder's own layers one by one, on a few positions behind keys and values that are known.

How the model calls its layers is observed once, in a plain forward pass.  A call of ours repeats the
arguments that were seen there, with five of them replaced: the residual, an explicit additive mask,
explicit positions, their rotary embeddings, and `KnownKeys` in place of the cache.  So nothing of a
model is written again here: parallel residuals, grouped heads, sandwich norms and the like are the
layer's own business.

Names of tensors end in their shape: B rows, T positions that run, K positions that are seen (known or
running), H key heads, h head_dim, D d_model.
"""

import inspect
from dataclasses import dataclass, field

from common.errors import UserError
from decoder.products import with_products
from decoder.structure import Structure
from imports import torch, transformers

PADDING = -1  # the position of a slot that holds nothing


class KnownKeys:
    """Stands for the model's cache in one call of one layer.

    The layer hands over the keys and values of the positions that run and gets the known ones back, with
    the new ones behind them.  (A `DynamicCache` would keep the new ones, and grow from step to step.)
    only_new: end the call there; see `Layers.keys_and_values`.  new: what the layer handed over.
    """

    def __init__(self, keys_BHKh=None, values_BHKh=None, only_new: bool = False):
        self.known = keys_BHKh, values_BHKh
        self.only_new = only_new

    def update(self, keys_BHTh, values_BHTh, *_, **__):
        self.new = keys_BHTh, values_BHTh
        if self.only_new:
            raise _NewKeys
        if self.known[0] is None:
            return self.new
        keys, values = self.known
        return torch.cat([keys, keys_BHTh], dim=2), torch.cat([values, values_BHTh], dim=2)


class _NewKeys(Exception):
    """Ends a layer's call once its keys and values are there."""


@dataclass
class Call:
    """How the model calls one layer: the names of the arguments that we replace, and all others as they were."""

    residual: str = ""
    cache: str = ""
    mask: str = ""
    positions: str = ""
    embeddings: str = ""
    others: dict = field(default_factory=dict)


class Layers:
    """A decoder's layers, and the norm behind them.

    calls: one `Call` per layer.  norm: the final norm.
    """

    def __init__(self, model, structure: Structure, name: str):
        """Raises UserError if the layers are called in a way that this file does not know."""
        self.model, self.structure, self.name = model, structure, name
        self.modules = list(structure.layers)
        self.norm = torch.nn.Identity()
        self.returns_tuple = False
        self.calls: list[Call] = []
        self.tables: list[tuple] = []  # per layer: rotary embeddings of the positions from 0 on; () without
        self._in_form: dict = {}
        self.observe(8)

    def __len__(self) -> int:
        return len(self.modules)

    # ------------------------------------------------------------ how the model calls them

    def observe(self, n_positions: int) -> None:
        """Run a plain forward pass of so many tokens, and note the arguments of every layer."""
        seen, trunk_calls, last_output = [], [], []
        hooks = [m.register_forward_pre_hook(_noting(seen), with_kwargs=True) for m in self.modules]
        hooks.append(self.modules[-1].register_forward_hook(lambda *call: last_output.append(call[2])))
        hooks += [
            module.register_forward_pre_hook(lambda module, args: trunk_calls.append((module, args)))
            for module in self.structure.trunk.children()
            if module is not self.structure.layers
        ]
        try:
            with torch.no_grad():
                self.model(
                    input_ids=some_tokens(n_positions, self.structure.head),
                    past_key_values=transformers.DynamicCache(),
                    use_cache=True,
                )
        finally:
            for hook in hooks:
                hook.remove()
        if [module for module, _ in seen] != self.modules:
            raise UserError(f"{self.name} does not run its layers one after the other; use another --model")
        final = as_residual(last_output[0])
        self.returns_tuple = not torch.is_tensor(last_output[0])
        for module, args in trunk_calls:
            if args and args[0] is final:
                self.norm = module
        described = [self._described(arguments) for _, arguments in seen]
        self.calls = [call for call, _ in described]
        self.tables = [table for _, table in described]

    def _described(self, arguments: dict) -> tuple[Call, tuple]:
        call, table = Call(), ()
        for name, value in arguments.items():
            if not call.residual:
                call.residual = name
            elif isinstance(value, transformers.Cache):
                call.cache = name
            elif name == "attention_mask":
                call.mask = name
            elif name == "position_ids":
                call.positions = name
            elif name == "position_embeddings":
                call.embeddings, table = name, tuple(t[0] for t in value)
            elif value is None or isinstance(value, (bool, int, float, str)):
                call.others[name] = value
            else:
                raise UserError(
                    f"{self.name} gives its layers an argument that is not understood ({name}); use another --model"
                )
        if not (call.cache and call.mask):
            raise UserError(f"{self.name} gives its layers no cache or no attention mask; use another --model")
        return call, table

    def prepare_positions(self, n_positions: int) -> None:
        """Make the tables of rotary embeddings long enough."""
        if any(table and len(table[0]) < n_positions for table in self.tables):
            self.observe(n_positions)

    # ------------------------------------------------------------ calling them

    def run(self, i: int, x_BTD, mask_B1TK, positions_BT, known: KnownKeys, form=None):
        """Layer `i`, from residuals before it to residuals after it, [B, T, D].

        mask: additive, 0 where the position that runs sees the other one; as `additive_mask` makes it.
        form: of the products with weights (products.py); None: the model's own modules.
        """
        call, positions_BT = self.calls[i], positions_BT.clamp_min(0)
        arguments = {**call.others, call.residual: x_BTD, call.cache: known, call.mask: mask_B1TK}
        if call.positions:
            arguments[call.positions] = positions_BT
        if call.embeddings:
            arguments[call.embeddings] = tuple(table[positions_BT] for table in self.tables[i])
        return as_residual(self._module(i, form)(**arguments))

    def keys_and_values(self, i: int, x_BTD, positions_BT, form=None):
        """What layer `i` lets later positions see of these residuals: keys and values, [B, H, T, h] each.

        The layer is called and left as soon as it hands them to its cache: attention and MLP do not run.
        """
        known = KnownKeys(only_new=True)
        try:
            self.run(i, x_BTD, None, positions_BT, known, form)
        except _NewKeys:
            return known.new
        raise UserError(f"layer {i} of {self.name} does not use its cache; use another --model")

    def _module(self, i: int, form):
        if form is None:
            return self.modules[i]
        if (i, form) not in self._in_form:
            self._in_form[i, form] = with_products(self.modules[i], form)
        return self._in_form[i, form]


def as_residual(output):
    """Some layers return the residual, some a tuple that begins with it."""
    return output if torch.is_tensor(output) else output[0]


def additive_mask(asking_BT, seen_BK, window: int | None, dtype):
    """[B, 1, T, K]: 0 where the position asking may see the other, else the most negative number.

    A position sees itself and those before it, in a sliding layer of the last `window` only; nothing sees padding.
    """
    asking, seen = asking_BT[:, :, None], seen_BK[:, None, :]
    visible = (seen != PADDING) & (seen <= asking)
    if window is not None:
        visible &= seen > asking - window
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, torch.finfo(dtype).min)[
        :, None
    ]


def _noting(seen: list):
    def note(layer, args, kwargs):
        bound = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
        seen.append((layer, {**{k: v for k, v in bound.items() if k != "kwargs"}, **bound.get("kwargs", {})}))

    return note


def some_tokens(n: int, head) -> torch.Tensor:
    """[1, n]: tokens that are no special ones in most vocabularies."""
    return (torch.arange(n, device=head.weight.device) * 7919 + 100)[None] % head.out_features
