"""SAEs of models that are not GPT-2: whose they are by their own metadata, and what they compute on a tiny Llama."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import transformers
from helpers_cli import fails, require_words

import eval_sae
import main
from data.facts import read_cities
from data.pairs import batch_of
from data.prompts import build_prompts
from featurizers.sae import Sae
from grid import profiles
from grid.layers import model_info
from grid.settings import read_settings
from masks.engines import FastEngine
from models import load_subject
from saes.loading import load_sae
from saes.names import can_be_same

sae_lens = pytest.importorskip("sae_lens")

D, N, LAYERS, LAYER = 16, 40, 4, 1


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("theirs", "asked", "fits"),
    [
        ("gpt2-small", "openai-community/gpt2", True),
        ("gpt2", "openai-community/gpt2", True),
        ("openai-community/gpt2", "gpt2", True),
        ("gpt2-medium", "openai-community/gpt2", False),
        ("pythia-160m", "openai-community/gpt2", False),
        ("gpt2-medium", "openai-community/gpt2-medium", True),
        ("toy", "toy", True),
        ("gpt2-small", "toy", True),  # the toy world is a GPT-2
        ("pythia-160m", "toy", False),
        ("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped", True),
        ("EleutherAI/pythia-19m-deduped", "EleutherAI/pythia-70m-deduped", True),  # before sizes were counted anew
        ("pythia-70m", "EleutherAI/pythia-70m-deduped", False),
        ("pythia-1.3b-v0", "EleutherAI/pythia-1.4b-v0", True),
        ("gemma-2-2b", "google/gemma-2-2b", True),
        ("gemma-2-2b", "google/gemma-2-2b-it", False),
        ("gemma-2-9b", "google/gemma-2-2b", False),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3.1-8B", True),
        ("Llama-2-7b", "meta-llama/Llama-2-7b-hf", True),
        ("llama-2-7b-chat", "meta-llama/Llama-2-7b-hf", False),
        ("qwen3-0.6b", "Qwen/Qwen3-0.6B", True),
        ("mistral-7b", "mistralai/Mistral-7B-v0.1", True),
        ("tiny-stories-1M", "roneneldan/TinyStories-1M", True),
        ("gpt-neo-small", "EleutherAI/gpt-neo-125M", True),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2", True),
        ("smollm2-135m", "smollm2", False),
    ],
)
def test_can_be_same(theirs, asked, fits):
    assert can_be_same(theirs, asked) == fits
    assert can_be_same(asked, theirs) == fits or "toy" in (theirs, asked)


# ---------------------------------------------------------------- a tiny Llama


@pytest.fixture
def llama(tmp_path, toy_world) -> Path:
    """A checkpoint with random weights, the toy world's tokenizer, and no word of which model it is."""
    sizes = {"hidden_size": D, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=157, num_key_value_heads=1, bos_token_id=0, eos_token_id=0, **sizes)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.save_pretrained(tmp_path / "llama")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(toy_world / name, tmp_path / "llama")
    return tmp_path / "llama"


def name_it(folder: Path, name: str) -> None:
    """As save_pretrained of older versions of transformers noted where a model was from."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": name}))


@pytest.fixture
def write(tmp_path):
    """Function that writes an SAE as SAELens does: (method name, library object)."""

    def write(model: str | None, hook: str = f"blocks.{LAYER}.hook_resid_post", d_in: int = D, **kwargs):
        about = {"model_name": model, "hook_name": hook, "model_from_pretrained_kwargs": kwargs}
        metadata = sae_lens.saes.sae.SAEMetadata(**about)
        library = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=d_in, d_sae=N, k=6, metadata=metadata))
        generator = torch.Generator().manual_seed(1)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            for parameter in library.parameters():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            library.save_model(tmp_path / "own")
        return f"sae:{tmp_path / 'own'}", library

    return write


@pytest.fixture
def flags(toy_world, llama) -> tuple:
    how = ("--prompt", "bare", "--unfiltered", "--mode", "strict", "--epochs", "1", "--max-pairs", "24")
    rest = ("--device", "cpu", "--cities", toy_world / "cities.csv", "--targets", "country")
    return ("--model", llama, *how, *rest)


def run(*argv) -> int:
    return main.main([*map(str, argv)])


def test_sae_of_a_model_that_does_not_say_its_name(write, llama, flags, tmp_path, capsys):
    """It is let through with a note; width and layer decide."""
    name, _ = write("gemma-2-2b")
    assert run(*flags, "--methods", "neuron", name, "--output", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert f"note: {name} was trained on gemma-2-2b; {llama} does not say which model it is" in err
    (file,) = (tmp_path / "out").rglob(f"sae:*/layer0{LAYER}-seed0.json")
    result = json.loads(file.read_text())
    assert (result["n_features"], result["sae"]["k"]) == (N, 6)
    assert result["baselines"]["reconstruction"] is not None


def test_sae_of_the_named_model(write, llama, flags, tmp_path, capsys):
    name_it(llama, "EleutherAI/pythia-70m-deduped")
    name, _ = write("pythia-70m-deduped")
    assert run(*flags, "--methods", name, "--output", tmp_path / "out") == 0
    assert "does not say which model" not in capsys.readouterr().err
    table = ["--check", "--model", str(llama), "--methods", name, *map(str, flags[2:5]), *map(str, flags[11:15])]
    assert eval_sae.main(table) == 0
    assert f" {LAYER} " in capsys.readouterr().out


def test_sae_of_another_model_than_the_named_one(write, llama, flags, tmp_path, capsys):
    name_it(llama, "EleutherAI/pythia-70m-deduped")
    name, _ = write("gemma-2-2b")
    line = fails(capsys, tmp_path / "out", *flags, "--methods", name)
    require_words(line, [name, "trained on gemma-2-2b", f"not on {llama} (EleutherAI/pythia-70m-deduped)", "--model"])


@pytest.mark.parametrize("told", ["./runs/7", "/home/me/model", "", 7, None])
def test_a_name_in_config_json_that_is_no_models(write, llama, flags, tmp_path, capsys, told):
    """A path of another machine says nothing."""
    name_it(llama, told)
    name, _ = write("gemma-2-2b")
    assert run(*flags, "--methods", name, "--dry-run", "--output", tmp_path / "out") == 0
    assert "does not say which model it is" in capsys.readouterr().err


def test_sae_without_a_model_name(write, flags, tmp_path, capsys):
    name, _ = write(None)
    assert run(*flags, "--methods", name, "--dry-run", "--output", tmp_path / "out") == 0
    assert "does not say which model it is" not in capsys.readouterr().err


def test_sae_of_another_width_or_depth(write, flags, tmp_path, capsys):
    name, _ = write("gemma-2-2b", d_in=12)
    line = fails(capsys, tmp_path / "out", *flags, "--methods", name)
    require_words(line, ["width 12", "16 wide"])
    name, _ = write("gemma-2-2b", hook="model.layers.20")
    line = fails(capsys, tmp_path / "out", *flags, "--methods", name)
    require_words(line, [name, "layer 20", "0 to 3"])


def test_smollm2_is_known_by_its_published_name(write, llama, tmp_path, capsys, monkeypatch):
    """Wherever it lies: what ./setup.sh smollm2 made has a file that says what it is."""
    shutil.copytree(llama, tmp_path / "saved" / "smollm2")
    (tmp_path / "saved" / "smollm2" / profiles.ORIGIN).write_text('{"note": "rounded"}')
    monkeypatch.setattr(profiles, "SAVED", tmp_path / "saved")
    name, _ = write("HuggingFaceTB/SmolLM2-135M-Instruct")
    argv = ("--methods", name, "--layers", LAYER, "--dry-run", "--output", tmp_path / "out")
    assert run("--model", "smollm2", *argv) == 0
    assert run("--model", tmp_path / "saved" / "smollm2", *argv) == 0
    name, _ = write("gpt2-small")
    line = fails(capsys, tmp_path / "out", "--model", "smollm2", *argv[:-2])
    require_words(line, ["trained on gpt2-small", "not on smollm2"])


def test_model_info_of_hub_ids_without_a_network():
    settings = read_settings(["--dry-run"])
    assert (model_info(settings).name, model_info(settings).has_published) == ("openai-community/gpt2", True)


@pytest.mark.parametrize("hook", [f"blocks.{LAYER}.hook_resid_post", f"model.layers.{LAYER}"])
def test_patched_logits_equal_hooks_with_the_library(write, llama, toy_world, hook):
    """Two plain passes of the model, the library's own encode and decode, a random mask over the latents."""
    name, library = write("toy", hook)
    subject = load_subject(str(llama))
    prompts = build_prompts(read_cities(toy_world / "cities.csv"), subject.tokenizer, "bare")
    cache = subject.harvest(prompts, [LAYER], progress=False)
    sae = load_sae(name, name.removeprefix("sae:"), LAYER, False, subject.d_model)
    engine = FastEngine(subject, cache, LAYER, Sae(sae))
    pairs = batch_of([(0, 50, "cause"), (3, 90, "isolation"), (7, 7, "cause")], prompts, "country")
    mask = torch.rand(N, generator=torch.Generator().manual_seed(2))
    alive = engine.bound.alive
    found = engine.logits(pairs, mask if alive is None else mask[alive])
    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    for i, (base, source) in enumerate(zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)):
        wanted = by_hooks(model, prompts.rows[base], prompts.rows[source], library, mask)
        torch.testing.assert_close(found[i], wanted, rtol=1e-4, atol=1e-4)


def by_hooks(model, base, source, library, mask):
    seen = []

    def keep(module, args, output):
        seen.append(output[0, source.at])

    def patch(module, args, output):
        z_base, z_source = library.encode(output[0, base.at]), library.encode(seen[0])
        output = output.clone()
        output[0, base.at] = library.decode(z_base + mask * (z_source - z_base))
        return output

    with torch.no_grad():
        for prompt, hook in ((source, keep), (base, patch)):
            handle = model.model.layers[LAYER].register_forward_hook(hook)
            logits = model(torch.tensor([prompt.tokens])).logits[0, -1]
            handle.remove()
    return logits
