"""Faults put into the fast path, one at a time: the self-check must find each, and nothing where there is none."""

import dataclasses

import pytest
import torch
from helpers_decoders import V, random_prompts, randomised, tiny_subject

import models
from common.errors import UserError
from decoder import products
from decoder.head import Head
from decoder.layers import Layers
from featurizers.neuron import Neuron
from featurizers.rotation import NormBound, series
from masks import stepping
from masks.engines import FastEngine
from masks.stepping import Steps
from models import Subject
from verify import steps as compared_steps
from verify.check import Ways, self_check
from verify.sample import Sample

LAYERS = [0, 1, 3]  # of five: the first, a middle one, the last but one


def sample_of(subject: Subject, precision: str = "fp32") -> Sample:
    return Sample.of(subject, random_prompts(seed=0), "fast", precision)


# ---------------------------------------------------------------- the faults


def mask_off_by_one(patch, _):
    """A token sees the one behind it."""
    plain = models.additive_mask
    patch.setattr(models, "additive_mask", lambda asking, *rest: plain(asking + 1, *rest))


def blind_to_itself(patch, _):
    plain = models.additive_mask
    patch.setattr(models, "additive_mask", lambda asking, *rest: plain(asking - 1, *rest))


def position_off_by_one(patch, _):
    plain = Layers.run
    patch.setattr(Layers, "run", lambda self, i, x, mask, at, *rest: plain(self, i, x, mask, at - 1, *rest))


def window_left_out(patch, sample):
    sample.subject._layer_cache = None
    patch.setattr(sample.subject, "structure", dataclasses.replace(sample.subject.structure, windows=[None] * 5))


def softcap_left_out(patch, _):
    patch.setattr(Head, "capped", lambda _, z: (z, 1))


def prefix_of_the_other_attribute(patch, sample):
    patch.setattr(sample.cache, "prefix_of_R", 1 - sample.cache.prefix_of_R)


def own_tokens_of_the_wrong_city(patch, sample):
    """All but the last token of a city's name."""
    patch.setattr(sample.cache, "own_index_RO", sample.cache.own_index_RO.roll(1, 0))


def answer_one_position_early(patch, sample):
    patch.setattr(sample.cache, "end_R", sample.cache.end_R - 1)


def norm_in_bfloat16(patch, sample):
    norm = sample.subject.layers.norm
    patch.setattr(sample.subject.layers, "norm", lambda x: norm(x.bfloat16().float()).bfloat16().float())


def words_left_out(patch, sample):
    sample.subject._heads.clear()
    plain = Head.__init__

    def shorter(head, *args):
        plain(head, *args)
        head.parts = [type(part)(part.weight[:, : V // 2]) for part in head.parts]

    patch.setattr(Head, "__init__", shorter)


def gradient_of_the_head_too_large(patch, _):
    patch.setattr(Head, "by_slope", staticmethod(lambda weight, _: weight.mul_(1.01)))


def base_and_source_exchanged(patch, _):
    plain = Neuron.freeze

    def freeze(self, x_RD):
        bound = plain(self, x_RD)
        return dataclasses.replace(bound, patch=lambda base, source, mask: bound.patch(source, base, mask))

    patch.setattr(Neuron, "freeze", freeze)


def series_too_short(patch, _):
    patch.setattr(NormBound, "of", lambda self, _: series(0.8, *self.kind))


def mask_of_another_run(patch, _):
    plain = FastEngine.batched_loss

    def mixed(engines, base, source, label, masks, precision):
        return plain(engines, base, source, label, masks[:1] * len(masks), precision)

    patch.setattr(FastEngine, "batched_loss", staticmethod(mixed))


def temperature_too_high(patch, _):
    plain = stepping.soft_mask
    patch.setattr(stepping, "soft_mask", lambda theta, temperature: plain(theta, 1.1 * temperature))


def learning_rate_too_high(patch, _):
    plain = compared_steps.adam
    patch.setattr(compared_steps, "adam", lambda runs, lr, device: plain(runs, 1.05 * lr, device))


def product_that_lies(patch, _):
    """A device on which products over several prompts at once are .01 too large."""
    plain = torch.nn.functional.linear
    patch.setattr(torch.nn.functional, "linear", lambda x, *rest: plain(x, *rest) + 0.01 * (len(x) > 1))


FAULTS = {
    mask_off_by_one: "llama",
    blind_to_itself: "gpt2",
    position_off_by_one: "llama",
    window_left_out: "mistral",
    softcap_left_out: "gemma2",
    prefix_of_the_other_attribute: "qwen3",
    own_tokens_of_the_wrong_city: "neox",
    answer_one_position_early: "gpt2",
    norm_in_bfloat16: "olmo2",
    words_left_out: "gpt2",
    gradient_of_the_head_too_large: "phi3",
    base_and_source_exchanged: "gpt2",
    series_too_short: "gpt2",
    mask_of_another_run: "gpt2",
    temperature_too_high: "llama",
    learning_rate_too_high: "gpt2",
    product_that_lies: "llama",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_is_found(fault, monkeypatch):
    sample = sample_of(tiny_subject(FAULTS[fault]))
    fault(monkeypatch, sample)
    with pytest.raises(UserError, match="the self-check failed: the fast engine is not exact for"):
        self_check(sample)


@pytest.mark.parametrize("name", sorted(set(FAULTS.values())))
def test_nothing_is_found_where_there_is_no_fault(name):
    """Measured: answers at most 6e-6 of a limit of 1e-4, steps at most 2e-4 of 1e-2."""
    found = self_check(sample_of(tiny_subject(name)))
    assert found.ways == Ways()
    assert found.layers == LAYERS
    assert set(found.figures) == {
        *("logits", "loss", "gradient of theta", "gradient of rotation", "three steps", "joint")
    }
    assert all(10 * found.figures[what] < found.limits[what] for what in found.figures)


# ---------------------------------------------------------------- ways that are left out


def test_packed_products_that_lie_are_left_out(monkeypatch, capsys):
    """Then all is right again, without them."""
    from transformers import GPT2Config

    sizes = {"n_embd": 512, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": V}
    model = randomised(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None))
    for weight in model.parameters():
        weight.data /= 4  # as wide as this, larger weights would make rounding grow from layer to layer
    subject = Subject(model, None, "wide")
    plain = products.Packed._linear
    monkeypatch.setattr(products.Packed, "_linear", staticmethod(lambda *args: plain(*args) + 0.01))
    found = self_check(sample_of(subject))
    assert found.ways == Ways(packed=False)
    assert subject.form() is products.Plain
    err = capsys.readouterr().err
    assert err.startswith("note: products are computed as torch does, as the fast way is wrong here (differences are ")
    assert err.count("\n") == 1


class StaleGraph(Steps):
    """Replays the batch that it was captured with."""

    warm_up = 3

    def _take(self, n):
        for _ in range(n):
            self.step()
            if n > 1:
                self.clock -= 1


class BrokenGraph(StaleGraph):
    def _take(self, n):
        if n > 1:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
        super()._take(n)


class SoundGraph(Steps):
    warm_up = 3


@pytest.mark.parametrize(("kind", "is_used"), [(StaleGraph, False), (BrokenGraph, False), (SoundGraph, True)])
def test_graph_that_replays_the_wrong_steps_is_left_out(kind, is_used, monkeypatch, capsys):
    monkeypatch.setattr(compared_steps, "can_graph", lambda *_: True)
    monkeypatch.setattr(compared_steps, "GraphedSteps", kind)
    found = self_check(sample_of(tiny_subject("gpt2")))
    assert found.ways == Ways(graphed=is_used)
    assert ("graph" in found.figures) == is_used
    assert ("note: steps are taken one by one" in capsys.readouterr().err) == (not is_used)


def test_runs_that_disturb_each_other_are_trained_alone(monkeypatch, capsys):
    plain = FastEngine.batched_loss

    def disturbed(engines, base, source, label, masks, precision):
        if len(engines) == 3:
            label = label.roll(1, 0)
        return plain(engines, base, source, label, masks, precision)

    monkeypatch.setattr(FastEngine, "batched_loss", staticmethod(disturbed))
    found = self_check(sample_of(tiny_subject("gpt2")))
    assert found.ways == Ways(joint=False)
    assert "note: each run is trained alone" in capsys.readouterr().err


# ---------------------------------------------------------------- dtypes and engines


def test_bfloat16_has_a_wider_limit_which_a_fault_still_passes(monkeypatch):
    """Weights in bfloat16, and products in it: rounding passes, base and source exchanged do not."""
    half = Subject(tiny_subject("llama").model.to(torch.bfloat16), None, "llama")
    for sample in (sample_of(half), sample_of(tiny_subject("llama"), "bf16")):
        assert self_check(sample).ways == Ways()
        with monkeypatch.context() as patch:
            base_and_source_exchanged(patch, sample)
            with pytest.raises(UserError, match="not exact"):
                self_check(sample)
