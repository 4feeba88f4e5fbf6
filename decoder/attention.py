"""Causal attention of a prompt's last S positions, behind a prefix that is computed once.

Written out because Hugging Face's block with a cache and no mask gives a wrong causal mask (sdpa
aligns it top-left), and because rows that share a prefix share its keys: their queries
meet them in one product, where a library's attention wants a copy for every row.  So is the way
back, which reads the shares and vectors that the way there has made anyway.

Names of tensors end in their shape: B rows, S positions behind the prefix, Q of them that ask,
P positions of the prefix, D d_model, H heads.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from imports import functional, torch

Prefix = list[tuple["torch.Tensor", "torch.Tensor"]]  # per block: keys and values [heads, P, head_dim]
ENOUGH = 8, 400  # vectors, and multiplications of a head: smaller products are rounded in another way


@dataclass
class Group:
    """Neighbouring rows of a batch, and what stands before them.

    prefix: keys and values of every block; None: nothing stands before them.
    hidden: [B, P], -inf where one of these rows does not see a position of the prefix, else 0; None: all see all.
    """

    rows: slice
    prefix: Prefix | None
    hidden: torch.Tensor | None = None

    def scores(self, i: int, query_HBQK):
        """Products [heads, B, Q, P] of queries with the keys in block `i`; None without a prefix."""
        if self.prefix is None:
            return None
        found = _each(query_HBQK, self.prefix[i][0].transpose(1, 2))
        return found if self.hidden is None else found + self.hidden[:, None]

    def mixed(self, i: int, shares_HBQP):
        """Sums [heads, B, Q, head_dim] of the values in block `i` by these shares."""
        return _each(shares_HBQP, self.prefix[i][1])


Standing = list[Group]  # of all rows, one group after the other


def behind(prefix: Prefix | None) -> Standing:
    """All rows stand behind one prefix, or behind nothing."""
    return [Group(slice(None), prefix)]


def grouped(prefixes: list[Prefix], counts: list[int]) -> Standing:
    """So many rows stand behind the first prefix, then so many behind the second, and so on."""
    standing, start = [], 0
    for prefix, n in zip(prefixes, counts, strict=True):
        if n:
            standing.append(Group(slice(start, start + n), prefix))
        start += n
    return standing


def merged(prefixes: list[Prefix]) -> tuple[Prefix, torch.Tensor | None]:
    """All prefixes, one after the other, as one; and what a row behind each does not see of it.

    With a row of the second, [prefixes, sum of P], as `Group.hidden` rows that stand behind
    different prefixes share one group in any order, and a step's shapes do not depend on them.
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


def attend(i: int, qkv_BSM, heads: int, standing: Standing, n_asking: int | None = None):
    """What the heads of block `i` mix for the last `n_asking` positions (all): [B, S, 3 d_model] -> [B, Q, d_model].

    Differentiable in qkv: queries, keys and values as c_attn makes them.
    """
    return _attention().apply(qkv_BSM, i, heads, standing, n_asking or qkv_BSM.shape[1])


def shares(to_prefix, to_own):
    """Softmax over both kinds of scores, [.., P] (or None) and [.., S], together: [.., P + S]."""
    return (to_own if to_prefix is None else torch.cat([to_prefix, to_own], dim=-1)).softmax(-1)


@functools.cache
def _attention():
    # Defined on first use, as its base class would load torch when this file is imported.
    class Attention(torch.autograd.Function):
        @staticmethod
        def forward(ctx, qkv_BSM, i, heads, standing, Q):
            B, _, M = qkv_BSM.shape
            out_BQD = qkv_BSM.new_empty(B, Q, M // 3)
            kept = []
            for group in standing:
                query, keys, values = by_head(qkv_BSM[group.rows], heads, Q)
                query = query * query.shape[-1] ** -0.5  # not in place: of a single vector it may be a view
                own = _pairwise(query, keys.transpose(2, 3)).add_(_causal(Q, keys.shape[2], str(query.device)))
                share = shares(group.scores(i, query), own)
                n_before = share.shape[-1] - own.shape[-1]
                mixed = _pairwise(share[..., n_before:], values)
                if n_before:
                    mixed += group.mixed(i, share[..., :n_before])
                _heads_of(out_BQD[group.rows], heads).copy_(mixed)
                kept += [query, keys, values, share]
            ctx.save_for_backward(*kept)
            ctx.about = i, heads, standing, (B, qkv_BSM.shape[1], M)
            return out_BQD

        @staticmethod
        def backward(ctx, grad_BQD):
            i, heads, standing, shape = ctx.about
            Q, D = grad_BQD.shape[1:]
            grad_BSM = grad_BQD.new_empty(shape)
            grad_BSM[:, : shape[1] - Q, :D].zero_()  # these positions' queries asked nothing
            for j, group in enumerate(standing):
                query, keys, values, share = ctx.saved_tensors[4 * j : 4 * j + 4]
                grad = _heads_of(grad_BQD[group.rows], heads).contiguous()
                to_share = _pairwise(grad, values.transpose(2, 3))
                n_before = share.shape[-1] - to_share.shape[-1]
                if n_before:
                    before_keys, before_values = group.prefix[i]
                    to_share = torch.cat([_each(grad, before_values.transpose(1, 2)), to_share], dim=-1)
                to_score = to_share.sub_((to_share * share).sum(-1, keepdim=True)).mul_(share)
                own, own_share = to_score[..., n_before:], share[..., n_before:]
                to_query = _pairwise(own, keys)
                if n_before:
                    to_query += _each(to_score[..., :n_before], before_keys)
                part = grad_BSM[group.rows]
                _heads_of(part[:, -Q:, :D], heads).copy_(to_query.mul_(query.shape[-1] ** -0.5))
                _heads_of(part[..., D : 2 * D], heads).copy_(_pairwise(own.transpose(2, 3), query))
                _heads_of(part[..., 2 * D :], heads).copy_(_pairwise(own_share.transpose(2, 3), grad))
            return grad_BSM, None, None, None, None

    return Attention


@functools.cache
def _causal(Q: int, S: int, device: str):
    """[Q, S]: -inf where the last Q of S positions would look ahead, else 0."""
    return torch.full((Q, S), -math.inf, device=device).triu(S - Q + 1)


# ---------------------------------------------------------------- shapes and products


def _heads_of(x_BQD, heads: int):
    """A view of [B, Q, d_model] as [heads, B, Q, head_dim]."""
    return x_BQD.unflatten(-1, (heads, -1)).permute(2, 0, 1, 3)


def by_head(qkv_BSM, heads: int, Q: int | None = None):
    """The last Q positions' (all) queries [heads, B, Q, head_dim], and all keys and values [heads, B, S, head_dim]."""
    query, keys, values = qkv_BSM.chunk(3, dim=-1)
    return [_heads_of(x, heads).contiguous() for x in (query if Q is None else query[:, -Q:], keys, values)]


def _pairwise(x_HBQK, y_HBKN):
    """Each row's own product, [heads, B, Q, N]."""
    return (x_HBQK.flatten(0, 1) @ y_HBKN.flatten(0, 1)).view(*x_HBQK.shape[:3], -1)


def _each(x_HBQK, y_HKN):
    """The products of all rows' vectors with what they share, [heads, B, Q, N]."""
    x_HNK = x_HBQK.flatten(1, 2)
    n, (K, N) = x_HNK.shape[1], y_HKN.shape[1:]
    enough = max(ENOUGH[0], -(-ENOUGH[1] // (K * N)))  # else a run's result would depend on what it trains beside
    if n < enough:
        x_HNK = functional.pad(x_HNK, (0, 0, 0, enough - n))
    return (x_HNK @ y_HKN)[:, :n].view(*x_HBQK.shape[:3], -1)
