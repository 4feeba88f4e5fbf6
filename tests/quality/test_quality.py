"""SAE quality: the formulas by hand, and every saved score against plain forward hooks."""

import functools
import itertools
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from helpers_cli import HOME, error_line, finish, require_words, start
from helpers_saes import READERS
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import eval_sae
from common.errors import UserError
from data.facts import read_cities
from data.prompts import EXAMPLES, sentence
from quality import metrics as quality
from saes.autoencoder import SparseAutoencoder

METHODS = ("openai", "apollo-e2e", "apollo-e2e+ds", "bloom")
LAYERS = {"bare": range(6), "few-shot": (0, 2, 5)}
EVERY = {"bare": 1, "few-shot": 4}  # of the cities: few-shot prompts are seven times as long
PAPER = ("country", "continent")
AT = -8  # the city's position
NEAR = 2e-6  # of a latent's threshold: so near, rounding decides whether it fires


def evaluate(*argv) -> int:
    return eval_sae.main([str(word) for word in argv])


def rows_of(output: Path, model: str = "toy") -> dict[tuple, dict]:
    content = json.loads((output / model.replace("/", "--") / "sae-quality.json").read_text())
    return {(r["method"], r["layer"], r["attribute"], r["raw_residual"]): r for r in content["rows"]}


# ---------------------------------------------------------------- the formulas, by hand


def test_reconstruction_by_hand():
    """Vectors (3, 4) and (1, 0), reconstructed as (3, 3) and (1, 1)."""
    x, x_hat = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 3.0], [1.0, 1.0]])
    got = quality.reconstruction(x, x_hat)
    assert got["squared_error"] == pytest.approx(1.0)  # 1 and 1
    assert got["explained_variance"] == pytest.approx(1 - 1 / 5)  # the mean is (2, 2), from which both are 5 away
    assert got["cosine"] == pytest.approx((21 / (5 * math.sqrt(18)) + 1 / math.sqrt(2)) / 2)


def test_weights_say_how_often_a_vector_occurs():
    generator = torch.Generator().manual_seed(0)
    x, x_hat = (torch.randn(3, 4, generator=generator) for _ in range(2))
    index = torch.tensor([0, 1, 1, 1, 1, 2, 2])
    wanted = quality.reconstruction(x[index], x_hat[index])
    assert quality.reconstruction(x, x_hat, torch.tensor([1.0, 4.0, 2.0])) == pytest.approx(wanted, rel=1e-12)


def test_explained_variance_is_saelens_s():
    """And is not SAEBench's, which subtracts the square of the mean of x^2 in the place of |mean(x)|^2."""
    evals = pytest.importorskip("sae_lens.evals")
    generator = torch.Generator().manual_seed(0)
    x = 1 + torch.randn(40, 6, generator=generator)
    x_hat = x + 0.5 * torch.randn(40, 6, generator=generator)
    theirs = evals.ExplainedVarianceCalculator()
    for part in (slice(0, 30), slice(30, 40)):
        theirs.add_batch(sae_output=x_hat[part], hidden_acts=x[part])
    ours = quality.reconstruction(x, x_hat)["explained_variance"]
    assert ours == pytest.approx(float(theirs.compute()), abs=1e-5)
    saebench = 1 - (x - x_hat).pow(2).sum(1).mean() / (x.pow(2).sum(1).mean() - x.pow(2).mean() ** 2)
    assert ours != pytest.approx(float(saebench), abs=0.05)


def test_no_variance_to_explain():
    x = torch.ones(3, 2)
    assert quality.reconstruction(x, x)["explained_variance"] is None


def test_answers_by_hand():
    """Probabilities 1/2, 1/4, 1/4 before and 1/4, 1/2, 1/4 after; the label is 0."""
    without, after = torch.tensor([[2.0, 1.0, 1.0]]).log(), torch.tensor([[1.0, 2.0, 1.0]]).log() + 7
    got = quality.answers(after, torch.tensor([0]), without)
    assert got["accuracy"].tolist() == [0.0]
    assert got["ce_loss"].item() == pytest.approx(math.log(4))
    assert got["kl_div"].item() == pytest.approx(0.5 * math.log(2) - 0.25 * math.log(2))
    assert quality.answers(without, torch.tensor([0]), without)["kl_div"].item() == 0.0


def test_ce_loss_score():
    assert quality.ce_loss_score(without=1.0, with_sae=1.5, with_ablation=3.0) == 0.75
    assert quality.ce_loss_score(1.0, 1.0, 3.0) == 1.0
    assert quality.ce_loss_score(1.0, 3.0, 3.0) == 0.0
    assert quality.ce_loss_score(1.0, 4.0, 3.0) == -0.5  # worse than zeros
    assert quality.ce_loss_score(1.0, 1.0, 1.0) is None  # zeros cost nothing
    assert quality.ce_loss_score(1.0, 1.0, 1.00001) is None


# ---------------------------------------------------------------- every score, by plain hooks


class Judge:
    """The toy model through transformers alone: full forward passes of whole prompts, and hooks."""

    def __init__(self, folder: Path, style: str, facts: Path):
        self.folder, self.style = folder, style
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        cities = read_cities(facts)
        self.tokens, self.labels = {}, {}
        for attribute in PAPER:
            before = tokenizer.bos_token
            if style == "few-shot":
                before = " ".join(sentence(attribute, example["city"], example[attribute]) for example in EXAMPLES)
            texts = [f"{before} {city.name} is a city in the {attribute} of" for city in cities]
            self.tokens[attribute] = torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])
            firsts = [city.value(attribute).split()[0] for city in cities]
            self.labels[attribute] = torch.tensor(tokenizer.convert_tokens_to_ids(firsts))
        self.plain = functools.cache(self.run)  # the model's own are the same for every SAE
        self.ablated = functools.cache(lambda *at: self.spliced(*at, torch.zeros_like(self.plain(*at[:2])[0])))

    def run(self, attribute: str, layer: int, change=None):
        """(residuals [N, L, D] after the block, last logits [N, V]); change: residuals -> those to go on with."""
        seen = {}

        def hook(module, args, output):
            x = output[0] if isinstance(output, tuple) else output
            seen["x"] = x
            if change is None:
                return None
            x = change(x)
            return (x, *output[1:]) if isinstance(output, tuple) else x

        handle = self.model.transformer.h[layer].register_forward_hook(hook)
        try:
            with torch.no_grad():
                logits = self.model(self.tokens[attribute]).logits[:, -1]
        finally:
            handle.remove()
        return seen["x"], logits

    def spliced(self, attribute: str, layer: int, place: str, new) -> torch.Tensor:
        """Log-probabilities [N, V] of the answers after `new` [N, L, D] stands for the residuals at a place."""

        def change(x):
            x = x.clone()
            if place == "city":
                x[:, AT] = new[:, AT]
            else:
                x[:] = new
            return x

        return self.run(attribute, layer, change)[1].double().log_softmax(-1)

    def scores(self, method: str, attribute: str, layer: int, raw: bool) -> dict[str, dict]:
        """By place."""
        x = self.plain(attribute, layer)[0]
        N, L, D = x.shape
        read = READERS[method](self.folder / "saes" / method, x.reshape(N * L, D), layer, raw)
        x_hat = read.decode(read.z, torch.arange(N * L)).view(N, L, D)
        above = read.above.view(N, L, -1)
        return {place: self.score(attribute, layer, place, x_hat, above) for place in ("city", "all")}

    def score(self, attribute: str, layer: int, place: str, x_hat, above) -> dict:
        x, own = self.plain(attribute, layer)
        N, L, _ = x.shape
        spliced, ablated = self.spliced(attribute, layer, place, x_hat), self.ablated(attribute, layer, place)
        own = own.double().log_softmax(-1)
        at = slice(L + AT, L + AT + 1) if place == "city" else slice(None)
        x, x_hat, above = (t[:, at].flatten(0, 1).double() for t in (x, x_hat, above))
        error = (x - x_hat).pow(2).sum(1).mean()
        rows, labels = torch.arange(N), self.labels[attribute]
        losses = [-log_p[rows, labels].mean() for log_p in (own, spliced, ablated)]
        return {
            "squared_error": error,
            "explained_variance": 1 - error / x.var(0, correction=0).sum(),
            "cosine": ((x * x_hat).sum(1) / (x.norm(dim=1) * x_hat.norm(dim=1))).mean(),
            "l0": [(above > least).sum(1).double().mean() for least in (NEAR, -NEAR)],
            "dead_share": [1 - (above > least).any(0).double().mean() for least in (-NEAR, NEAR)],
            "accuracy": (spliced.argmax(1) == labels).double().mean(),
            "ce_loss_without_sae": losses[0],
            "ce_loss_with_sae": losses[1],
            "ce_loss_with_ablation": losses[2],
            "ce_loss_score": (losses[2] - losses[1]) / (losses[2] - losses[0]),
            "kl_div": (own.exp() * (own - spliced)).sum(1).mean(),
        }


@pytest.fixture(scope="module")
def outputs(toy_world, tmp_path_factory):
    """The folder of all scores with a kind of prompt, and its facts.

    The model does not know the facts behind a few-shot prefix.
    """

    @functools.cache
    def output(style: str) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp(style)
        header, *cities = (toy_world / "cities.csv").read_text().splitlines()
        facts = folder / "cities.csv"
        facts.write_text("\n".join([header, *cities[:: EVERY[style]]]) + "\n")
        flags = ("--prompt", "few-shot", "--unfiltered", "--facts", facts) if style == "few-shot" else ()
        flags = (*flags, "--layers", *LAYERS[style])
        assert evaluate("--model", "toy", "--output", folder, "--raw-residual", *flags) == 0
        return folder, facts

    return output


@pytest.fixture(scope="module", params=["bare", "few-shot"])
def scored(request, toy_world, outputs):
    """(scores, judge) with either kind of prompt."""
    output, facts = outputs(request.param)
    return rows_of(output), Judge(toy_world, request.param, facts)


def test_every_case_is_there_once(scored):
    rows, judge = scored
    wanted = set(itertools.product(METHODS, LAYERS[judge.style], PAPER, (False, True)))
    assert set(rows) == wanted


@pytest.mark.parametrize("method", METHODS)
def test_scores_equal_plain_hooks(scored, method):
    """To 1e-5 (of the value, where it is above 1); counts of latents to those that rounding may decide."""
    rows, judge = scored
    for layer in LAYERS[judge.style]:
        for attribute, raw in itertools.product(PAPER, (False, True)):
            row = rows[method, layer, attribute, raw]
            for place, scores in judge.scores(method, attribute, layer, raw).items():
                for name, wanted in scores.items():
                    where = f"layer {layer} {attribute} {place} raw={raw} {name}"
                    if isinstance(wanted, list):
                        lowest, highest = map(float, wanted)
                        assert lowest - 1e-9 <= row[place][name] <= highest + 1e-9, where
                        assert highest - lowest < 0.05, where  # of one latent, or a share
                        continue
                    if name == "ce_loss_score" and row[place][name] is None:
                        cost = row[place]["ce_loss_with_ablation"] - row[place]["ce_loss_without_sae"]
                        assert abs(cost) < 1.1e-4, where
                        continue
                    # Rounding of some 1e-6 is divided by what zeros cost.
                    cost = abs(row[place]["ce_loss_with_ablation"] - row[place]["ce_loss_without_sae"])
                    margin = 1e-5 / min(1.0, cost) if name == "ce_loss_score" else 1e-5
                    assert row[place][name] == pytest.approx(float(wanted), rel=margin, abs=margin), where


def test_the_toys_are_not_all_alike(scored):
    """The comparison above says something only if scores differ."""
    rows, _ = scored
    for place in ("city", "all"):
        for name in ("squared_error", "explained_variance", "cosine", "l0", "dead_share", "ce_loss_with_sae", "kl_div"):
            values = {round(row[place][name], 4) for row in rows.values()}
            assert len(values) > 10, (place, name)


def test_centring_matters_to_those_that_need_it(scored):
    rows, _ = scored
    for (method, layer, attribute, raw), row in rows.items():
        if raw:
            centred = rows[method, layer, attribute, False]
            same = row["all"]["squared_error"] == pytest.approx(centred["all"]["squared_error"], rel=1e-6)
            assert same == (method == "openai"), (method, layer)


# ---------------------------------------------------------------- known answers


def test_a_perfect_sae(toy_world, tmp_path):
    """The oracle's latents are a rotation's axes and their negatives: nothing is lost."""
    hook = "blocks.3.hook_resid_pre"
    shutil.copytree(toy_world / "saes" / "oracle" / hook, tmp_path / "saes" / "bloom" / hook)
    flags = ("--methods", "bloom", "--layers", 2, "--saes", tmp_path / "saes")
    assert evaluate("--model", "toy", *flags, "--output", tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 2
    for row in rows.values():
        for place in ("city", "all"):
            got = row[place]
            assert got["squared_error"] < 1e-8
            assert got["explained_variance"] == pytest.approx(1, abs=1e-8)
            assert got["cosine"] == pytest.approx(1, abs=1e-8)
            assert got["ce_loss_score"] == pytest.approx(1, abs=1e-6)
            assert got["kl_div"] < 1e-8
            assert got["accuracy"] == 1


def test_an_sae_of_zeros_is_the_ablation(toy_world, tmp_path):
    """Decoder and bias are 0 and nothing is centred, so that x_hat = 0."""
    hook = "blocks.2.hook_resid_pre"
    folder = tmp_path / "saes" / "bloom" / hook
    shutil.copytree(toy_world / "saes" / "bloom" / hook, folder)
    tensors = load_file(folder / "sae_weights.safetensors")
    tensors |= {name: torch.zeros_like(tensors[name]) for name in ("W_dec", "b_dec")}
    save_file(tensors, folder / "sae_weights.safetensors")
    flags = ("--methods", "bloom", "--layers", 1, "--saes", tmp_path / "saes", "--raw-residual")
    assert evaluate("--model", "toy", *flags, "--output", tmp_path / "out") == 0
    for (_, _, _, raw), row in rows_of(tmp_path / "out").items():
        for place in ("city", "all"):
            got = row[place]
            if raw:
                assert got["ce_loss_score"] == pytest.approx(0, abs=1e-6)
                # One row stands for all in the ablation, and is rounded by itself: by at most 4e-7 at every layer of
                # two toy worlds, as a layer norm makes 300 times as much of what is next to nothing.
                assert got["ce_loss_with_sae"] == pytest.approx(got["ce_loss_with_ablation"], rel=1e-6)
                assert got["cosine"] == 0
                assert got["accuracy"] < 0.5


def test_at_the_last_block_the_city_costs_nothing(scored):
    """Nothing after it reads the city's position: the model's own answers, and no score."""
    rows, _ = scored
    for method in METHODS:
        for attribute in PAPER:
            got = rows[method, 5, attribute, False]["city"]
            assert got["ce_loss_with_sae"] == got["ce_loss_without_sae"] == got["ce_loss_with_ablation"]
            assert got["ce_loss_score"] is None
            assert got["kl_div"] == 0


def test_encoding_in_chunks_leaves_no_vector_out(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(4, 6, generator=generator)
    biases = torch.zeros(6), torch.zeros(4)
    sae = SparseAutoencoder("bloom", 0, "", W, biases[0], W.T.contiguous(), biases[1], subtract_b_dec=True)
    x = torch.randn(11, 4, generator=generator)
    z = (x @ W).clamp(min=0)
    monkeypatch.setattr(quality, "CHUNK", 3)
    got = quality.encode(sae, x)
    assert torch.allclose(got.x_hat_ND, z @ W.T, atol=1e-6)
    assert got.l0_N.tolist() == (z > 0).sum(1).tolist()
    assert torch.equal(got.fires_F, (z > 0).any(0))


def test_batches_leave_no_prompt_out(toy_world, tmp_path, monkeypatch):
    flags = ("--model", "toy", "--methods", "bloom", "--layers", 0)
    assert evaluate(*flags, "--output", tmp_path / "whole") == 0
    monkeypatch.setattr(quality, "BATCH", 7)  # 120 prompts are no multiple of it
    assert evaluate(*flags, "--output", tmp_path / "parts") == 0
    whole, parts = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    for key, row in whole.items():
        for place in ("city", "all"):
            assert parts[key][place] == pytest.approx(row[place], abs=1e-5)


# ---------------------------------------------------------------- the command


def test_what_is_scored_is_not_scored_again(toy_world, tmp_path, monkeypatch, capsys):
    flags = ("--model", "toy", "--output", tmp_path)
    assert evaluate(*flags, "--methods", "bloom", "--layers", 1, 3) == 0
    file = tmp_path / "toy" / "sae-quality.json"
    first, table = json.loads(file.read_text()), capsys.readouterr().out
    scored_now = []
    real = quality.LayerQuality.score
    monkeypatch.setattr(
        quality.LayerQuality, "score", lambda self, sae: scored_now.append((sae.family, self.layer)) or real(self, sae)
    )
    assert evaluate(*flags, "--methods", "bloom", "--layers", 1, 3) == 0
    assert scored_now == []
    assert json.loads(file.read_text()) == first
    assert capsys.readouterr().out == table
    assert evaluate(*flags, "--methods", "bloom", "openai", "--layers", 1) == 0
    assert scored_now == [("openai", 1)] * 2  # of either attribute
    later = json.loads(file.read_text())["rows"]
    assert [row for row in later if row["method"] == "bloom"] == first["rows"]
    assert len(later) == 6
    assert evaluate(*flags, "--methods", "bloom", "--layers", 1, "--force") == 0
    assert scored_now[2:] == [("bloom", 1)] * 2
    assert len(json.loads(file.read_text())["rows"]) == 6


def test_an_interruption_keeps_finished_layers(toy_world, tmp_path, monkeypatch, capsys):
    real = quality.LayerQuality.score

    def interrupt(self, sae):
        if self.layer == 2:
            raise KeyboardInterrupt
        return real(self, sae)

    flags = ("--model", "toy", "--methods", "bloom", "--layers", 1, 2, "--output", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(quality.LayerQuality, "score", interrupt)
        assert evaluate(*flags) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert {key[1] for key in rows_of(tmp_path)} == {1}
    assert evaluate(*flags) == 0
    assert {key[1] for key in rows_of(tmp_path)} == {1, 2}
    assert evaluate(*flags[:-1], tmp_path / "undisturbed") == 0
    scores = [
        {key: {place: row[place] for place in ("city", "all")} for key, row in rows_of(folder).items()}
        for folder in (tmp_path, tmp_path / "undisturbed")
    ]
    assert scores[0] == scores[1]


def test_the_table_fits_a_terminal(outputs, capsys):
    output, _ = outputs("bare")
    capsys.readouterr()
    assert evaluate("--model", "toy", "--output", output, "--raw-residual") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("scores: ")) <= 80  # the path is as long as it is
    assert any("toy world" in line for line in lines)
    rows = rows_of(output)
    start_of = lines.index(next(line for line in lines if line.startswith("continent, at all positions")))
    body = [line for line in lines[start_of + 2 :] if line[14:16].strip().isdecimal()]
    shown = {(line[:14].strip(), int(line[14:16])): [float(cell) for cell in line[16:].split()] for line in body}
    row = rows["bloom", 4, "continent", False]["all"]
    assert shown["bloom", 4][0] == pytest.approx(row["squared_error"], rel=1e-3)
    assert shown["bloom", 4][1] == pytest.approx(row["explained_variance"], abs=1e-3)
    assert shown["bloom", 4][8] == pytest.approx(row["ce_loss_score"], abs=0.01)


def test_markdown_and_latex(toy_world, tmp_path, capsys):
    flags = ("--model", "toy", "--output", tmp_path, "--layers", 2)
    assert evaluate(*flags, "--markdown") == 0
    markdown = capsys.readouterr().out
    tables = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(tables) == 4 * (2 + len(METHODS))
    assert len({line.count("|") for line in tables}) == 1
    value = rows_of(tmp_path)["bloom", 2, "country", False]["city"]["explained_variance"]
    assert "| bloom | 2 | " in markdown
    assert f"| {value:.3f} |" in markdown
    assert evaluate(*flags, "--latex") == 0
    latex = capsys.readouterr().out
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {11}
    assert f"& {value:.3f} &" in latex
    with pytest.raises(UserError, match="not allowed with"):
        eval_sae.read_settings(["--latex", "--markdown"], "")


def test_dry_run_writes_nothing(tmp_path, capsys):
    assert evaluate("--dry-run", "--output", tmp_path / "out", "--saes", tmp_path) == 0
    out = capsys.readouterr().out
    assert "apollo-e2e     layers 1 5 9  (missing: 1 5 9)" in out
    assert "30 SAEs to score" in out  # 12 + 12 + 3 + 3
    assert not (tmp_path / "out").exists()


def test_help_loads_no_library():
    code = (
        "import sys, eval_sae\n"
        "try: eval_sae.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    status, out, err = finish(start(code=code))
    assert status == 0, err
    assert out.splitlines()[-1] == "set()"


BAD = {
    "no SAE": (("--methods", "neuron"), ("neuron", "openai")),
    "method": (("--methods", "bloom", "nobody"), ("nobody", "apollo-e2e+ds")),
    "layer": (("--layers", "17"), ("17", "0 to 5")),
    "no number": (("--layers", "two"), ("two", "--layers")),
    "cities": (("--cities", "/nowhere.csv"), ("/nowhere.csv",)),
    "saes": (("--saes", "/nowhere"), ("/nowhere", "openai")),
    "device": (("--device", "cuda"), ("cuda", "--device cpu")),
    "threads": (("--threads", "0"), ("--threads", "at least 1")),
    "flag": (("--targets", "country"), ("--targets", "--help")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_of_one_line(case, toy_world, tmp_path, capsys):
    if case == "device" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    flags, words = BAD[case]
    assert evaluate("--model", "toy", "--output", tmp_path / "out", *flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    require_words(error_line(err), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "another layer", "another width"])
def test_a_damaged_sae(damage, toy_world, tmp_path, capsys):
    saes = tmp_path / "saes"
    shutil.copytree(toy_world / "saes" / "bloom", saes / "bloom")
    file = saes / "bloom" / "blocks.2.hook_resid_pre" / "sae_weights.safetensors"
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "another layer":
        shutil.copy(saes / "bloom" / "blocks.4.hook_resid_pre" / "cfg.json", file.parent / "cfg.json")
    else:
        n, d = 8, 16
        shapes = {"W_enc": (d, n), "b_enc": (n,), "W_dec": (n, d), "b_dec": (d,)}
        save_file({name: torch.ones(shape) for name, shape in shapes.items()}, file)
    flags = ("--model", "toy", "--methods", "bloom", "--layers", 1, "--saes", saes)
    assert evaluate(*flags, "--output", tmp_path / "out") == 2
    require_words(error_line(capsys.readouterr().err), ("blocks.2.hook_resid_pre",))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def scored_once(toy_world, tmp_path):
    flags = ("--model", "toy", "--methods", "bloom", "--layers", 1, "--output", tmp_path)
    assert evaluate(*flags) == 0
    return flags, tmp_path / "toy" / "sae-quality.json"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": {}, "rows": [1]}', '{"config": 1, "rows": []}'])
def test_a_broken_file_of_scores(content, scored_once, capsys):
    flags, file = scored_once
    file.write_text(content)
    capsys.readouterr()
    assert evaluate(*flags) == 2
    require_words(error_line(capsys.readouterr().err), ("sae-quality.json", "--force"))
    assert file.read_text() == content
    assert evaluate(*flags, "--force") == 0
    assert len(json.loads(file.read_text())["rows"]) == 2


def test_scores_of_another_configuration(scored_once, toy_world, tmp_path, capsys):
    flags, file = scored_once
    before = file.read_bytes()
    capsys.readouterr()
    assert evaluate(*flags, "--prompt", "few-shot", "--unfiltered") == 2
    require_words(error_line(capsys.readouterr().err), ("prompt", "bare", "few-shot", "--force"))
    saes = tmp_path / "saes"
    shutil.copytree(toy_world / "saes" / "bloom", saes / "bloom")
    weights = saes / "bloom" / "blocks.2.hook_resid_pre" / "sae_weights.safetensors"
    save_file({name: t * 1.1 for name, t in load_file(weights).items()}, weights)
    assert evaluate(*flags, "--saes", saes) == 2
    require_words(error_line(capsys.readouterr().err), ("another bloom SAE of layer 1", "--force"))
    assert file.read_bytes() == before
    assert evaluate(*flags, "--saes", saes, "--force") == 0
    assert file.read_bytes() != before


def test_the_script_sets_up_and_passes_flags(toy_world, tmp_path):
    import subprocess

    words = [str(HOME / "eval_run.sh"), "--model", "toy", "--layers", "0", "--output", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "country, at the city's position: toy, 120 cities" in done.stdout
