"""Results written by hand, as main.py and eval_sae.py would write them."""

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from grid.profiles import TOY_NOTICE

N = 1600  # test pairs of a kind: every score of a test is a multiple of 1 / N

SCORES = ("cause", "isolation", "disentangle")
N_FEATURES = {"none": 64, "full": 64, "neuron": 64, "das": 64}


def three(cause: float, isolation: float) -> dict:
    cause, isolation = round(cause * N) / N, round(isolation * N) / N
    return dict(zip(SCORES, (cause, isolation, (cause + isolation) / 2), strict=True))


def result(target: str, method: str, layer: int, seed: int = 0, hard=(0.5, 0.5), soft=(0.25, 0.75), **changes) -> dict:
    """hard, soft: (cause, isolation) on the test pairs; changes: keys of the result to replace."""
    intervals = {name: [0.125, 0.875] for name in SCORES}
    test = {
        mask: {**three(*scores), "n_cause": N, "n_isolation": N, "interval95": intervals}
        for mask, scores in (("soft", soft), ("hard", hard))
    }
    is_sae = method not in N_FEATURES
    is_trained = method not in ("none", "full") and not changes.get("last_block")
    content = {
        **{"target": target, "method": method, "layer": layer, "seed": seed},
        **{"model": "toy", "mode": "strict", "split": "cities"},
        "notice": TOY_NOTICE if changes.get("model", "toy") == "toy" else None,
        "config": {"format": 3, "n_cities": 30, "epochs": 2, "lr": 0.003 if is_trained else None}
        | {"one_token": False, "dtype": "float32", "attention": "sdpa"},
        "n_features": N_FEATURES.get(method, 256),
        "n_selected": 0 if method == "none" else 10 + layer,
        "l0": 8.0 if is_sae else None,
        "last_block": False,
        **dict.fromkeys(("train", "validation", "test"), test),
        "interval_unit": "country",
        "baselines": {
            "none": three(0.0, 1.0),
            "full": three(1.0, 0.0625),
            "reconstruction": three(0.0625, 0.5) if is_sae else None,
        },
        "history": [
            {"epoch": 1, "loss": 2.0, "accuracy": 0.25, "temperature": 0.5},
            {"epoch": 2, "loss": 1.0, "accuracy": 0.75, "temperature": 0.1},
        ]
        * is_trained,
        "pairs": f"pairs-strict-cities-seed{seed}.json",
        "seconds": 1.5,
        **{"versions": {"python": "3.11.7", "torch": "2.13.0"}, "commit": "0123abc", "device": "cpu"},
    }
    return {**content, **changes}


def named_pairs(seed: int) -> dict:
    """A pair file: 30 cities in 15 countries, test pairs that go round them; another seed begins elsewhere."""
    facts = {f"city {i}": {"country": f"country {i // 2}", "continent": f"continent {i // 10}"} for i in range(30)}
    test = [
        [f"city {(i + seed) % 30}", f"city {(i + 1 + i // 30 % 29 + seed) % 30}", kind]
        for kind in ("cause", "isolation")
        for i in range(N)
    ]
    return {"train": [], "validation": [], "test": test, "facts": facts}


@functools.cache
def pair_file(seed: int) -> tuple[str, str]:
    """(text, digest) of those pairs."""
    pairs = named_pairs(seed)
    return json.dumps(pairs), fingerprint(pairs)


def fingerprint(content: dict) -> str:
    content = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def outcomes(scores: dict) -> np.ndarray:
    """[2 N] bool with these scores: right answers lie as evenly among the pairs of a kind as they can."""
    counts = [round(scores[kind] * N) for kind in ("cause", "isolation")]
    return np.concatenate([np.diff(np.arange(N + 1) * k // N) > 0 for k in counts])


def write(root: Path, content: dict, folder: str | None = None, **more) -> Path:
    """Put a result where main.py would, whole, with its tensors and its pairs; root: --output.

    folder: of the model, if not the one of its name; more: tensors beside its outcomes, or instead of its theta.
    """
    name = f"layer{content['layer']:02d}-seed{content['seed']}.json"
    target = root / (folder or content["model"].replace("/", "--")) / content["target"]
    path = target / content["method"].replace("/", "--") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs, pairs_digest = pair_file(content["seed"])
    (target / content["pairs"]).write_text(pairs)
    content = {**content, "config": {**content["config"], "pairs_digest": pairs_digest}}
    scores = {**content["test"], **content["baselines"]}
    tensors = {f"outcome_{name}": outcomes(three) for name, three in scores.items() if three}
    tensors = {"theta": np.zeros(content["n_features"], np.float32), **tensors, **more}
    save_file(tensors, path.with_suffix(".safetensors"))
    digest = hashlib.sha256(path.with_suffix(".safetensors").read_bytes()).hexdigest()[:16]
    content["tensors_digest"] = digest
    path.write_text(json.dumps({**content, "digest": fingerprint(content)}))
    return path


def small_grid(root: Path, seeds=(0,), **changes) -> Path:
    """Two targets, four methods, layers 0 to 2, the last of them the last block; apollo-e2e at layer 1 only."""
    for target in ("country", "continent"):
        for layer in range(3):
            for method in ("none", "neuron", "das", "openai", "apollo-e2e"):
                for seed in seeds:
                    if method == "apollo-e2e" and layer != 1:
                        continue
                    scores = {
                        "none": (0.0, 1.0),
                        "neuron": (0.5 + layer / 16, 0.75),
                        "das": (1.0, 0.875 + seed / 64),
                        "openai": (0.25, 0.5),
                        "apollo-e2e": (0.375, 0.375),
                    }[method]
                    own = {"hard": scores, "soft": scores, "last_block": layer == 2}
                    write(root, result(target, method, layer, seed, **{**own, **changes}))
    return root


def quality_row(method: str, layer: int, attribute: str, **changes) -> dict:
    at = {
        **{"squared_error": 4.0 + layer, "explained_variance": 0.75, "cosine": 0.875, "l0": 8.0, "dead_share": 0.5},
        **{"accuracy": 0.625, "ce_loss_without_sae": 0.25, "ce_loss_with_sae": 0.5, "ce_loss_with_ablation": 4.0},
        **{"ce_loss_score": 0.9375, "kl_div": 0.125},
    }
    row = {"method": method, "layer": layer, "attribute": attribute, "raw_residual": False, "n_latents": 256}
    return {**row, "city": at, "all": {**at, "squared_error": 64.0}, **changes}


def write_quality(root: Path, rows: list, model: str = "toy") -> Path:
    path = root / model.replace("/", "--") / "sae-quality.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    config = {"format": 1, "model": model, "prompt": "bare", "n_cities": 30}
    content = {"format": 1, "config": config, "rows": rows, "versions": {"torch": "2.13.0"}}
    path.write_text(json.dumps({**content, "commit": "0123abc", "device": "cpu"}))
    return path
