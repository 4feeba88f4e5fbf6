"""A model that cannot be used is told in one line, with exit code 2, and nothing is written."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from helpers_cli import error_line, fails, finish, require_words, start
from safetensors.torch import load_file, save_file

from data.facts import read_cities
from data.pairs import batch_of
from data.prompts import build_prompts
from decoder.loading import load_model
from featurizers.neuron import Neuron
from grid import profiles
from main import main
from masks.engines import FastEngine
from models import load_subject


@pytest.fixture
def output(tmp_path) -> Path:
    """An output folder that does not exist yet."""
    return tmp_path / "results"


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture
def checkpoint(tmp_path, toy_world):
    """Function that writes a tiny GPT-2 with random weights and the toy world's tokenizer; returns its folder."""

    def write(**changes) -> Path:
        settings = {"vocab_size": 157, "n_positions": 64, "n_layer": 12, "n_embd": 16, "n_head": 2}
        config = transformers.GPT2Config(**settings | changes, bos_token_id=0, eos_token_id=0)
        folder = tmp_path / "checkpoint"
        transformers.GPT2LMHeadModel(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(toy_world / name, folder)
        return folder

    return write


def save_decoder(config, folder: Path) -> None:
    """A model of this kind with random weights, in place of the checkpoint's own."""
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def model_fails(capsys, output, model, *more) -> str:
    how = ("--methods", "none", "--prompt", "bare", "--device", "cpu")
    return fails(capsys, output, "--model", model, *how, *(more or ("--layers", "0")))


def test_a_good_checkpoint_gets_as_far_as_its_facts(capsys, output, toy_world, checkpoint):
    """So the damage, and not the checkpoint, is what the tests below see.  Random weights know no fact."""
    folder = checkpoint()
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, [folder, "both facts of 0 of the 120 cities", "cities.csv", "--cities", "--unfiltered"])


def test_family_without_this_layer(capsys, output, tmp_path, checkpoint):
    """It is told from what was published, before a file is looked for; other layers are fine."""
    folder = checkpoint()
    how = ("--methods", "neuron", "apollo-e2e", "--layers", "1", "2", "--saes", tmp_path / "absent")
    line = fails(capsys, output, "--model", folder, *how)
    require_words(line, ["apollo-e2e", "layer 2", "1, 5, 9", "--layers all"])


def test_all_layers_leave_out_those_that_a_family_lacks(capsys, output, checkpoint):
    argv = ["--model", str(checkpoint()), "--methods", "neuron", "apollo-e2e", "--targets", "country", "--dry-run"]
    assert main([*argv, "--output", str(output)]) == 0
    plan = capsys.readouterr().out.splitlines()
    layers = {line.split()[0]: line.split()[2:-2] for line in plan if " layers " in line}
    assert layers == {"neuron": ["0-11"], "apollo-e2e": ["1", "5", "9"]}
    assert not output.exists()


def test_published_saes_are_gpt2s_alone(capsys, output, tmp_path, checkpoint):
    """Another model of as many layers gets what needs no SAE, and SAEs whose files are there."""
    folder = checkpoint()
    save_decoder(transformers.LlamaConfig(**SMALL | {"num_hidden_layers": 12}, intermediate_size=16), folder)
    argv = ["--model", str(folder), "--methods", "all", "--targets", "country", "--dry-run", "--output", str(output)]
    (tmp_path / "saes" / "openai").mkdir(parents=True)
    (tmp_path / "saes" / "openai" / "3.pt").touch()
    own = dict.fromkeys(("none", "full", "neuron", "das"), "0-11")
    for saes, more in (("absent", {}), ("saes", {"openai": "3"})):
        assert main([*argv, "--saes", str(tmp_path / saes)]) == 0
        plan = capsys.readouterr().out
        layers = {line.split()[0]: line.split()[2] for line in plan.splitlines() if " layers " in line}
        assert layers == own | more
        assert "missing" not in plan


def test_family_without_any_layer(capsys, output, tmp_path, checkpoint):
    """Nothing was published for a model of this depth, and nothing lies in the folder."""
    how = ("--methods", "apollo-e2e", "--layers", "all", "--saes", tmp_path / "absent")
    require_words(model_fails(capsys, output, checkpoint(n_layer=2), *how), ["grid is empty", "SAE", "--dry-run"])


def test_layer_out_of_the_range_of_a_checkpoint(capsys, output, checkpoint):
    folder = checkpoint(n_layer=2)
    require_words(model_fails(capsys, output, folder, "--layers", "2"), ["layer 2", "out of range", folder, "0 to 1"])


ENCODERS = {
    "bert": transformers.BertConfig,
    "roberta": transformers.RobertaConfig,
    "t5": transformers.T5Config,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_model_that_is_no_causal_decoder(capsys, output, checkpoint, name):
    """Encoders and an encoder-decoder; BERT and RoBERTa have heads for causal language models all the same."""
    folder = checkpoint()
    ENCODERS[name]().save_pretrained(folder)
    line = model_fails(capsys, output, folder)
    require_words(line, [folder, f"is a {name} model", "no causal decoder", "openai-community/gpt2"])


SMALL = {"vocab_size": 157, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION |= {"image_size": 32, "patch_size": 16, "projection_dim": 16}
ODD = {
    # config -> what the error names
    "two stacks of layers": (
        lambda: transformers.GitConfig(**SMALL, intermediate_size=16, vision_config=VISION),
        ["cannot tell the layers", "2 layers", "git.encoder.layer", "git.image_encoder.vision_model.encoder.layers"],
    ),
    "unknown arguments": (
        lambda: transformers.BloomConfig(vocab_size=157, hidden_size=16, n_layer=2, n_head=2),
        ["gives its layers an argument that is not understood", "alibi"],
    ),
    "no attention": (
        lambda: transformers.MambaConfig(vocab_size=157, hidden_size=16, num_hidden_layers=2),
        ["layer 0", "linear_attention", "full and sliding attention"],
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_model_whose_layers_cannot_be_used(capsys, output, toy_world, checkpoint, case):
    config, words = ODD[case]
    folder = checkpoint()
    save_decoder(config(), folder)
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, [folder, *words, "use another --model"])


REMOTE = {"AutoConfig": "remote.Config", "AutoModelForCausalLM": "remote.Model"}


@pytest.fixture
def remote_code(checkpoint, tmp_path) -> tuple[Path, Path]:
    """A checkpoint with a file of code that makes a marker when it runs: (folder, marker)."""
    folder, marker = checkpoint(), tmp_path / "marker"
    (folder / "remote.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["remote.Tokenizer", "remote.Tokenizer"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder, marker


def test_remote_code_is_not_run(capsys, output, remote_code):
    folder, marker = remote_code
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt17", "auto_map": REMOTE}))
    line = model_fails(capsys, output, folder)
    require_words(line, [folder, "wants code of its own to be run", "not done here"])
    assert not marker.exists()


def test_remote_code_of_a_known_architecture_is_passed_over(capsys, output, toy_world, remote_code):
    """transformers' own GPT-2 is used; random weights know no fact."""
    folder, marker = remote_code
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": REMOTE}))
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, ["both facts of 0 of the 120 cities"])
    assert not marker.exists()


def test_an_architecture_that_nobody_knows(capsys, output, checkpoint):
    folder = checkpoint()
    (folder / "config.json").write_text('{"model_type": "gpt17"}')
    require_words(model_fails(capsys, output, folder), ["cannot load the model", folder, "gpt17"])


def test_scaled_attention_runs_and_equals_hooks(output, toy_world, checkpoint):
    """scale_attn_by_inverse_layer_idx: the model's own layers know of it."""
    folder, cities = checkpoint(n_layer=4, scale_attn_by_inverse_layer_idx=True), toy_world / "cities.csv"
    enlarge(folder)
    flags = ("--methods", "neuron", "--layers", "1", "--targets", "country", "--prompt", "bare", "--unfiltered")
    more = ("--epochs", "1", "--max-pairs", "40", "--cities", cities, "--device", "cpu")
    assert main([*map(str, ("--model", folder, *flags, *more)), "--output", str(output)]) == 0
    assert len(list(output.rglob("layer01-seed0.json"))) == 1
    subject = load_subject(str(folder))
    prompts = build_prompts(read_cities(cities), subject.tokenizer, "bare")
    cache = subject.harvest(prompts, [1], progress=False)
    pairs = batch_of([(0, 50, "cause"), (3, 90, "isolation")], prompts, "country")
    found = FastEngine(subject, cache, 1, Neuron(16)).logits(pairs, torch.ones(16))
    for is_scaled in (True, False):
        model = load_model(str(folder))[0].eval()
        for block in model.transformer.h:
            block.attn.scaling = block.attn.scaling if is_scaled else block.attn.head_dim**-0.5
        wanted = [
            full_patch_by_hooks(model, model.transformer.h[1], prompts.rows[b], prompts.rows[s])
            for b, s in zip(pairs.base.tolist(), pairs.source.tolist(), strict=True)
        ]
        near = torch.allclose(found, torch.stack(wanted), rtol=1e-5, atol=1e-5)
        assert near == is_scaled


def enlarge(folder: Path) -> None:
    """Weights large enough for attention to matter."""
    weights = load_file(folder / "model.safetensors")
    weights = {name: 10 * tensor if tensor.ndim == 2 else tensor for name, tensor in weights.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def full_patch_by_hooks(model, layer, base, source):
    """Logits of the base prompt with the source's residual after this layer at the city."""
    seen = []
    with torch.no_grad():
        for prompt, hook in (
            (source, lambda *call: seen.append(call[2][:, source.at].clone())),
            (base, lambda *call: call[2].index_copy(1, torch.tensor([base.at]), seen[0][:, None])),
        ):
            handle = layer.register_forward_hook(hook)
            logits = model(torch.tensor([prompt.tokens])).logits[0, -1]
            handle.remove()
    return logits


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("config.json", ["has no config.json", "save_pretrained", "toy"]),
        ("model.safetensors", ["holds no weights", "model.safetensors"]),
        ("tokenizer.json", ["holds no tokenizer", "tokenizer.json"]),
    ],
)
def test_a_folder_that_lacks_a_file(capsys, output, checkpoint, file, words):
    folder = checkpoint()
    (folder / file).unlink()
    require_words(model_fails(capsys, output, folder), [folder, *words])


def test_damaged_weights(capsys, output, checkpoint):
    folder = checkpoint()
    cut_in_half(folder / "model.safetensors")
    require_words(model_fails(capsys, output, folder), ["cannot load the model", folder, "get the folder anew"])


def test_empty_weights(capsys, output, checkpoint):
    folder = checkpoint()
    (folder / "model.safetensors").write_bytes(b"")
    require_words(model_fails(capsys, output, folder), [folder, "holds no weights"])


def test_a_weight_is_missing(capsys, output, checkpoint):
    folder = checkpoint()
    weights = load_file(folder / "model.safetensors")
    del weights["transformer.h.3.mlp.c_fc.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    line = model_fails(capsys, output, folder)
    require_words(line, [folder, "lacks weights", "transformer.h.3.mlp.c_fc.weight", "get it anew"])


def test_damaged_config(capsys, output, checkpoint):
    folder = checkpoint()
    cut_in_half(folder / "config.json")
    require_words(model_fails(capsys, output, folder), ["cannot load the model", folder, "config", "JSON"])


def test_tokenizer_without_a_start_token(output, toy_world, checkpoint):
    """Then a bare prompt begins with the city."""
    folder = checkpoint(n_layer=2)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["bos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    flags = ("--methods", "none", "--layers", "0", "--prompt", "bare", "--unfiltered", "--device", "cpu")
    argv = ("--model", folder, *flags, "--cities", toy_world / "cities.csv", "--max-pairs", "8", "--output", output)
    assert main([*map(str, argv)]) == 0
    assert len(list(output.rglob("layer00-seed0.json"))) == 2


def test_tokenizer_without_offsets(capsys, output, toy_world, checkpoint):
    """One that transformers has in Python alone."""
    folder = checkpoint()
    (folder / "tokenizer.json").unlink()
    words = ["<unk>", "a</w>", "city</w>", "is</w>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CTRLTokenizer"}))
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, ["tokenizer", "CTRLTokenizer", "no offsets", "tokenizer.json"])


@pytest.fixture
def merging(checkpoint) -> Path:
    """A checkpoint whose tokenizer has 'Lyon is' as one token."""
    folder = checkpoint(n_layer=2)
    special = {"bos_token": "<|endoftext|>", "unk_token": "[UNK]"}
    words = [*special.values(), "Lyon is", "is", "a", "city", "in", "the", "country", "continent", "of"]
    words += ["Kobe", "Nara", "Japan", "Asia", "France", "Europe"]
    vocabulary = {word: i for i, word in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    pattern = tokenizers.Regex(r"Lyon is|\S+")
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "removed", invert=True)
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)
    return folder


def test_cities_that_all_merge_with_a_neighbour(capsys, output, tmp_path, merging):
    path = tmp_path / "cities.csv"
    path.write_text("city,country,continent\nLyon,France,Europe\n")
    line = model_fails(capsys, output, merging, "--layers", "0", "--cities", path)
    require_words(line, ["none of the 1 cities", "1 merged with a neighbour into one token", "Lyon", "--cities"])


def test_city_that_merges_with_a_neighbour_is_left_out(capsys, output, tmp_path, merging):
    path = tmp_path / "cities.csv"
    path.write_text("city,country,continent\nKobe,Japan,Asia\nLyon,France,Europe\nNara,Japan,Asia\n")
    flags = ("--methods", "none", "--layers", "0", "--prompt", "bare", "--unfiltered", "--device", "cpu")
    argv = ("--model", merging, *flags, "--mode", "paper", "--cities", path, "--output", output)
    capsys.readouterr()
    assert main([*map(str, argv), "--split", "pairs", "--targets", "country"]) in (0, 2)
    err = capsys.readouterr().err
    assert "2 of 3 cities take part (left out: 1 merged with a neighbour into one token)" in err


def test_tokenizer_of_a_larger_model(capsys, output, toy_world, checkpoint):
    """Its tokens lie beyond the model's embedding."""
    folder = checkpoint(vocab_size=50)
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, [folder, "tokenizer"])


def test_model_too_short_for_the_prompts(capsys, output, toy_world, checkpoint):
    folder = checkpoint(n_positions=4)
    line = model_fails(capsys, output, folder, "--layers", "0", "--cities", toy_world / "cities.csv")
    require_words(line, [folder, "4 tokens"])


def test_prompts_longer_than_the_model_reads(capsys, output, toy_world, checkpoint):
    folder = checkpoint(n_positions=20)
    how = ("--methods", "none", "--prompt", "few-shot", "--layers", "0", "--cities", toy_world / "cities.csv")
    line = fails(capsys, output, "--model", folder, *how)
    require_words(line, [folder, "reads 20 tokens", "the prompts have", "--prompt bare"])


def test_spread_without_accelerate(capsys, monkeypatch, output, toy_world):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    line = fails(capsys, output, "--model", "toy", "--methods", "none", "--layers", "2", "--spread")
    require_words(line, ["optional library accelerate is not installed", "pip install accelerate==1.15.0"])


def test_smollm2_before_it_was_made(capsys, monkeypatch, output, tmp_path):
    monkeypatch.setattr(profiles, "SAVED", tmp_path)
    for more in ((), ("--dry-run",)):
        line = fails(capsys, output, "--model", "smollm2", *more)
        require_words(line, ["no SmolLM2 at", tmp_path / "smollm2", "./setup.sh smollm2"])


def test_bfloat16_runs_and_is_in_the_config(output, toy_world):
    flags = ("--model", "toy", "--methods", "neuron", "--layers", "2", "--targets", "country", "--epochs", "1")
    more = ("--max-pairs", "16", "--dtype", "bfloat16", "--device", "cpu")
    assert main([*flags, *more, "--output", str(output)]) == 0
    result = json.loads((output / "toy" / "country" / "neuron" / "layer02-seed0.json").read_text())
    assert result["config"]["dtype"] == "bfloat16"
    assert result["baselines"]["full"]["cause"] > 0.9


@pytest.mark.parametrize("name", ["absent", "../absent/model", "file.txt"])
def test_no_such_folder(capsys, output, tmp_path, name):
    (tmp_path / "file.txt").write_text("no model")
    line = model_fails(capsys, output, tmp_path / name)
    require_words(line, [tmp_path / name, "is not a folder", "hub id", "toy"])


def test_a_name_longer_than_any_file_has(capsys, output):
    require_words(model_fails(capsys, output, f"/{'x' * 300}"), ["x" * 300])


OFFLINE = ["--model toy", "local checkpoint folder", "network"]


def test_the_hub_cannot_be_reached(output, tmp_path):
    """With the hub's own client, except that it does not wait between its attempts."""
    code = "import sys, time; time.sleep = lambda seconds: None; import main; sys.exit(main.main(sys.argv[1:]))"
    hub = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": tmp_path / "cache",
        "HF_HUB_CACHE": None,
        "HF_HUB_OFFLINE": None,
        "TRANSFORMERS_OFFLINE": None,
        "NO_PROXY": "127.0.0.1",
    }
    status, out, err = finish(start("--methods", "none", "--output", output, code=code, **hub))
    assert (status, out) == (2, "")
    line = error_line(err)
    require_words(line, ["cannot get openai-community/gpt2 from the Hugging Face hub", *OFFLINE])
    assert not output.exists()


def _no_hub(monkeypatch, message: str) -> None:
    def from_pretrained(name, **options):
        raise OSError(message.format(name=name))

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", from_pretrained)


def test_the_hub_has_no_such_model(capsys, monkeypatch, output):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _no_hub(
        monkeypatch,
        "{name} is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'\n"
        "If this is a private repository, make sure to pass a token",
    )
    line = model_fails(capsys, output, "nobody/gpt2-smal")
    require_words(line, ["no model nobody/gpt2-smal", "check the name", "login", "--model toy"])


def test_the_hub_is_switched_off(capsys, monkeypatch, output):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read once, when it is loaded
    _no_hub(monkeypatch, "We couldn't connect to 'https://huggingface.co' to load the files\nCheck your connection")
    line = model_fails(capsys, output, "openai-community/gpt2")
    require_words(line, ["openai-community/gpt2", "not in the local cache", "HF_HUB_OFFLINE", *OFFLINE])
