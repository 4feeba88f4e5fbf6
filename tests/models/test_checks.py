"""The checks can fail: with one thing broken, `Subject` or `harvest` refuses the model.

A mask or a position off by one, a window that is ignored, soft-capping left out: each shows in the logits.
"""

from dataclasses import replace

import pytest
import torch
import transformers
from helpers_decoders import (
    GROUPED,
    LAYERS,
    D,
    by_hooks,
    largest_share,
    layers_of,
    random_prompts,
    randomised,
    tiny,
    tiny_subject,
)

import models
from common.errors import UserError
from decoder.activations import ActivationCache
from decoder.head import Head
from decoder.layers import PADDING, Layers
from decoder.products import InBf16, Plain, form_for
from models import Subject


def refusal(call) -> str:
    with pytest.raises(UserError, match="cannot be patched exactly") as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line and "--model" in line
    return line


def with_structure(monkeypatch, **changes) -> None:
    monkeypatch.setattr(
        models, "find_structure", lambda model, name, find=models.find_structure: replace(find(model, name), **changes)
    )


# ---------------------------------------------------------------- a model's parts


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_subject_refuses_ignored_windows(monkeypatch, name):
    tiny_subject(name)
    with_structure(monkeypatch, windows=(None,) * LAYERS)
    assert "one by one" in refusal(lambda: tiny_subject(name))


def test_subject_refuses_windows_off_by_one(monkeypatch):
    with_structure(monkeypatch, windows=(3,) * LAYERS)
    refusal(lambda: tiny_subject("mistral"))


def test_subject_refuses_forgotten_softcapping(monkeypatch):
    tiny_subject("gemma2")
    with_structure(monkeypatch, softcap=None)
    assert "one by one" in refusal(lambda: tiny_subject("gemma2"))


def test_subject_refuses_a_forgotten_scale(monkeypatch):
    model = randomised(transformers.CohereConfig(**GROUPED, logit_scale=0.25))
    with_structure(monkeypatch, scale=1.0)
    refusal(lambda: Subject(model, None, "cohere"))


def test_subject_refuses_a_forgotten_norm(monkeypatch):
    observe = Layers.observe

    def forgetful(self, n_positions):
        observe(self, n_positions)
        self.norm = torch.nn.Identity()

    monkeypatch.setattr(Layers, "observe", forgetful)
    refusal(lambda: tiny_subject("llama"))


@pytest.mark.parametrize("shift", [-1, 1])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_subject_refuses_a_mask_off_by_one(monkeypatch, name, shift):
    """Positions that see the next one, or not themselves."""
    mask = models.additive_mask
    monkeypatch.setattr(models, "additive_mask", lambda asking, *rest: mask(asking + shift, *rest))
    refusal(lambda: tiny_subject(name))


def test_subject_refuses_a_wrong_head(monkeypatch):
    logits = Head.logits
    monkeypatch.setattr(Head, "logits", lambda self, x: logits(self, x).roll(1, dims=1))
    refusal(lambda: tiny_subject("llama"))


def test_subject_refuses_numbers_that_are_none(monkeypatch):
    """NaN is no small difference."""
    monkeypatch.setattr(Head, "logits", lambda self, x: x.new_full((len(x), self.weight_VD.shape[0]), float("nan")))
    refusal(lambda: tiny_subject("llama"))


def test_subject_refuses_a_model_of_few_positions():
    with pytest.raises(UserError, match="reads 8 tokens"):
        tiny_subject("gpt2", n_positions=8)


def test_subject_of_many_weights_multiplies_them_as_they_are(monkeypatch):
    """Packed weights are two more copies; those in bf16 are asked for."""
    subject = tiny_subject("llama")
    assert subject.form() is form_for("fp32", "cpu")
    monkeypatch.setattr(models, "LARGEST_PACKED", 1000)
    assert subject.form() is Plain and subject.form("bf16") is InBf16


# ---------------------------------------------------------------- the suffix behind known keys


def change_mask(monkeypatch, asking=0, sees_padding: bool = False, ignores_window: bool = False) -> None:
    mask = models.additive_mask

    def changed(asking_BT, seen_BK, window, dtype):
        seen_BK = seen_BK.clamp_min(0) if sees_padding else seen_BK
        return mask(asking_BT + asking, seen_BK, None if ignores_window else window, dtype)

    monkeypatch.setattr(models, "additive_mask", changed)


def shift_positions(monkeypatch) -> None:
    """Of what runs in a patched pass; nothing else calls layers one by one."""
    run = Layers.run
    monkeypatch.setattr(
        Layers, "run", lambda self, i, x, mask, positions, *rest: run(self, i, x, mask, positions - 1, *rest)
    )


def hide_own_tokens(monkeypatch) -> None:
    positions = ActivationCache.behind_positions

    def without_own(self):
        found = positions(self).clone()
        found[:, self.prefix_positions.shape[1] :] = PADDING
        return found

    monkeypatch.setattr(ActivationCache, "behind_positions", without_own)


def roll_known_keys(monkeypatch) -> None:
    known = ActivationCache.behind_keys_values

    def rolled(self, i, row_B):
        keys, values = known(self, i, row_B)
        return keys.roll(1, dims=2), values

    monkeypatch.setattr(ActivationCache, "behind_keys_values", rolled)


def swap_prefixes(monkeypatch) -> None:
    known = ActivationCache.behind_keys_values

    def swapped(self, i, row_B):
        return known(replace(self, prefix_of_R=1 - self.prefix_of_R), i, row_B)

    monkeypatch.setattr(ActivationCache, "behind_keys_values", swapped)


BROKEN = {  # what is broken after a subject was built, in which models, after which layers it matters
    "sees too little": (lambda m: change_mask(m, asking=-1), ("gpt2", "llama", "gemma3"), (1, LAYERS - 2)),
    "sees what comes": (lambda m: change_mask(m, asking=1), ("gpt2", "llama", "gemma3"), (1,)),
    "sees padding": (lambda m: change_mask(m, sees_padding=True), ("gpt2", "llama"), (1, LAYERS - 2)),
    "ignores windows": (lambda m: change_mask(m, ignores_window=True), ("mistral", "gemma3"), (1, LAYERS - 2)),
    "positions": (shift_positions, ("llama", "gemma3", "neox"), (1, LAYERS - 2)),
    "own tokens": (hide_own_tokens, ("gpt2", "llama", "gemma3"), (1, LAYERS - 2)),
    "keys": (roll_known_keys, ("gpt2", "llama", "gemma3"), (1, LAYERS - 2)),
    "prefixes": (swap_prefixes, ("gpt2", "llama"), (1, LAYERS - 2)),
}


@pytest.mark.parametrize(
    ("what", "name", "layer"),
    [(what, name, layer) for what, (_, names, layers) in BROKEN.items() for name in names for layer in layers],
)
def test_harvest_refuses_a_suffix_that_runs_otherwise(monkeypatch, what, name, layer):
    subject, prompts = tiny_subject(name), random_prompts(0)
    subject.harvest(prompts, [layer], progress=False)
    BROKEN[what][0](monkeypatch)
    assert "behind known keys" in refusal(lambda: subject.harvest(prompts, [layer], progress=False))


# ---------------------------------------------------------------- what only a patch can show


@pytest.mark.parametrize("layer", [1, LAYERS - 2])
def test_patch_at_another_position_shows_against_hooks(layer):
    """A row patched with itself is right wherever the patch goes, so this is for tests/models/ to see."""
    model, prompts = tiny("llama"), random_prompts(0, own=(2, 3, 4))
    earlier = replace(prompts, rows=[replace(p, at=p.at - 1) for p in prompts.rows])
    subject = Subject(model, None, "llama")
    wanted = []
    with torch.no_grad():
        for base, source in zip(prompts.rows, prompts.rows[::-1], strict=True):
            patched = by_hooks(model, layers_of("llama", model), layer, base, source, torch.ones(D), torch.eye(D))
            wanted.append(patched)
        differences = []
        for given in (prompts, earlier):
            at_layer = subject.layer_cache(subject.harvest(given, [layer], progress=False), layer)
            final = at_layer.run(at_layer.residuals[:, 0].flip(0), torch.arange(len(given.rows)))
            differences.append(largest_share(subject.logits(final), torch.stack(wanted)))
    assert differences[0] < 1e-4
    assert differences[1] > 1e-2


def test_digest_covers_a_head_that_is_not_the_embedding():
    """Two checkpoints equal but for an untied lm_head."""
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    digests = []
    for _ in range(2):
        digests.append(Subject(model, None, "a").digest())
        with torch.no_grad():
            model.lm_head.weight[3, 5] += 1e-3
    assert digests[0] != digests[1]
