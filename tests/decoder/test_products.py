"""Forms of a frozen weight against float64; and that a row's result is its own."""

from __future__ import annotations

import platform

import pytest
import torch
import transformers

from decoder import products
from decoder.products import InBf16, Layer, Packed, Plain, block_in, can_pack, form_for, packed

needs_packing = pytest.mark.skipif(not can_pack(), reason="oneDNN is not to be had")
FORMS = {
    "plain": pytest.param(Plain, 2e-6),
    "packed": pytest.param(Packed, 4e-6, marks=needs_packing),
    "bf16": pytest.param(InBf16, 2e-2),
}
SHAPES = ((768, 2304), (768, 768), (3072, 768), (70, 81))  # of GPT-2 small's weights, and an odd one


@pytest.mark.parametrize(("form", "tolerance"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradient(form, tolerance, shape):
    """Relative to the largest; with a bias, rows in two axes, and not contiguous."""
    torch.manual_seed(0)
    weight, bias = torch.randn(shape), torch.randn(shape[1])
    x = torch.randn(3, shape[0], 5).transpose(1, 2).requires_grad_()
    towards = torch.randn(3, 5, shape[1])
    out = Layer(form(weight), bias)(x)
    (gradient,) = torch.autograd.grad((out * towards).sum(), x)
    expected = x.double() @ weight.double() + bias
    expected_gradient = towards.double() @ weight.double().T
    for ours, wanted in ((out, expected), (gradient, expected_gradient)):
        assert ours.dtype == torch.float32
        assert ours.shape == wanted.shape
        assert 0 < (ours - wanted).abs().max() / wanted.abs().max() < tolerance


@pytest.mark.parametrize("form", [Plain, pytest.param(Packed, marks=needs_packing)])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_a_row_does_not_depend_on_the_others(form, shape):
    """To the bit, either way: what trains beside a run does not change it.  16 rows at least, as in a batch."""
    torch.manual_seed(1)
    matrix, bias = form(torch.randn(shape)), torch.randn(shape[1])
    x, grad = torch.randn(1024, shape[0]), torch.randn(1024, shape[1])
    out, back = matrix.times(x, bias), matrix.back(grad)
    for rows in (slice(16), slice(16, 32), slice(64), slice(1, 121), slice(128), slice(384), slice(512, 1024)):
        assert torch.equal(matrix.times(x[rows], bias), out[rows])
        assert torch.equal(matrix.back(grad[rows]), back[rows])


@needs_packing
def test_only_large_weights_are_packed():
    assert type(packed(torch.zeros(512, 512))) is Packed
    assert type(packed(torch.zeros(511, 512))) is Plain


@needs_packing
def test_a_direction_is_laid_out_when_it_is_first_used():
    """A model that is only tested takes no memory for gradients."""
    matrix = Packed(torch.randn(64, 32))
    matrix.times(torch.randn(4, 64))
    assert "_forth" in vars(matrix)
    assert "_back" not in vars(matrix)


def block(width: int):
    config = transformers.GPT2Config(n_embd=width, n_head=2, n_layer=1, vocab_size=11)
    return transformers.GPT2LMHeadModel(config).eval().requires_grad_(False).transformer.h[0]


def test_small_layers_stay_the_model_s_own():
    small = block(16)
    found = block_in(small, packed)
    assert found.attn.c_attn is small.attn.c_attn
    assert found.mlp.c_proj is small.mlp.c_proj


def test_a_layer_in_another_form_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    own = block(16)
    before = {name: weight.clone() for name, weight in own.named_parameters()}
    found = block_in(own, InBf16)
    assert found.mlp.c_fc.weight.dtype == torch.bfloat16
    assert found.ln_1 is own.ln_1
    assert all(torch.equal(weight, before[name]) for name, weight in own.named_parameters())


@pytest.mark.parametrize("lacks", ["processor", "library", "operator"])
def test_where_packing_is_not_to_be_had_the_model_s_own_layers_serve(monkeypatch, lacks):
    products.can_pack.cache_clear()
    try:
        if lacks == "processor":
            monkeypatch.setattr(platform, "machine", lambda: "arm64")
        elif lacks == "library":
            monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        else:
            monkeypatch.setattr(torch.ops, "mkldnn", object())
        assert form_for("fp32", "cpu") is Plain
        assert form_for("bf16", "cpu") is InBf16
    finally:
        products.can_pack.cache_clear()


def test_packing_is_for_fp32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(products, "can_pack", lambda: True)
    assert form_for("fp32", "cpu") is packed
    for precision, device in (("fp32", "cuda"), ("tf32", "cuda"), ("fp32", "mps")):
        assert form_for(precision, device) is Plain
    assert form_for("bf16", "cuda") is InBf16
