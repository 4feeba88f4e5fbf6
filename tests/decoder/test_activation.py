"""The activation and its slope, against torch's own in float64 and the library's module."""

from __future__ import annotations

import pytest
import torch
from transformers.activations import NewGELUActivation

from decoder import activation
from decoder.activation import gelu

AROUND = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, 1e-20, -1e-20, -100.0, 100.0, 1e4, -1e4])])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 4e-6)], ids=str)
def test_values_and_slope(dtype, tolerance):
    """Of numbers from where it is 0 to where it is x; relative to the largest of 1 and the number."""
    x = AROUND.to(dtype).requires_grad_()
    exact = AROUND.to(dtype).double().requires_grad_()
    found, wanted = gelu(x), torch.nn.functional.gelu(exact, approximate="tanh")
    towards = torch.linspace(-1, 1, len(AROUND), dtype=torch.float64)
    slopes = [torch.autograd.grad((out * towards).sum(), its)[0] for out, its in ((found, x), (wanted, exact))]
    scale = AROUND.double().abs().clamp_min(1)
    for ours, theirs in ((found, wanted), slopes):
        assert ours.dtype == dtype
        assert ((ours - theirs).abs() / scale).max() < tolerance


def test_in_parts_of_any_size(monkeypatch):
    """Shapes stay; parts that do not fill up count too."""
    torch.manual_seed(0)
    x = torch.randn(3, 5, 7, requires_grad=True)
    whole = gelu(x)
    (slope,) = torch.autograd.grad(whole.sum(), x)
    monkeypatch.setattr(activation, "AT_ONCE", 4)
    parts = gelu(x)
    assert parts.shape == (3, 5, 7)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(parts.sum(), x)[0], slope, rtol=0, atol=1e-6)


def test_of_numbers_that_do_not_lie_side_by_side():
    torch.manual_seed(0)
    x = torch.randn(4, 3, requires_grad=True)
    turned = gelu(x.T)
    torch.testing.assert_close(turned, gelu(x).T, rtol=0, atol=0)
    assert torch.equal(*(torch.autograd.grad((out * out.detach()).sum(), x)[0] for out in (turned, gelu(x))))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_without_a_gradient_the_values_are_the_same(context):
    """To the bit: masks are tested by what they were trained on."""
    torch.manual_seed(0)
    x = torch.randn(50, 70, requires_grad=True)
    with context():
        tested = gelu(x)
    assert not tested.requires_grad
    assert torch.equal(tested, gelu(x))


def test_the_way_back_can_be_taken_twice():
    x = torch.linspace(-3, 3, 9, requires_grad=True)
    out = gelu(x).sum()
    first, second = (torch.autograd.grad(out, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("learns", [True, False])
def test_it_is_what_the_model_s_own_module_computes(learns):
    own = NewGELUActivation()
    x = torch.linspace(-6, 6, 301).requires_grad_(learns)
    assert activation.activation(own) is gelu
    torch.testing.assert_close(gelu(x), own(x), rtol=0, atol=1e-6)


def test_another_activation_stays_as_it_is():
    other = torch.nn.ReLU()
    assert activation.activation(other) is other
