"""GPT-2's blocks on the last S positions of a prompt, behind a prefix that is computed once.

Of a block, only the names of Hugging Face's parts are relied on.  The attention is written out
because Hugging Face's block with a cache and no mask gives a wrong causal mask (sdpa
aligns it top-left), and because rows that share a prefix share its keys: their queries
meet them in one product, where a library's attention wants a copy for every row.

Four forms of one block, equal to rounding (tests/test_blocks.py):

  * `run_block`: all S positions in, all S out;
  * `first_block`: only the first of the S positions (the city) is new; what the others
    add to queries, keys and values is known beforehand;
  * `last_block`: only the last position is asked for;
  * `only_block`: both at once, where the patch is made before the last block.

Names of tensors end in their shape: B rows, S positions behind the prefix, Q of them that ask,
P positions of the prefix, D d_model, H heads, N rows and positions in one.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from imports import functional, torch

Prefix = list[tuple["torch.Tensor", "torch.Tensor"]]  # per block: keys and values [heads, P, head_dim]


@dataclass
class Standing:
    """Behind which prefix the rows of a batch stand.

    prefix: keys and values of every block; None: nothing stands before the rows.
    hidden: [B, P], -inf where a row does not see a position of the prefix, else 0; None: all see all of it.
    """

    prefix: Prefix | None
    hidden: torch.Tensor | None = None

    # A product with a single vector is rounded in another way for few rows than for many, and a run's result
    # would depend on what it trains beside; so where the prefix is one position, they are written as sums.

    def scores(self, i: int, query_HND):
        """Products [heads, N, P] of queries with the keys in block `i`; None without a prefix."""
        if self.prefix is None:
            return None
        keys = self.prefix[i][0]
        return (query_HND * keys).sum(-1, keepdim=True) if keys.shape[1] == 1 else query_HND @ keys.transpose(1, 2)

    def mixed(self, i: int, shares_HNP):
        """Sums [heads, N, head_dim] of the values in block `i` by these shares; 0 without a prefix."""
        if self.prefix is None:
            return 0
        values = self.prefix[i][1]
        return shares_HNP * values if values.shape[1] == 1 else shares_HNP @ values


def merged(prefixes: list[Prefix]) -> tuple[Prefix, torch.Tensor | None]:
    """All prefixes, one after the other, as one; and what a row behind each does not see of it.

    With a row of the second, [prefixes, sum of P], as `Standing.hidden` rows that stand behind
    different prefixes share one batch in any order, and a step's shapes do not depend on them.
    The products with keys that a row does not see cost less than to sort the rows.
    """
    if len(prefixes) == 1:
        return prefixes[0], None
    together = [
        tuple(torch.cat(parts, dim=1) for parts in zip(*blocks, strict=True)) for blocks in zip(*prefixes, strict=True)
    ]
    lengths = torch.tensor([prefix[0][0].shape[1] for prefix in prefixes])
    owner = torch.arange(len(prefixes)).repeat_interleave(lengths)
    is_others = owner != torch.arange(len(prefixes))[:, None]
    return together, torch.zeros(is_others.shape).masked_fill(is_others, -math.inf).to(together[0][0].device)


# ---------------------------------------------------------------- four forms of a block


def run_block(block, i: int, x_BSD, standing: Standing):
    """Block `i` of a model, from residuals [B, S, d_model] to residuals [B, S, d_model]."""
    qkv = _by_head(block.attn.c_attn(block.ln_1(x_BSD)), 3, block.attn.num_heads)
    return _finish(block, x_BSD, _attend(i, *qkv, standing))


def first_block(block, i: int, x_BD, others: Others, standing: Standing):
    """The same where only x_BD, the first position's residuals, was not known beforehand."""
    qkv = torch.cat([block.attn.c_attn(block.ln_1(x_BD))[:, None], others.qkv], dim=1)
    x_BSD = torch.cat([x_BD[:, None], others.x], dim=1)
    return _finish(block, x_BSD, _attend(i, *_by_head(qkv, 3, block.attn.num_heads), standing))


def only_block(block, i: int, x_BD, others: Others, standing: Standing):
    """`first_block` for the last position alone, [B, 1, d_model]: where no block follows."""
    heads, d_model = block.attn.num_heads, x_BD.shape[-1]
    weight, bias = block.attn.c_attn.weight[:, d_model:], block.attn.c_attn.bias[d_model:]  # of keys and values
    new = _affine(block.ln_1(x_BD), weight, bias)[:, None]
    keys_values = _by_head(torch.cat([new, others.qkv[..., d_model:]], dim=1), 2, heads)
    query = _by_head(others.qkv[:, -1:, :d_model], 1, heads)
    return _finish(block, others.x[:, -1:], _attend(i, *query, *keys_values, standing))


def last_block(block, i: int, x_BSD, standing: Standing):
    """`run_block` for the last position alone, [B, 1, d_model].

    A key's product with a query is its input's product with the query taken back through the
    keys' weights.  There is one query, so it alone goes through them, not S inputs; likewise
    the inputs' weighted sum goes through the values' weights, not each input.
    """
    (B, _, D), heads = x_BSD.shape, block.attn.num_heads
    normed = block.ln_1(x_BSD)
    weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
    W_key, W_value = weight.view(D, 3, heads, -1).unbind(1)[1:]  # [d_model, heads, head_dim]
    key_bias, value_bias = bias.view(3, heads, 1, -1).to(x_BSD.dtype)[1:]
    query = _affine(normed[:, -1], weight[:, :D], bias[:D]).view(B, heads, -1).transpose(0, 1)
    query = query * query.shape[-1] ** -0.5  # [heads, B, head_dim]
    taken_back = _times(query, W_key.permute(1, 2, 0)).transpose(0, 1)  # [B, heads, d_model]
    own = (taken_back @ normed.transpose(1, 2)).transpose(0, 1) + (query * key_bias).sum(-1, keepdim=True)
    to_prefix, to_own = _shares(standing.scores(i, query), standing.hidden, own)
    sums = (to_own.transpose(0, 1) @ normed).transpose(0, 1)  # [heads, B, d_model]: of the inputs, by their shares
    out = _times(sums, W_value.transpose(0, 1)) + to_own.sum(-1, keepdim=True) * value_bias
    out = out + standing.mixed(i, to_prefix)
    return _finish(block, x_BSD[:, -1:], out.transpose(0, 1).reshape(B, 1, D))


def _finish(block, x_BQD, mixed_BQD):
    """What a block does once its heads have attended: the output projection and the MLP, each added."""
    x_BQD = x_BQD + block.attn.c_proj(mixed_BQD)
    hidden = _activation(block.mlp.act)(block.mlp.c_fc(block.ln_2(x_BQD)))
    return x_BQD + block.mlp.c_proj(hidden)


# ---------------------------------------------------------------- what is known beforehand


@dataclass
class Others:
    """What enters a block at the positions after the first, and what c_attn makes of it."""

    x: torch.Tensor  # [B, S-1, d_model]
    qkv: torch.Tensor  # [B, S-1, 3 d_model]

    def rows(self, index) -> Others:
        return Others(self.x.index_select(0, index), self.qkv.index_select(0, index))


def others_of(block, x_BSD) -> Others:
    """Of all positions but the first of these residuals; without a block, after the last one, just those."""
    x = x_BSD[:, 1:].contiguous()
    return Others(x, x if block is None else block.attn.c_attn(block.ln_1(x)))


def keys_and_values(block, x_1PD):
    """A block's keys and values [heads, P, head_dim] of the positions [1, P, d_model] that enter it."""
    _, keys, values = _by_head(block.attn.c_attn(block.ln_1(x_1PD)), 3, block.attn.num_heads)
    return keys[:, 0].contiguous(), values[:, 0].contiguous()


# ---------------------------------------------------------------- attention


def _by_head(x_BQM, n: int, heads: int):
    """[B, Q, n d_model] -> n tensors [heads, B, Q, head_dim]."""
    B, Q, M = x_BQM.shape
    return x_BQM.view(B, Q, n, heads, M // (n * heads)).permute(2, 3, 0, 1, 4).contiguous().unbind()


def _attend(i: int, query, key, value, standing: Standing):
    """Causal attention of the last Q of S positions: [heads, B, Q, head_dim], twice [.., S, head_dim] -> [B, Q, D]."""
    H, B, Q, head_dim = query.shape
    query = query * head_dim**-0.5
    own = query @ key.transpose(2, 3)  # [heads, B, Q, S]
    if Q > 1:
        own = own + _causal(Q, key.shape[2], str(query.device))
    to_all = standing.scores(i, query.reshape(H, B * Q, head_dim))
    hidden = None if standing.hidden is None else standing.hidden[:, None]
    to_prefix, to_own = _shares(None if to_all is None else to_all.view(H, B, Q, -1), hidden, own)
    out = to_own @ value
    if to_prefix is not None:
        out = out + standing.mixed(i, to_prefix.reshape(H, B * Q, -1)).view(H, B, Q, head_dim)
    return out.permute(1, 2, 0, 3).reshape(B, Q, H * head_dim)


def _shares(to_prefix, hidden, to_own):
    """Softmax over both kinds of scores, [.., P] (or None) and [.., S]; the shares of each."""
    if to_prefix is None:
        return None, to_own.softmax(-1)
    if hidden is not None:
        to_prefix = to_prefix + hidden
    return torch.cat([to_prefix, to_own], dim=-1).softmax(-1).split([to_prefix.shape[-1], to_own.shape[-1]], dim=-1)


@functools.cache
def _causal(Q: int, S: int, device: str):
    """[Q, S]: -inf where the last Q of S positions would look ahead, else 0."""
    return torch.full((Q, S), -math.inf, device=device).triu(S - Q + 1)


# ---------------------------------------------------------------- products


def _affine(x, weight, bias):
    """x @ W + b with a part of a layer's weights, in their precision."""
    flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    return torch.addmm(bias.to(weight.dtype), flat, weight).view(*x.shape[:-1], -1).to(x.dtype)


def _times(x, weight):
    return (x.to(weight.dtype) @ weight).to(x.dtype)


def _activation(module):
    """GPT-2's gelu_new in one fused operation instead of eight; any other activation as it is."""
    if type(module).__name__ == "NewGELUActivation":
        return functools.partial(functional.gelu, approximate="tanh")
    return module
