"""The command lines: every setting, its defaults per model, and its checks."""

from __future__ import annotations

import argparse
import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from data.intervention_data import MODES, SPLITS, default_split
from data.ravel_data_prep import ATTRIBUTES, PROMPT_STYLES
from engines import ENGINES
from featurizers import METHODS
from imports import UserError, torch
from saelens import is_own, normalised
from training import PRECISIONS

HOME = Path(__file__).parent
DEFAULT_MODEL = "openai-community/gpt2"

# Settings that depend on the model; a flag given on the command line goes before.
PROFILES = {
    "paper": {  # Chaudhary & Geiger 2024
        "mode": "paper",
        "epochs": 20,
        "batch_size": 16,
        "lr": 1e-3,
        "temperature": [10.0, 0.1],
        "max_pairs": None,
        "prompt": "few-shot",
        "threads": None,
        "cities": HOME / "data" / "cities.csv",
        "saes": HOME / "saved_models" / "saes",
    },
    "toy": {
        "mode": "strict",
        "epochs": 10,
        "batch_size": 16,
        "lr": 3e-3,
        "temperature": [1.0, 0.1],
        "max_pairs": 320,
        "prompt": "bare",
        "threads": 1,  # its products are too small to share
        "cities": "cities.csv",  # of the toy world's own folder
        "saes": "saes",
    },
}


@dataclass
class InputSettings:
    """What every command takes, complete and checked as far as that goes without a model."""

    model: str
    toy_folder: Path | None  # of a toy world
    methods: list[str]
    methods_named: bool  # one by one, not by 'all'
    layers: list[int] | None  # None: all
    prompt: str
    threads: int | None
    cities: Path
    saes: Path
    raw_residual: bool
    unfiltered: bool
    device: str
    output: Path
    force: bool
    dry_run: bool


@dataclass
class Settings(InputSettings):
    """The command line of main.py."""

    targets: list[str]
    seeds: list[int]
    mode: str
    split: str
    epochs: int
    batch_size: int
    lr: float
    temperature: list[float]
    max_pairs: int | None
    error_term: bool
    engine: str
    precision: str
    joint: int
    workers: int
    wandb: bool


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        unknown = message.partition("unrecognized arguments: ")[2].split()
        raise UserError(f"{message}{meant(unknown[0], self._option_string_actions) if unknown else ''}; see --help")


def meant(word: str, known) -> str:
    """' (did you mean ..?)', or '' if no known word is near."""
    near = difflib.get_close_matches(word, known, 1, cutoff=0.7)
    return f" (did you mean {near[0]}?)" if near else ""


class Options:
    """The flags of a command: those that every command has, in the groups that --help shows."""

    def __init__(self, description: str, methods: list[str]):
        p = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self.parser = p
        self.methods = methods
        p.add_argument("--model", default=DEFAULT_MODEL, help="a hub id, a checkpoint folder, or toy (%(default)s)")
        self.grid = p.add_argument_group("the grid")
        self.grid.add_argument(
            "--methods", nargs="+", default=["all"], help=f"{' '.join(methods)}, or all (all); and sae:FOLDER_OR_HUB_ID"
        )
        self.grid.add_argument("--layers", nargs="+", default=["all"], help="numbers, or all (all)")
        self.how = p.add_argument_group(
            "the experiment (without a flag: what the model's profile says, paper's / toy's)"
        )
        self.add_profiled("--prompt", "five solved examples first, or the question alone", choices=PROMPT_STYLES)
        self.how.add_argument("--unfiltered", action="store_true", help="take every one-token city, known or not")
        files = p.add_argument_group("files")
        files.add_argument(
            "--cities", type=Path, help="csv of city,country,continent, or RAVEL's json (data/cities.csv)"
        )
        files.add_argument("--saes", type=Path, metavar="DIR", help="where SAEs are (saved_models/saes)")
        files.add_argument("--output", type=Path, metavar="DIR", help="of the results (saved_models/results)")
        files.add_argument("--force", action="store_true", help="redo what is done")
        self.running = p.add_argument_group("running")
        self.running.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
        self.running.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice; toy: 1)")
        self.running.add_argument("--dry-run", action="store_true", help="print the grid and stop")

    def add_profiled(self, flag: str, text: str, **options) -> None:
        """A flag whose default depends on the model."""
        name = flag[2:].replace("-", "_")
        defaults = [PROFILES[profile].get(name) for profile in ("paper", "toy")]
        shown = " / ".join(" ".join(map(str, d)) if isinstance(d, list) else str(d or "all") for d in defaults)
        self.how.add_argument(flag, help=f"{text} ({shown})", **options)

    def read(self, argv: list[str] | None) -> dict:
        """The command line with its defaults filled in and the common flags checked.  Raises UserError."""
        args = vars(self.parser.parse_args(argv))
        model = args["model"]
        toy_folder = None
        if model == "toy":
            toy_folder = HOME / "saved_models" / "toy"
        elif os.path.isfile(os.path.join(model, "world.json")):  # Path's own raises if a name is too long
            toy_folder = Path(model)
        for name, default in PROFILES["toy" if toy_folder else "paper"].items():
            if name in args and args[name] is None:
                args[name] = toy_folder / default if toy_folder and name in ("cities", "saes") else default
        args["toy_folder"] = toy_folder
        args["output"] = args["output"] or HOME / "saved_models" / "results"
        args["methods_named"] = "all" not in args["methods"]
        args["methods"] = _chosen_methods(args["methods"], self.methods)
        args["layers"] = None if args["layers"] == ["all"] else _numbers("layer", args["layers"])
        args["device"] = _device(args["device"])
        for name in ("epochs", "batch_size", "threads", "max_pairs", "joint", "workers"):
            if args.get(name) is not None and args[name] < 1:
                raise UserError(f"--{name.replace('_', '-')} is {args[name]}; it must be at least 1")
        return args


def parser(description: str) -> Options:
    """The flags of main.py."""
    options = Options(description, list(METHODS))
    options.grid.add_argument("--targets", nargs="+", default=list(ATTRIBUTES), help="country continent (both)")
    options.grid.add_argument("--seeds", nargs="+", default=["0"], help="numbers (0)")
    add = options.add_profiled
    add("--mode", "paper keeps every pair; strict only pairs that differ", choices=MODES)
    options.how.add_argument(
        "--split", choices=SPLITS, help="train and test share no pairs, or no cities (pairs / cities)"
    )
    add("--epochs", "passes over the training pairs", type=int)
    add("--batch-size", "pairs in a step", type=int)
    add("--lr", "Adam's learning rate", type=float)
    add("--temperature", "of the mask, linear over all steps", type=float, nargs=2, metavar=("START", "END"))
    add("--max-pairs", "at most so many pairs of a kind in a part", type=int, metavar="N")
    flag = options.how.add_argument
    flag("--raw-residual", action="store_true", help="feed SAEs as the original did: no centring")
    flag("--error-term", action="store_true", help="add an SAE's reconstruction error back")
    flag = options.running.add_argument
    flag("--engine", choices=list(ENGINES), default="fast", help="nnsight: the slow, plain way (fast)")
    flag("--precision", choices=PRECISIONS, default="fp32", help="of the model's products while training (fp32)")
    flag("--joint", type=int, metavar="N", help="runs of a layer that train in one pass (12; GPT-2 on a CPU: 4)")
    flag("--workers", type=int, default=1, metavar="N", help="processes that share the layers (1)")
    flag("--wandb", action="store_true", help="log to Weights & Biases too (offline without an account)")
    return options


def read_settings(argv: list[str] | None = None, description: str = "") -> Settings:
    """Raises UserError for whatever can be seen to be wrong without loading a model."""
    args = parser(description).read(argv)
    args["split"] = args["split"] or default_split(args["mode"])
    args["targets"] = _chosen("target", args["targets"], list(ATTRIBUTES))
    args["seeds"] = _numbers("seed", args["seeds"])
    if not 0 < args["lr"] < float("inf"):
        raise UserError(f"--lr is {args['lr']}; it must be a positive number, such as 0.001")
    if not all(0 < t < float("inf") for t in args["temperature"]):
        raise UserError(f"--temperature is {args['temperature']}; both must be positive, such as 10 0.1")
    if args["engine"] == "nnsight" and args["device"] == "mps":
        raise UserError("the nnsight engine is not supported on mps; use --device cpu")
    if args["precision"] != "fp32":
        _require_precision(**{name: args[name] for name in ("precision", "mode", "engine", "device")})
    if args["joint"] is None:  # beyond 64 rows a CPU gains little, and small products want more of them
        args["joint"] = 4 if args["device"] == "cpu" and not args["toy_folder"] else 12
    return Settings(**args)


def _require_precision(precision: str, mode: str, engine: str, device: str) -> None:
    """Raises UserError where a precision other than fp32 is not for this mode, engine or device."""
    if mode == "paper":
        raise UserError(f"--precision {precision} is not the paper's; use --mode strict, or leave it at fp32")
    if engine == "nnsight":
        raise UserError(f"the nnsight engine, the exact reference, has no --precision {precision}; use --engine fast")
    if precision == "tf32" and device != "cuda":
        raise UserError(f"--precision tf32 is a CUDA GPU's, not of device {device}; use fp32 here")
    if device == "mps":
        raise UserError(f"--precision {precision} is not supported on mps; use fp32 here")


def _chosen(kind: str, given: list[str], known: list[str], everything: str | None = None) -> list[str]:
    if everything in given:
        return known
    for name in given:
        if name not in known:
            all_known = ", ".join(known) + (", or all" if everything else "")
            raise UserError(f"unknown {kind} {name!r}{meant(name, known)}; known are {all_known}")
    return [name for name in known if name in given]


def _chosen_methods(given: list[str], known: list[str]) -> list[str]:
    """The known ones in their order, then users' own SAEs (sae:FOLDER) as given."""
    own = dict.fromkeys(normalised(name) for name in given if is_own(name))
    others = [name for name in given if not is_own(name)]
    return [*_chosen("method", others, known, everything="all"), *own]


def _numbers(kind: str, given: list[str]) -> list[int]:
    for text in given:
        if not text.removeprefix("-").isdecimal():
            extra = ", or all" if kind == "layer" else ""
            raise UserError(f"{kind} {text!r} is not a number; give numbers{extra}, as in --{kind}s 0 1 2")
        if kind == "seed" and int(text) < 0:
            raise UserError(f"seed {text} is negative; seeds are 0, 1, 2, ...")
        if kind == "seed" and int(text) >= 2**63:
            raise UserError(f"seed {text} is too large; seeds are 0, 1, 2, ... below 2 to the 63rd")
    return sorted({int(text) for text in given})


def _device(wanted: str) -> str:
    if wanted == "cpu":
        return wanted
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return next((name for name in has if has[name]), "cpu")
    if not has[wanted]:
        raise UserError(f"--device {wanted} was asked for, but torch sees no {wanted} device here; use --device cpu")
    return wanted
