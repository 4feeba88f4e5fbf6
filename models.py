"""The subject model: any decoder whose answers we patch, on the exact fast path.

A patch replaces the residual after layer L at one position, the last token of the city's name.  It can
reach nothing but the layers after L at that position and behind it.  All else is computed once:

  * `Subject.harvest` runs every prompt once, in plain forward passes, and keeps of it the residuals of
    the *suffix*, which begins at the patched position, and the keys and values of everything before it:
    the *prefix*, which all prompts about an attribute share, once for all of them, and the city's *own*
    tokens before its last one for each prompt;
  * `LayerCache` puts together what a patch after one layer needs: masks, positions, and where L is the
    last layer but one, the keys and values of the suffix too.

What is left runs through the model's own layers (decoder/layers.py), in the last of them for one
position only, and the head for that position (decoder/head.py).  This equals the full forward pass to
rounding (tests/models/); `harvest` compares the two on some of the prompts each time.

Names of tensors end in their shape: R prompts (rows of `Prompts`), B rows of a batch, S positions of
the suffix, P of the prefix, O own tokens, K positions that are seen, D d_model, H key heads, h head_dim.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from common.errors import UserError
from common.memory import AtOnce
from data.prompts import Prompts
from decoder.activations import ActivationCache, Harvest
from decoder.head import Head
from decoder.layers import PADDING, KnownKeys, Layers, additive_mask, as_residual, some_tokens
from decoder.loading import load_model
from decoder.products import Plain, form_for
from decoder.structure import find_structure
from imports import torch

PROBE = 12  # tokens of the prompt on which the layers run one by one are compared with the model
LARGEST_PACKED = 2e9  # bytes of a model whose weights are laid out anew, twice, on a CPU
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of the largest logit: rounding


class Subject:
    """A decoder in eval mode with frozen weights, and its tokenizer.

    name: as the user gave it; n_layers, d_model: sizes; device: where residuals are kept; dtype: of the weights.
    """

    def __init__(self, model, tokenizer, name: str, device: str = "cpu"):
        """Raises UserError if the model's parts cannot be told, or if running them one by one gives other logits."""
        self.model = model.eval().requires_grad_(False)
        if getattr(model, "hf_device_map", None) is None:
            self.model.to(device)
        self.tokenizer, self.name, self.device, self.dtype = tokenizer, name, device, model.dtype
        self.structure = find_structure(model, name)
        if (self.structure.n_positions or PROBE) < PROBE:
            raise UserError(f"{name} reads {self.structure.n_positions} tokens, fewer than any prompt has; use another")
        self.layers = Layers(model, self.structure, name)
        self.n_layers, self.d_model = len(self.layers), self.structure.d_model
        self.n_bytes = sum(p.nbytes for p in model.parameters())
        self.test_rows = AtOnce(256, "test pairs")
        self._heads: dict = {}
        self._layer_cache: LayerCache | None = None
        self._require_equal_to_model()

    @property
    def attention(self) -> str:
        """The implementation of attention, by transformers' name."""
        return self.model.config._attn_implementation

    @functools.cached_property
    def traced(self):
        """The model wrapped by nnsight, which changes its tokenizer's padding, so it gets a tokenizer of its own."""
        from imports import nnsight

        tokenizer = copy.deepcopy(self.tokenizer)
        return nnsight.TransformersModel(self.model, tokenizer=tokenizer, task="text-generation")

    def traced_layer(self, i: int):
        """Layer `i` as nnsight wraps it."""
        found = self.traced
        for name in self.structure.layers_path.split("."):
            found = getattr(found, name)
        return found[i]

    def head(self, form=Plain) -> Head:
        if form not in self._heads:
            self._heads[form] = Head(self.structure, form)
        return self._heads[form]

    def form(self, precision: str = "fp32"):
        """The form in which products with the weights are fastest, while memory allows a copy for either direction."""
        if precision == "fp32" and self.n_bytes > LARGEST_PACKED:
            return Plain
        return form_for(precision, self.device)

    def digest(self) -> str:
        """A fingerprint of the weights; a tensor that two names share counts once."""
        total, seen = hashlib.sha256(), set()
        for name, weight in sorted(self.model.state_dict().items()):
            if weight.data_ptr() not in seen:
                seen.add(weight.data_ptr())
                total.update(name.encode())
                total.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return total.hexdigest()[:16]

    def logits(self, x_BD):
        """[B, vocabulary] in fp32, from the residual after the last layer at the position that answers."""
        return self.head().logits(self._normed(x_BD))

    def loss_and_best(self, x_BD, label_B, form=Plain):
        """Likewise the answer's cross-entropy [B] and the likeliest token [B]."""
        x_BD = self._normed(x_BD)
        loss_B, best_B = self.head(form).loss_and_best(x_BD, label_B.to(x_BD.device))
        return loss_B.to(self.device), best_B.to(self.device)

    def _normed(self, x_BD):
        return self.layers.norm(x_BD.to(self.dtype)).to(self.structure.head.weight.device)

    def run_from(self, layer: int, x_BTD, positions_BT, behind: Behind, kept: list | None = None):
        """From residuals after `layer` to those after the last layer, [B, T, D], in a plain causal pass.

        kept: a list that is given every later layer's keys and values of these positions, if any.
        """
        self.layers.prepare_positions(int(positions_BT.max()) + 1)
        seen_BK = torch.cat([behind.positions_BK, positions_BT], dim=1)
        x_BTD = x_BTD.to(self.dtype)
        for i in range(layer + 1, self.n_layers):
            mask, known = additive_mask(positions_BT, seen_BK, self.structure.windows[i], self.dtype), behind.known(i)
            x_BTD = self.layers.run(i, x_BTD, mask, positions_BT, known)
            if kept is not None:
                kept.append(known.new)
        return x_BTD

    def _require_equal_to_model(self) -> None:
        """A short prompt through the layers one by one must give the model's own logits."""
        tokens = some_tokens(PROBE, self.structure.head)
        embedded: list = []
        hook = self.layers.modules[0].register_forward_hook(lambda *call: embedded.append(as_residual(call[2])))
        with torch.no_grad():
            wanted = self.model(input_ids=tokens).logits[0, -1].float()
            hook.remove()
            positions = torch.arange(PROBE, device=self.device)[None]
            x_1TD = self.run_from(0, embedded[0], positions, Behind.nothing(positions))
            found = self.logits(x_1TD[:, -1])[0]
        self._require_near(found, wanted, "its layers run one by one")

    def _require_near(self, found, wanted, what: str) -> None:
        difference = float((found.to(wanted.device) - wanted).abs().max() / wanted.abs().max())
        if not difference <= TOLERANCE.get(self.dtype, 5e-2):
            raise UserError(
                f"{self.name} cannot be patched exactly: with {what}, its logits differ by {difference:.1e} of the "
                "largest from those of the model as a whole; use another --model"
            )

    # ------------------------------------------------------------ what is frozen

    def harvest(
        self, prompts: Prompts, layers: list[int], batch_size: int = 64, progress: bool = True, answers: bool = True
    ) -> ActivationCache:
        """Run every prompt once and keep what the fast path needs at these layers: an `ActivationCache`.

        answers: its `best_R` too, which takes the rest of the model.
        Raises UserError if the fast path answers otherwise than the model (it compares some prompts).
        """
        harvest = Harvest(self.layers, prompts, layers, self.device)
        cache = AtOnce(batch_size, "prompts")(lambda n: harvest.run(n, progress, answers))
        self._compare(cache)
        return cache

    def likeliest(self, prompts: Prompts, batch_size: int = 64, progress: bool = True) -> torch.Tensor:
        """[R] int64: the likeliest next token of every prompt."""
        asked = Harvest(self.layers, prompts, [], self.device)
        return AtOnce(batch_size, "prompts")(lambda n: asked.likeliest(n, progress))

    def layer_cache(self, cache: ActivationCache, layer: int) -> LayerCache:
        """What a patch after this layer needs; of the layer asked for last it is kept."""
        known = self._layer_cache
        if known is None or known.cache is not cache or known.layer != layer:
            self._layer_cache = known = LayerCache(self, cache, layer)
        return known

    def _compare(self, cache: ActivationCache) -> None:
        """The fast path must give the model's own logits where a row is patched with itself."""
        layer = self.layer_cache(cache, min(cache.residuals))
        rows = torch.tensor(list(cache.some_logits), device=self.device)
        with torch.no_grad():
            found_BV = self.logits(layer.run(layer.residuals[rows, 0], rows))
        for found, wanted in zip(found_BV, cache.some_logits.values(), strict=True):
            self._require_near(found, wanted, "the suffix run behind known keys")


@dataclass
class Behind:
    """What the rows of a batch stand behind: positions that are known, with keys and values of every layer.

    keys, values: function of a layer -> [B, H, K, h] or None.
    """

    positions_BK: torch.Tensor
    keys_values: Callable[[int], tuple] | None = None

    @classmethod
    def nothing(cls, positions_BT) -> Behind:
        return cls(positions_BT[:, :0])

    def known(self, i: int) -> KnownKeys:
        return KnownKeys(*self.keys_values(i)) if self.keys_values and self.positions_BK.shape[1] else KnownKeys()


def load_subject(name: str, device: str = "cpu", dtype: str = "float32", spread: bool = False) -> Subject:
    """Load a decoder as `decoder.loading.load_model` does.  Raises UserError as that and `Subject` do."""
    return Subject(*load_model(name, dtype, spread), name, device)


class LayerCache:
    """One layer L of a subject, after which a city's vector is patched: everything that no patch changes.

    A step's shapes depend on the number of its rows alone, and `run` reads nothing back from the device: a
    CUDA graph can hold it.
    """

    def __init__(self, subject: Subject, cache: ActivationCache, layer: int):
        self.subject, self.cache, self.layer = subject, cache, layer
        self.residuals = cache.residuals[layer]
        windows = subject.structure.windows
        subject.layers.prepare_positions(int(cache.positions_RS.max()) + 1)
        seen_RK = torch.cat([cache.behind_positions(), cache.positions_RS], dim=1)
        self.end_position_R = cache.positions_RS.gather(1, cache.end_R[:, None])
        before_RK = torch.where(seen_RK < self.end_position_R, seen_RK, PADDING)
        last = subject.n_layers - 1
        self.masks = {
            window: additive_mask(cache.positions_RS, seen_RK, window, subject.dtype)
            for window in {windows[i] for i in range(layer + 1, last)}
        }
        if layer < last:
            asked_RK = torch.cat([before_RK, self.end_position_R], dim=1)
            self.last_mask = additive_mask(self.end_position_R, asked_RK, windows[last], subject.dtype)
        self.others = None
        if layer == last - 1:  # then all that a patch changes in the suffix before its end is one key and value
            with torch.no_grad():
                others = self.residuals[:, 1:].to(subject.dtype)
                self.others = subject.layers.keys_and_values(last, others, cache.positions_RS[:, 1:])

    def run(self, x_BD, row_B, form=None):
        """The residual [B, D] after the last layer at the end of these prompts, x in place of the patched position's.

        row_B: rows of the prompts, on the subject's device.  form: of products with weights, None: the model's own.
        """
        subject, cache, dtype = self.subject, self.cache, self.subject.dtype
        last = subject.n_layers - 1
        x_BSD = torch.cat([x_BD[:, None], self.residuals[row_B][:, 1:]], dim=1).to(dtype)
        batch, end_B = torch.arange(len(row_B), device=x_BD.device), cache.end_R[row_B]
        if self.layer == last:  # nothing moves between positions any more
            return x_BSD[batch, end_B]
        positions_BS = cache.positions_RS[row_B]
        for i in range(self.layer + 1, last):
            mask = self.masks[subject.structure.windows[i]][row_B]
            known = KnownKeys(*cache.behind_keys_values(i, row_B))
            x_BSD = subject.layers.run(i, x_BSD, mask, positions_BS, known, form)
        behind = cache.behind_keys_values(last, row_B)
        if self.others is None:
            new = subject.layers.keys_and_values(last, x_BSD, positions_BS, form)
            known = zip(behind, new, strict=True)
        else:
            new = subject.layers.keys_and_values(last, x_BSD[:, :1], positions_BS[:, :1], form)
            known = zip(behind, new, (o[row_B.to(o.device)] for o in self.others), strict=True)
        known = KnownKeys(*(torch.cat(parts, dim=2) for parts in known))
        asking_B1D = x_BSD[batch.to(x_BSD.device), end_B.to(x_BSD.device)][:, None]
        where = self.end_position_R[row_B]
        return subject.layers.run(last, asking_B1D, self.last_mask[row_B], where, known, form)[:, 0]
