"""The head a part at a time, against torch's cross-entropy of whole logits in float64."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoder import head
from decoder.head import Head
from decoder.products import InBf16, Packed, Plain, can_pack


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """7 words in a part."""
    monkeypatch.setattr(head, "PART", 7)


def make_head(W, bias=None, scale: float = 1.0, softcap: float | None = None, form=Plain) -> Head:
    """Of what decoder/structure.py tells of a model, the four things that a head reads."""
    return Head(SimpleNamespace(head=SimpleNamespace(weight=W, bias=bias), scale=scale, softcap=softcap), form)


def expected(x, W, label, bias=None, scale: float = 1.0, softcap: float | None = None, weight=None):
    """Losses, gradient of their weighted sum, and logits, all words at once in float64."""
    x = x.detach().double().requires_grad_()
    logits = scale * (x @ W.double().T + (0 if bias is None else bias.double()))
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    loss = torch.nn.functional.cross_entropy(logits, label, reduction="none")
    (gradient,) = torch.autograd.grad((loss * (1 if weight is None else weight.double())).sum(), x)
    return loss.detach(), gradient, logits.detach()


def require_near(found, wanted, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert float((found.double() - wanted).abs().max()) <= tolerance  # False of NaN too


def eighths(*shape, generator, most: int = 16):
    """Random multiples of 1/8: their products and sums are exact in fp32."""
    return torch.randint(-most, most + 1, shape, generator=generator) / 8


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 5),
    words=st.integers(1, 30),
    width=st.integers(1, 6),
    size=st.sampled_from([0, 0.125, 1, 16, 512]),
    has_bias=st.booleans(),
    scale=st.sampled_from([1.0, 0.0625, 4.0]),
    softcap=st.sampled_from([None, 0.5, 30.0]),
    seed=st.integers(0, 1000),
)
def test_head_equals_whole_logits_in_float64(rows, words, width, size, has_bias, scale, softcap, seed):
    """Loss, gradient and best; several parts, the last one shorter, or one; logits all equal to thousands apart."""
    generator = torch.Generator().manual_seed(seed)
    x = (eighths(rows, width, generator=generator) * size).requires_grad_()
    W = eighths(words, width, generator=generator)
    bias = eighths(words, generator=generator) if has_bias else None
    label = torch.randint(words, (rows,), generator=generator)
    weight = torch.rand(rows, generator=generator)
    ours = make_head(W, bias, scale, softcap)
    assert len(ours.parts) == -(-words // 7)
    loss, best = ours.loss_and_best(x, label)
    (gradient,) = torch.autograd.grad((loss * weight).sum(), x)
    wanted, wanted_gradient, logits = expected(x, W, label, bias, scale, softcap, weight)
    largest = max(1.0, float(logits.abs().max()))
    require_near(loss.detach(), wanted, 5e-7 * largest)
    require_near(ours.logits(x).detach(), logits, 5e-7 * largest)
    require_near(gradient, wanted_gradient, 2e-5 * scale)
    if softcap is None:  # logits are exact, so the first of equal ones is the same
        assert torch.equal(best, logits.argmax(-1))
    else:
        require_near(logits[range(rows), best], logits.max(dim=1).values, 5e-7 * largest)


@pytest.mark.parametrize("softcap", [None, 2e4])
def test_head_with_logits_of_ten_thousand_is_finite(softcap):
    """The largest comes in the last part, then in the first: what was summed before is scaled down, and kept."""
    W = torch.linspace(-1, 1, 30)[:, None]
    x = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    for label in ([29, 0], [0, 29], [14, 14]):
        label = torch.tensor(label)
        loss, best = make_head(W, softcap=softcap).loss_and_best(x, label)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        wanted, wanted_gradient, _ = expected(x, W, label, softcap=softcap)
        assert best.tolist() == [29, 0]
        require_near(loss.detach(), wanted, 0.01)
        require_near(gradient, wanted_gradient, 1e-5)
    assert wanted.max() > 1000


def test_head_by_hand():
    """Logits ln 1, ln 2, ln 5: shares 1/8, 2/8, 5/8."""
    W = torch.tensor([[1.0], [2.0], [5.0]]).log()
    x = torch.ones(1, 1, requires_grad=True)
    loss, best = make_head(W).loss_and_best(x, torch.tensor([1]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item())
    mean = (2 * torch.tensor(2.0).log() + 5 * torch.tensor(5.0).log()) / 8
    assert x.grad.item() == pytest.approx((mean - torch.tensor(2.0).log()).item(), rel=1e-5)
    assert best.tolist() == [2]


def test_head_soft_capping_by_hand():
    """scale 2 and cap 3: logits 3 tanh(2 z / 3) of z = 0 and 3 atanh(1/3) / 2 are 0 and 1, and the slope there 16/9."""
    z = 1.5 * torch.atanh(torch.tensor(1 / 3))
    x = torch.ones(1, 1, requires_grad=True)
    ours = make_head(torch.stack([torch.tensor([0.0]), z[None]]), scale=2.0, softcap=3.0)
    loss, best = ours.loss_and_best(x, torch.tensor([0]))
    loss.sum().backward()
    assert ours.logits(x)[0].tolist() == pytest.approx([0, 1])
    assert loss.item() == pytest.approx(torch.tensor(1 + torch.e).log().item())
    share = torch.e / (1 + torch.e)
    assert x.grad.item() == pytest.approx(share * 16 / 9 * z.item(), rel=1e-5)
    assert best.tolist() == [1]


def test_head_best_of_equal_logits_is_the_first():
    """Also where they lie in different parts, as in argmax over all of them."""
    W = torch.zeros(20, 2)
    W[[4, 11, 19]] = 1.0
    _, best = make_head(W).loss_and_best(torch.ones(1, 2), torch.tensor([0]))
    assert best.tolist() == [4]


def test_head_makes_no_gradient_where_none_is_asked_for():
    products = []

    class Counted(Plain):
        def back(self, grad_RN):
            products.append(grad_RN)
            return super().back(grad_RN)

    ours = make_head(torch.ones(9, 2), form=Counted)
    loss, _ = ours.loss_and_best(torch.ones(1, 2), torch.tensor([0]))
    assert not loss.requires_grad and not products
    assert loss.item() == pytest.approx(torch.tensor(9.0).log().item())
    ours.loss_and_best(torch.ones(1, 2, requires_grad=True), torch.tensor([0]))
    assert len(products) == 2


FORMS = {
    "packed": pytest.param(Packed, 1e-5, marks=pytest.mark.skipif(not can_pack(), reason="oneDNN is not to be had")),
    "bf16": pytest.param(InBf16, 0.03),
}


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("form", "tolerance"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_head_in_another_form_of_products(form, tolerance, seed, has_bias, softcap):
    """Loss and gradient, of logits within some units of each other; the loss of a likeliest label is never negative."""
    torch.manual_seed(seed)
    x, W = torch.randn(16, 64, requires_grad=True), torch.randn(300, 64) / 8
    bias = torch.randn(300) if has_bias else None
    ours = make_head(W, bias, softcap=softcap, form=form)
    likeliest = make_head(W, bias, softcap=softcap).logits(x).argmax(-1)
    label = torch.cat([likeliest[:8], torch.randint(300, (8,))])
    loss, best = ours.loss_and_best(x, label)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    wanted, wanted_gradient, _ = expected(x, W, label, bias, softcap=softcap)
    assert loss.min() >= 0
    assert 0 < (loss - wanted).abs().max() < tolerance
    assert 0 < (gradient - wanted_gradient).abs().max() < tolerance
    assert (best == likeliest).float().mean() > 0.9
