"""The numbers of a result as a run of Weights & Biases; offline where no account is set up."""

import os
from pathlib import Path

from common.errors import UserError
from data.names import PARTS
from masks.names import SCORES
from results.reading import digest_of
from results.run import Run

MODES = ("online", "offline", "disabled")
# Of a result's configuration, what all cells of a grid share; training's settings are null where nothing is trained.
OF_A_GRID = (
    "model",
    "model_digest",
    "mode",
    "split",
    "prompt",
    "unfiltered",
    "max_pairs",
    "engine",
    "dtype",
    "n_cities",
)


def mode() -> str:
    """WANDB_MODE if it is set, else online with an account and offline without.

    Raises UserError if wandb is not installed or the mode cannot work.
    """
    from imports import wandb

    wanted = os.environ.get("WANDB_MODE")
    if wanted is not None and wanted not in MODES:
        raise UserError(f"WANDB_MODE is {wanted!r}; set it to one of {', '.join(MODES)}, or leave out --wandb")
    if wanted in ("offline", "disabled"):
        return wanted  # no account is needed, so none is looked for
    has_account = wandb.login(prompt=False)
    wanted = wanted or ("online" if has_account else "offline")
    if wanted == "online" and not has_account:
        raise UserError("WANDB_MODE is online but no account is set up; run wandb login, or set WANDB_MODE=offline")
    return wanted


def log(run: Run, result: dict, output: Path, mode: str) -> None:
    """One run of the grid as one run there, in this `mode`, its files under OUTPUT/wandb.

    A run's id follows from its configuration: logged twice, it is one run there.  All runs of a grid are one group,
    from whichever task of whichever machine they come: those of one model, and of the same settings.
    """
    from imports import wandb

    settings = wandb.Settings(silent=True)
    about = {"project": "sae-disentangle", "name": str(run), "group": group_of(result), "config": result["config"]}
    about |= {"id": digest_of(result["config"]), "resume": "allow"}
    with wandb.init(**about, dir=output, mode=mode, settings=settings) as logged:
        for row in result["history"]:
            logged.log({key: row[key] for key in ("loss", "accuracy", "temperature") if key in row}, step=row["epoch"])
        for part in PARTS:
            for mask in ("soft", "hard"):
                logged.summary.update({f"{part}/{mask}/{name}": result[part][mask][name] for name in SCORES})
        for name, scores in result["baselines"].items():
            if scores:
                logged.summary.update({f"baseline/{name}/{key}": value for key, value in scores.items()})
        logged.summary["n_selected"] = result["n_selected"]


def group_of(result: dict) -> str:
    """MODEL-xxxxxxxx: the same for two results that differ only in target, method, layer or seed."""
    shared = {key: result["config"][key] for key in OF_A_GRID}
    return f"{result['model']}-{digest_of(shared)[:8]}"
