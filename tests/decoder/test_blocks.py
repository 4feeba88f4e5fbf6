"""Four forms of a GPT-2 block behind a frozen prefix, against Hugging Face's own block on whole sequences."""

from __future__ import annotations

import pytest
import torch
import transformers

from decoder.attention import Group, behind, grouped, merged
from decoder.blocks import Others, first_block, keys_and_values, last_block, only_block, others_of, run_block
from decoder.products import InBf16, block_in

S, D = 5, 24
LENGTHS = (3, 7)  # of the prefixes
OWNERS = {"merged": [0, 1, 1, 0, 1], "grouped": [0, 1, 1, 1, 1]}  # which one a row stands behind


class World:
    """One random block in float64, two prefixes, five rows, and what the library makes of the whole sequences.

    kind: rows in any order behind both prefixes merged, or sorted by theirs, the first by itself.
    """

    def __init__(self, seed: int, kind: str = "merged"):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            n_embd=D, n_head=3, n_layer=1, n_positions=32, vocab_size=11, attn_implementation="eager"
        )
        self.block = transformers.GPT2LMHeadModel(config).double().eval().requires_grad_(False).transformer.h[0]
        for weight in self.block.parameters():  # far from the small values and zero biases it begins with
            weight.add_(torch.randn_like(weight) * 0.3)
        self.before = [torch.randn(1, P, D, dtype=torch.float64) for P in LENGTHS]
        self.kind, self.owner = kind, torch.tensor(OWNERS[kind])
        self.x_BSD = torch.randn(len(self.owner), S, D, dtype=torch.float64)
        self.standing = self.stand()

    def stand(self, owner=None):
        """The rows where they stand; owner: where they do not."""
        prefixes = [[keys_and_values(self.block, x)] for x in self.before]
        owner = self.owner if owner is None else owner
        if self.kind == "grouped":
            return grouped(prefixes, owner.bincount(minlength=len(prefixes)).tolist())
        prefix, hidden = merged(prefixes)
        return [Group(slice(None), prefix, hidden[owner])]

    def expected(self, x_BSD):
        """[B, S, D]: row by row, behind its own prefix alone."""
        rows = []
        for x_SD, owner in zip(x_BSD, self.owner.tolist(), strict=True):
            whole = torch.cat([self.before[owner], x_SD[None]], dim=1)
            n = whole.shape[1]
            mask = torch.full((1, 1, n, n), -1e300, dtype=torch.float64).triu(1)
            out = self.block(whole, attention_mask=mask)
            rows.append((out[0] if isinstance(out, tuple) else out).view(n, D)[-S:])
        return torch.stack(rows)


@pytest.fixture(params=[(seed, kind) for kind in OWNERS for seed in (0, 1, 2)], ids=str)
def world(request):
    return World(*request.param)


FORMS = {
    "run": lambda w, x: run_block(w.block, 0, x, w.standing),
    "first": lambda w, x: first_block(w.block, 0, x[:, 0], others_of(w.block, w.x_BSD), w.standing),
    "last": lambda w, x: last_block(w.block, 0, x, w.standing),
    "only": lambda w, x: only_block(w.block, 0, x[:, 0], others_of(w.block, w.x_BSD), w.standing),
}


@pytest.mark.parametrize("form", FORMS)
def test_values_and_gradient(world, form):
    """Of what enters at the first position; to float64's rounding."""
    results = []
    for compute in (lambda w, x: w.expected(x), FORMS[form]):
        x0 = world.x_BSD[:, :1].clone().requires_grad_()
        out = compute(world, torch.cat([x0, world.x_BSD[:, 1:]], dim=1))
        if form in ("last", "only"):
            out = out[:, -1:]
        weight = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
        results.append((out.detach(), torch.autograd.grad((out * weight).sum(), x0)[0]))
    (expected, expected_gradient), (found, gradient) = results
    assert found.shape == expected.shape
    assert expected_gradient.abs().max() > 0.01  # there is something to compare
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)
    torch.testing.assert_close(gradient, expected_gradient, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", ["run", "last"])
def test_without_a_prefix(world, form):
    world.before = [x[:, :0] for x in world.before]
    world.standing = behind(None)
    found = FORMS[form](world, world.x_BSD)
    torch.testing.assert_close(found[:, -1], world.expected(world.x_BSD)[:, -1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_where_rows_stand_matters(world, form):
    """Behind the other prefix, or all of both, the answers are others: the tests above could see a mistake."""
    right = FORMS[form](world, world.x_BSD)
    wrong = [world.stand(1 - world.owner)]
    if world.kind == "merged":
        wrong.append([Group(slice(None), world.standing[0].prefix)])
    for world.standing in wrong:
        assert (FORMS[form](world, world.x_BSD) - right).abs().amax(dim=(1, 2)).max() > 0.01


def test_a_prefix_that_no_row_stands_behind_makes_no_group(world):
    prefixes = [[keys_and_values(world.block, x)] for x in world.before]
    (group,) = grouped(prefixes, [0, 5])
    assert group.rows == slice(0, 5)
    assert group.prefix is prefixes[1]


def test_one_prefix_needs_no_mask(world):
    prefix = [keys_and_values(world.block, world.before[0])]
    assert merged([prefix]) == (prefix, None)


def test_rows_of_what_is_known():
    others = Others(torch.arange(6.0).view(3, 1, 2), torch.arange(18.0).view(3, 1, 6))
    some = others.rows(torch.tensor([2, 0, 2]))
    assert some.x[:, 0, 0].tolist() == [4, 0, 4]
    assert some.qkv[:, 0, 0].tolist() == [12, 0, 12]


@pytest.mark.parametrize("form", FORMS)
def test_bf16_products_keep_residuals_in_fp32(form):
    """Off by bf16's 8 bits, no more and no less; and the residual that goes by is not rounded at all."""
    world = World(0)
    world.block.float()
    world.x_BSD, world.before = world.x_BSD.float(), [x.float() for x in world.before]
    world.standing = world.stand()
    exact = FORMS[form](world, world.x_BSD)
    world.block = low = block_in(world.block, InBf16)
    rounded = FORMS[form](world, world.x_BSD)
    assert rounded.dtype == torch.float32
    assert 1e-4 < (rounded - exact).abs().max() / exact.abs().max() < 3e-2
    for layer in (low.attn.c_proj, low.mlp.c_proj):  # what a block adds is nothing
        layer.weight.zero_()
        layer.bias.zero_()
    out = FORMS[form](world, world.x_BSD)
    assert torch.equal(out, world.x_BSD[:, -out.shape[1] :])
