"""The head a part at a time, against torch's cross-entropy of whole logits in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoder import head
from decoder.products import InBf16, Packed, can_pack


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(head, "PART", 7)


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(1, 5),
    tokens=st.integers(1, 30),
    width=st.integers(1, 6),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0, 1000.0]),
    reads_back=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_loss_gradient_and_best(rows, tokens, width, scale, reads_back, seed):
    """Parts of 7 tokens, the last one shorter, or one part only; logits from all equal to thousands apart."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, width, generator=generator, dtype=torch.float64) * scale).requires_grad_()
    W = torch.randn(tokens, width, generator=generator, dtype=torch.float64)
    label = torch.randint(tokens, (rows,), generator=generator)
    weight = torch.randn(rows, generator=generator, dtype=torch.float64)
    ours = head.Head(W)
    ours.reads_back = reads_back
    loss, best = ours.loss_and_best(x, label)
    (gradient,) = torch.autograd.grad((loss * weight).sum(), x)
    logits = x @ W.T
    expected = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-10)
    assert torch.equal(best, logits.argmax(-1))


def test_by_hand():
    """Logits ln 1, ln 2, ln 5: shares 1/8, 2/8, 5/8."""
    W = torch.tensor([[1.0], [2.0], [5.0]]).log()
    x = torch.ones(1, 1, requires_grad=True)
    loss, best = head.Head(W).loss_and_best(x, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item())
    mean = (2 * torch.tensor(2.0).log() + 5 * torch.tensor(5.0).log()) / 8
    assert x.grad.item() == pytest.approx((mean - torch.tensor(2.0).log()).item(), rel=1e-5)
    assert best.tolist() == [2]


@pytest.mark.parametrize("reads_back", [True, False])
def test_of_equal_logits_the_first_is_best(reads_back):
    """Also where they lie in different parts, as in argmax over all of them."""
    W = torch.zeros(20, 2)
    W[[4, 11, 19]] = 1.0
    ours = head.Head(W)
    ours.reads_back = reads_back
    _, best = ours.loss_and_best(torch.ones(1, 2), torch.tensor([0]))
    assert best.tolist() == [4]


def test_without_a_gradient_none_is_made():
    with torch.no_grad():
        loss, _ = head.Head(torch.ones(9, 2)).loss_and_best(torch.ones(1, 2), torch.tensor([0]))
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(torch.tensor(9.0).log().item())


FORMS = {
    "packed": pytest.param(Packed, 1e-5, marks=pytest.mark.skipif(not can_pack(), reason="oneDNN is not to be had")),
    "bf16": pytest.param(InBf16, 0.03),
}


@pytest.mark.parametrize(("form", "tolerance"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("seed", range(5))
def test_in_another_form(form, tolerance, seed):
    """Loss and gradient, of logits within some units of each other; the loss of a likeliest label is never negative."""
    torch.manual_seed(seed)
    x, W = torch.randn(16, 64, requires_grad=True), torch.randn(300, 64) / 8
    logits = x @ W.T
    label = torch.cat([logits[:8].argmax(-1), torch.randint(300, (8,))])
    loss, best = head.Head(W, form).loss_and_best(x, label)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    expected = torch.nn.functional.cross_entropy(logits.double(), label, reduction="none")
    (expected_gradient,) = torch.autograd.grad(expected.sum(), x)
    assert loss.min() >= 0
    assert 0 < (loss - expected).abs().max() < tolerance
    assert 0 < (gradient - expected_gradient).abs().max() < tolerance
    assert (best == logits.argmax(-1)).float().mean() > 0.9
