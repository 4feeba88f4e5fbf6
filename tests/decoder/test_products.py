"""Forms of a frozen weight against float64; and that a row's result is its own."""

import platform

import pytest
import torch
import transformers
from helpers_decoders import layers_of, tiny

from decoder import products
from decoder.products import InBf16, Packed, Plain, Product, can_pack, form_for, packed, with_products

needs_packing = pytest.mark.skipif(not can_pack(), reason="oneDNN is not to be had")
FORMS = {
    "plain": pytest.param(Plain, 2e-6),
    "packed": pytest.param(Packed, 4e-6, marks=needs_packing),
    "bf16": pytest.param(InBf16, 2e-2),
}
SHAPES = ((768, 2304), (768, 768), (3072, 768), (70, 81))  # of GPT-2 small's weights, and an odd one


@pytest.mark.parametrize(("form", "tolerance"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_product_equals_float64_in_value_and_gradient(form, tolerance, shape):
    """Relative to the largest; with a bias, rows in two axes, and not contiguous."""
    torch.manual_seed(0)
    weight, bias = torch.randn(shape), torch.randn(shape[1])
    x = torch.randn(3, shape[0], 5).transpose(1, 2).requires_grad_()
    towards = torch.randn(3, 5, shape[1])
    out = Product(form(weight), bias)(x)
    (gradient,) = torch.autograd.grad((out * towards).sum(), x)
    expected = x.double() @ weight.double() + bias
    expected_gradient = towards.double() @ weight.double().T
    for ours, wanted in ((out, expected), (gradient, expected_gradient)):
        assert ours.dtype == torch.float32
        assert ours.shape == wanted.shape
        assert 0 < (ours - wanted).abs().max() / wanted.abs().max() < tolerance


@pytest.mark.parametrize("form", [Plain, pytest.param(Packed, marks=needs_packing)])
@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_product_of_a_row_does_not_depend_on_the_others(form, shape):
    """To the bit, either way: what trains beside a run does not change it.  16 rows at least, as in a batch."""
    torch.manual_seed(1)
    matrix, bias = form(torch.randn(shape)), torch.randn(shape[1])
    x, grad = torch.randn(1024, shape[0]), torch.randn(1024, shape[1])
    out, back = matrix.times(x, bias), matrix.back(grad)
    for rows in (slice(16), slice(16, 32), slice(64), slice(1, 121), slice(128), slice(384), slice(512, 1024)):
        assert torch.equal(matrix.times(x[rows], bias), out[rows])
        assert torch.equal(matrix.back(grad[rows]), back[rows])


@needs_packing
def test_packed_takes_only_large_weights():
    assert type(packed(torch.zeros(512, 512))) is Packed
    assert type(packed(torch.zeros(511, 512))) is Plain


@needs_packing
def test_packed_lays_a_direction_out_on_first_use():
    """A model that is only tested takes no memory for gradients."""
    matrix = Packed(torch.randn(64, 32))
    matrix.times(torch.randn(4, 64))
    assert "_forth" in vars(matrix)
    assert "_back" not in vars(matrix)


LINEARS = {  # of a layer: GPT-2's are Conv1D with bias, Llama's Linear without one
    "gpt2": (transformers.pytorch_utils.Conv1D, ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    "llama": (
        torch.nn.Linear,
        (
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
        ),
    ),
}


def layer_of(name: str):
    return layers_of(name, tiny(name)).requires_grad_(False)[0]


@pytest.mark.parametrize("name", LINEARS)
def test_with_products_takes_every_linear_map_and_nothing_else(name):
    kind, paths = LINEARS[name]
    own = layer_of(name)
    found = with_products(own, InBf16)
    assert {path for path, module in found.named_modules() if isinstance(module, Product)} == set(paths)
    assert {path for path, module in own.named_modules() if type(module) is kind} == set(paths)
    for path in paths:
        ours, theirs = found.get_submodule(path), own.get_submodule(path)
        weight_KN = theirs.weight if name == "gpt2" else theirs.weight.T
        assert torch.equal(ours.matrix.weight, weight_KN.to(torch.bfloat16))
        assert ours.bias_N is theirs.bias


@pytest.mark.parametrize("name", LINEARS)
def test_with_products_leaves_the_model_as_it_was(name):
    """And shares with it all that is not a linear map: parameters, and the config, which a caller may change."""
    own = layer_of(name)
    before = {path: weight.clone() for path, weight in own.state_dict().items()}
    modules = dict(own.named_modules())
    found = with_products(own, InBf16)
    assert dict(own.named_modules()) == modules
    assert all(torch.equal(weight, before[path]) for path, weight in own.state_dict().items())
    shared = dict(own.named_parameters())
    assert found is not own
    assert all(weight is shared[path.replace("bias_N", "bias")] for path, weight in found.named_parameters())
    configs = {id(module.config) for module in found.modules() if hasattr(module, "config")}
    assert configs == {id(module.config) for module in own.modules() if hasattr(module, "config")}


def test_with_products_keeps_small_maps_and_with_plain_all():
    own = layer_of("llama")
    assert with_products(own, Plain) is own
    assert not [module for module in with_products(own, packed).modules() if isinstance(module, Product)]


@pytest.mark.parametrize("lacks", ["processor", "library", "operator"])
def test_form_for_a_machine_without_packing_is_plain(monkeypatch, lacks):
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


def test_form_for_packs_fp32_on_a_cpu_only(monkeypatch):
    monkeypatch.setattr(products, "can_pack", lambda: True)
    assert form_for("fp32", "cpu") is packed
    for precision, device in (("fp32", "cuda"), ("tf32", "cuda"), ("fp32", "mps")):
        assert form_for(precision, device) is Plain
    assert form_for("bf16", "cuda") is InBf16
