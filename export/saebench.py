"""Scores as SAEBench's result files of its ravel evaluation, one for each SAE and layer.

The fields are those of SAEBench 0.6.0 (sae_bench/evals/ravel/eval_output.py and eval_config.py), so that its readers
take the files.  What was done is not what SAEBench does (other prompts, pairs and training; docs/export.md): the names
of our protocol, seeds and intervals stand in `eval_result_unstructured`, and `sae_bench_commit_hash` says that it
was not SAEBench that ran.
"""

import uuid
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from common.files import write_json
from data.names import PARTS
from featurizers.methods import method_named
from masks.names import SCORES
from results import elsewhere
from results.collecting import Found
from results.estimates import Estimate, Grid
from saes.names import OWN, is_own

MASK = "hard"  # SAEBench tests masks of zeros and ones
SPACE = uuid.UUID("5d2f1c0e-6a0b-5c1e-9f57-0a6c9be1b6c4")  # of the ids of these files; any number would do


def files(grid: Grid, found: Found) -> dict[str, Callable[[Path], object]]:
    """By SAEBench's file names, what writes each.  Raises UserError if there is no result of an SAE."""
    writers, by_formula = {}, elsewhere.of_cells(grid)
    for method in (name for own in grid.methods for name in (own, *grid.controls[own])):
        for layer in grid.layers:
            if method_named(method).release and any(grid.of(target, method, layer) for target in grid.targets):
                content = evaluation(grid, method, layer, found.modified, by_formula)
                ids = content["sae_lens_release_id"], content["sae_lens_id"]
                name = f"{'_'.join(ids)}_eval_results.json".replace("/", "_")
                if name in writers:
                    raise UserError(f"two SAEs would both be written to {name}; give one of them another --label")
                writers[name] = lambda path, content=content: write_json(path, content)
    if not writers:
        raise UserError(f"{found.folder} holds no result of an SAE; SAEBench's files are of SAEs alone")
    return writers


def evaluation(grid: Grid, method: str, layer: int, modified: float, by_formula: dict) -> dict:
    """The content of a file.

    modified: when the results were made, in seconds since 1970; by_formula: of `results.elsewhere.of_cells`.
    """
    targets = [target for target in grid.targets if grid.of(target, method, layer)]
    scores = {target: {name: grid.score(target, method, layer, MASK, name) for name in SCORES} for target in targets}
    mean = {name: sum(scores[target][name].mean for target in targets) / len(targets) for name in SCORES}
    results = [r for target in targets for r in grid.of(target, method, layer)]
    release, sae_id = _ids(grid, method, layer)
    entity_type = results[0]["config"].get("facts", "city")
    return {
        "eval_type_id": "ravel",
        "eval_config": _config(results, targets),
        "eval_id": str(uuid.uuid5(SPACE, " ".join(r["digest"] for r in results))),
        "datetime_epoch_millis": int(modified * 1000),
        "eval_result_metrics": {
            "ravel": {
                "disentanglement_score": mean["disentangle"],
                "cause_score": mean["cause"],
                "isolation_score": mean["isolation"],
            }
        },
        "eval_result_details": [],
        "sae_bench_commit_hash": f"not run by SAEBench; commit of the code that ran: {results[0].get('commit')}",
        "sae_lens_id": sae_id,
        "sae_lens_release_id": release,
        "sae_lens_version": results[0]["versions"].get("sae-lens"),
        "sae_cfg_dict": _sae_config(results[0], layer),
        "eval_result_unstructured": {
            f"{entity_type}_results": {
                f"{entity_type}_{_named(target)}": {f"{name}_score": scores[target][name].mean for name in SCORES}
                for target in targets
            },
            "protocol": f"mode {results[0]['mode']}, split by {results[0]['split']}, {MASK} mask; not SAEBench's",
            "seeds": grid.seeds,
            "interval_unit": grid.unit,
            "interval_meaning": grid.meaning,
            "intervals95": {
                f"{entity_type}_{_named(target)}": {f"{name}_score": _ends(scores[target][name]) for name in SCORES}
                for target in targets
            },
            "by_seed": {
                f"{entity_type}_{_named(target)}": {
                    str(r["seed"]): {f"{name}_score": r["test"][MASK][name] for name in SCORES}
                    for r in grid.of(target, method, layer)
                }
                for target in targets
            },
            "by_saebenchs_formula": {
                f"{entity_type}_{_named(target)}": {
                    f"{name}_score": by_formula[target, method, layer]["saebench"][name] for name in SCORES
                }
                for target in targets
                if (target, method, layer) in by_formula
            }
            or None,
            "training_loss_still_falls": any(grid.still_falling(target, method, layer) for target in targets),
            "label": grid.label(method),
            "notice": grid.notice or None,
        },
    }


def _named(attribute: str) -> str:
    """As RAVEL's files do: country_of_birth -> Country of Birth."""
    return " ".join(word if word == "of" else word.title() for word in attribute.split("_"))


def _ends(estimate: Estimate) -> list[float]:
    return [estimate.low, estimate.high]


def _ids(grid: Grid, method: str, layer: int) -> tuple[str, str]:
    """Release and id; of a user's own SAE as SAEBench names what is not in SAELens's list."""
    if is_own(method):
        return grid.label(method).removeprefix(OWN).strip("/"), "custom_sae"
    return method, f"layer_{layer}"


def _config(results: list[dict], targets: list[str]) -> dict:
    """SAEBench's settings, with our values where one means the same; the others are those that say 'does not apply'."""
    config = results[0]["config"]
    parts = [sum(r[part][MASK]["n_cause"] for part in PARTS) for r in results]
    return {
        "entity_attribute_selection": {config.get("facts", "city"): [_named(target) for target in targets]},
        "top_n_entities": config["n_cities"],
        "top_n_templates": 1,  # of an attribute
        "full_dataset_downsample": None,
        "num_pairs_per_attribute": max(parts),
        "train_test_split": PARTS["train"],
        "force_dataset_recompute": False,
        "model_name": results[0]["model"],
        "llm_dtype": config.get("dtype", "float32"),
        "llm_batch_size": config.get("batch_size") or 0,
        "learning_rate": config.get("lr") or 0.0,
        "num_epochs": config.get("epochs") or 0,
        "train_mdas": False,
        "n_generated_tokens": 1,
        "random_seed": results[0]["seed"],
        "artifact_dir": "",
    }


def _sae_config(result: dict, layer: int) -> dict:
    """The SAE's own cfg.json where it has one; else what SAEBench's plots ask of any SAE."""
    sae = result.get("sae") or {}
    own = sae.get("config") or {}
    architecture = "topk" if sae.get("k") else "standard"
    place = {"hook_name": f"blocks.{layer}.hook_resid_post", "hook_layer": layer, "model_name": result["model"]}
    return {"architecture": architecture, "d_sae": result["n_features"], **place, **own}
