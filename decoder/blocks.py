"""GPT-2's blocks on the last S positions of a prompt, behind a prefix that is computed once (attention.py).

Of a block, only the names of Hugging Face's parts are relied on.  Four forms of one block, equal
to rounding (tests/test_blocks.py):

  * `run_block`: all S positions in, all S out;
  * `first_block`: only the first of the S positions (the city) is new; what the others
    add to queries, keys and values is known beforehand;
  * `last_block`: only the last position is asked for;
  * `only_block`: both at once, where the patch is made before the last block.

Names of tensors end in their shape: B rows, S positions behind the prefix, Q of them that ask,
P positions of the prefix, D d_model.
"""

from __future__ import annotations

from dataclasses import dataclass

from decoder.activation import activation
from decoder.attention import Standing, attend, by_head, shares
from imports import functional, torch

# ---------------------------------------------------------------- four forms of a block


def run_block(block, i: int, x_BSD, standing: Standing):
    """Block `i` of a model, from residuals [B, S, d_model] to residuals [B, S, d_model]."""
    return _finish(block, x_BSD, attend(i, block.attn.c_attn(block.ln_1(x_BSD)), block.attn.num_heads, standing))


def first_block(block, i: int, x_BD, others: Others, standing: Standing):
    """The same where only x_BD, the first position's residuals, was not known beforehand."""
    qkv = torch.cat([block.attn.c_attn(block.ln_1(x_BD))[:, None], others.qkv], dim=1)
    x_BSD = torch.cat([x_BD[:, None], others.x], dim=1)
    return _finish(block, x_BSD, attend(i, qkv, block.attn.num_heads, standing))


def only_block(block, i: int, x_BD, others: Others, standing: Standing):
    """`first_block` for the last position alone, [B, 1, d_model]: where no block follows."""
    D = x_BD.shape[-1]
    weight, bias = block.attn.c_attn.weight[:, D:], block.attn.c_attn.bias[D:]  # of keys and values
    new = functional.pad(_affine(block.ln_1(x_BD), weight, bias), (D, 0))  # this position asks nothing
    qkv = torch.cat([new[:, None], others.qkv], dim=1)
    return _finish(block, others.x[:, -1:], attend(i, qkv, block.attn.num_heads, standing, n_asking=1))


def last_block(block, i: int, x_BSD, standing: Standing):
    """`run_block` for the last position alone, [B, 1, d_model].

    A key's product with a query is its input's product with the query taken back through the
    keys' weights.  There is one query, so it alone goes through them, not S inputs; likewise
    the inputs' weighted sum goes through the values' weights, not each input.
    """
    (B, S, D), heads = x_BSD.shape, block.attn.num_heads
    normed = block.ln_1(x_BSD)
    weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias
    W_key, W_value = weight.view(D, 3, heads, -1).unbind(1)[1:]  # [d_model, heads, head_dim]
    key_bias, value_bias = bias.view(3, heads, 1, -1).to(x_BSD.dtype)[1:]
    query = _affine(normed[:, -1], weight[:, :D], bias[:D]).view(B, heads, -1).transpose(0, 1)
    query = query * query.shape[-1] ** -0.5  # [heads, B, head_dim]
    taken_back = _times(query, W_key.permute(1, 2, 0)).transpose(0, 1)  # [B, heads, d_model]
    own = (taken_back @ normed.transpose(1, 2)).transpose(0, 1) + (query * key_bias).sum(-1, keepdim=True)
    to_own, from_prefix = [], []  # per group: [heads, its rows, S] and [heads, its rows, head_dim]
    for group in standing:
        to_prefix = group.scores(i, query[:, group.rows, None])
        share = shares(to_prefix, own[:, group.rows, None])
        to_own.append(share[:, :, 0, -S:])
        if to_prefix is not None:
            from_prefix.append(group.mixed(i, share[..., :-S])[:, :, 0])
    to_own = torch.cat(to_own, dim=1)
    sums = (to_own.transpose(0, 1) @ normed).transpose(0, 1)  # [heads, B, d_model]: of the inputs, by their shares
    out = _times(sums, W_value.transpose(0, 1)) + to_own.sum(-1, keepdim=True) * value_bias
    if from_prefix:
        out = out + torch.cat(from_prefix, dim=1)
    return _finish(block, x_BSD[:, -1:], out.transpose(0, 1).reshape(B, 1, D))


def _finish(block, x_BQD, mixed_BQD):
    """What a block does once its heads have attended: the output projection and the MLP, each added."""
    x_BQD = x_BQD + block.attn.c_proj(mixed_BQD)
    hidden = activation(block.mlp.act)(block.mlp.c_fc(block.ln_2(x_BQD)))
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
    _, keys, values = by_head(block.attn.c_attn(block.ln_1(x_1PD)), block.attn.num_heads)
    return keys[:, 0], values[:, 0]


# ---------------------------------------------------------------- products


def _affine(x, weight, bias):
    """x @ W + b with a part of a layer's weights, in their precision."""
    flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    return torch.addmm(bias.to(weight.dtype), flat, weight).view(*x.shape[:-1], -1).to(x.dtype)


def _times(x, weight):
    return (x.to(weight.dtype) @ weight).to(x.dtype)
