"""The command lines: every setting, its defaults per model, and its checks; imports nothing heavy."""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.paths import HOME
from common.text import meant
from data.names import ENTITY, MODES, PAPER, PROMPT_STYLES, RAVEL, SPLITS, default_split
from featurizers.methods import FURTHER, METHODS, controls_of, method_named, ordered, originals_of
from grid import launching, ravel
from grid.chosen import chosen, chosen_methods, expanded
from grid.finished import Side, add_flags, read_sides
from grid.profiles import DEFAULT_MODEL, PROFILES, Place, place_of
from grid.profiles import RAVEL as RAVEL_PROFILE
from masks.names import BATCHING_NAMES, ENGINE_NAMES, PRECISIONS, default_batching


@dataclass
class InputSettings:
    """What every command takes, complete and checked as far as that goes without a model."""

    model: str
    place: Place  # where that is
    methods: list[str]
    methods_named: bool  # one by one, not by 'all'
    layers: list[int] | None  # None: all
    layers_named: bool  # on the command line, not by the model's profile
    prompt: str
    one_token: bool
    dtype: str
    spread: bool
    threads: int | None
    cities: Path  # a table of cities, where the facts are not RAVEL's
    ravel: ravel.RavelSettings | None
    saes: Path
    raw_residual: bool
    unfiltered: bool
    device: str  # auto until devices.py has chosen one
    gpu: int | None  # its number, where one was named; devices.py fills it in
    output: Path
    force: bool
    dry_run: bool
    launcher: str  # a key of grid.launchers.LAUNCHERS
    workers: int
    gpus: int | None  # of this machine, for so many workers; None: all
    slurm: dict[str, str]  # options of sbatch
    per: str  # what a process takes at a time, a key of grid.launching.PER
    status: bool
    collect: bool
    argv: list[str]  # the command line itself


@dataclass
class Settings(InputSettings):
    """The command line of main.py."""

    sizes: list[int] | None  # that stand for the size of a method named METHOD@
    targets: list[str]
    seeds: list[int]
    controls: bool
    reproduce: bool
    cluster: str  # the unit of intervals: pairs that share one are not independent
    cluster_named: bool  # on the command line
    against: str  # the method that others are compared with
    mode: str
    split: str
    epochs: int
    batch_size: int
    batching: str
    lr: float
    temperature: list[float]
    max_pairs: int | None
    error_term: bool
    engine: str
    precision: str
    joint: int | None  # None until the device is chosen
    plan: bool
    verify: bool
    doctor: bool
    explain: bool
    top: int  # features of a mask whose effects are measured
    wandb: bool
    seeds_named: bool  # on the command line
    compare: tuple[Side, Side] | None  # these two, in finished results
    export: str | None  # the format that finished results are written in, one of export.formats.FORMATS
    to: Path | None  # where to; None: in OUTPUT/MODEL/export
    label: list[str]  # METHOD=TEXT, what users' own SAEs are called


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        unknown = message.partition("unrecognized arguments: ")[2].split()
        raise UserError(f"{message}{meant(unknown[0], self._option_string_actions) if unknown else ''}; see --help")


class Options:
    """The flags of a command: those that every command has, in the groups that --help shows.

    methods: what `all` is; further: whether there are more, by name.
    """

    def __init__(self, description: str, methods: list[str], further: bool = False):
        p = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self.parser = p
        self.methods, self.further = methods, further
        p.add_argument(
            "--model", default=DEFAULT_MODEL, help="a hub id, a checkpoint folder, toy or smollm2 (%(default)s)"
        )
        more = f"{' '.join(FURTHER)} METHOD:cause METHOD@SIZE " * further + "sae:FOLDER_OR_HUB_ID"
        self.grid = p.add_argument_group("the grid")
        self.grid.add_argument(
            "--methods", nargs="+", default=["all"], help=f"{' '.join(methods)}, or all (all); and {more}"
        )
        self.grid.add_argument("--layers", nargs="+", help="numbers, or all (all; smollm2: 10 18 22)")
        self.how = p.add_argument_group("the experiment (defaults by the model's profile: paper / smollm2 / toy)")
        self.add_profiled(
            "--templates",
            "five solved examples first, the question alone, or RAVEL's own",
            also="--prompt",
            dest="prompt",
            choices=PROMPT_STYLES,
        )
        self.how.add_argument("--unfiltered", action="store_true", help="take every city, known or not")
        self.how.add_argument(
            "--one-token",
            action=argparse.BooleanOptionalAction,
            help="only cities of one token, as in the paper (mode paper: yes, strict: no)",
        )
        files = p.add_argument_group("files")
        files.add_argument(
            "--facts",
            "--cities",
            metavar="FACTS",
            help=f"csv of city,country,continent; or RAVEL's: {' '.join(RAVEL)}, or a file of its (data/cities.csv)",
        )
        files.add_argument("--saes", type=Path, metavar="DIR", help="where SAEs are (saved_models/saes)")
        files.add_argument("--output", type=Path, metavar="DIR", help="of the results (saved_models/results)")
        files.add_argument("--force", action="store_true", help="redo what is done")
        self.running = p.add_argument_group("running")
        self.running.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (auto)")
        self.running.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights")
        self.running.add_argument("--spread", action="store_true", help="spread the model over all GPUs (accelerate)")
        self.running.add_argument("--threads", type=int, metavar="N", help="CPU threads (torch's choice; toy: 1)")
        self.running.add_argument("--dry-run", action="store_true", help="print the grid and stop")

    def add_profiled(self, flag: str, text: str, also: str | None = None, **options) -> None:
        """A flag whose default depends on the model.  also: another name of it."""
        name = options.get("dest") or flag[2:].replace("-", "_")
        defaults = [PROFILES[profile].get(name) for profile in PROFILES]
        shown = " / ".join(" ".join(map(str, d)) if isinstance(d, list) else str(d or "all") for d in defaults)
        self.how.add_argument(flag, *filter(None, [also]), help=f"{text} ({shown})", **options)

    def read(self, argv: list[str] | None) -> dict:
        """The command line with its defaults filled in and the common flags checked.  Raises UserError."""
        args = vars(self.parser.parse_args(argv))
        args["layers_named"] = args["layers"] not in (None, ["all"])
        args["place"] = place = place_of(args["model"])
        if args["facts"] in RAVEL and args["prompt"] is None:
            args["prompt"] = "ravel"
        args["cities"] = None if args["facts"] is None or args["prompt"] == "ravel" else Path(args["facts"])
        if args["one_token"] is None and args.get("mode"):
            args["one_token"] = args["mode"] == "paper"
        profile = PROFILES[place.profile] | (RAVEL_PROFILE if args["prompt"] == "ravel" else {})
        for name, default in profile.items():
            if name in args and args[name] is None:
                args[name] = place.folder / default if place.is_toy and name in ("cities", "saes") else default
        args["ravel"] = None
        args["output"] = args["output"] or HOME / "saved_models" / "results"
        args["gpu"] = None
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,4})?", args["device"]):
            raise UserError(
                f"--device {args['device']!r} is no device; known are auto, cpu, cuda, cuda:0, cuda:1, .. and mps"
            )
        args["methods_named"] = "all" not in args["methods"]
        args["methods"] = self.chosen_methods(expanded(args["methods"], args.get("sizes")))
        args["layers"] = None if args["layers"] == ["all"] else _numbers("layer", args["layers"])
        for name in ("epochs", "batch_size", "threads", "max_pairs", "joint", "workers", "gpus", "top", *ravel.LIMITS):
            if args.get(name) is not None and args[name] < 1:
                raise UserError(f"--{name.replace('_', '-')} is {args[name]}; it must be at least 1")
        return args

    def chosen_methods(self, given: list[str]) -> list[str]:
        """As `grid.chosen.chosen_methods` has them; of the further ones only where they are offered."""
        return chosen_methods(given, self.methods, self.further)


def parser(description: str) -> Options:
    """The flags of main.py."""
    options = Options(description, list(METHODS), further=True)
    options.grid.add_argument("--sizes", nargs="+", type=int, metavar="N", help="of methods named METHOD@, as in das@")
    options.grid.add_argument("--targets", nargs="+", help="country continent (both); RAVEL's: all --attributes")
    options.grid.add_argument("--seeds", nargs="+", help="numbers (0)")
    add = options.add_profiled
    add("--mode", "paper keeps every pair; strict only pairs that differ; ravel: as RAVEL draws them", choices=MODES)
    options.how.add_argument(
        "--split", choices=SPLITS, help="train and test share no pairs, or no cities (pairs / cities; ravel: its own)"
    )
    ravel.add_flags(options.how)
    add("--epochs", "passes over the training pairs", type=int)
    add("--batch-size", "pairs in a step", type=int)
    options.how.add_argument(
        "--batching",
        choices=BATCHING_NAMES,
        help="original: as the paper's code, one kind in a batch, no reshuffling (mode paper); mixed (mode strict)",
    )
    add("--lr", "Adam's learning rate", type=float)
    add("--temperature", "of the mask, linear over all steps", type=float, nargs=2, metavar=("START", "END"))
    add("--max-pairs", "at most so many pairs of a kind in a part", type=int, metavar="N")
    flag = options.how.add_argument
    flag("--controls", action="store_true", help="add to each method what its score would be by chance")
    flag("--reproduce", action="store_true", help="add SAEs as the paper's code ran them, where ours are corrected")
    flag("--cluster", metavar="UNIT", help="what intervals take to be independent: country (default), continent, city")
    flag("--against", default="neuron", metavar="METHOD", help="compare the others with this one (%(default)s)")
    flag("--raw-residual", action="store_true", help="feed SAEs as the original did: no centring")
    flag("--error-term", action="store_true", help="add an SAE's reconstruction error back")
    flag = options.running.add_argument
    flag("--engine", choices=ENGINE_NAMES, default="fast", help="nnsight: the slow, plain way (fast)")
    flag("--precision", choices=PRECISIONS, default="fp32", help="of the model's products while training (fp32)")
    flag("--joint", type=int, metavar="N", help="runs of a layer that train in one pass (12; GPT-2 on a CPU: 4)")
    instead = launching.add_flags(options.running)
    instead("--plan", action="store_true", help="print how large a difference this grid could show, and stop")
    instead("--verify", action="store_true", help="check that this machine computes what plain passes do, and stop")
    instead("--doctor", action="store_true", help="print what a bug report needs, and stop")
    instead("--explain", action="store_true", help="train nothing: say what the finished masks selected, and stop")
    flag("--top", type=int, default=50, metavar="N", help="--explain: effects of N features of a mask (%(default)s)")
    flag("--wandb", action="store_true", help="log to Weights & Biases too (offline without an account)")
    add_flags(options.parser)
    return options


def read_settings(argv: list[str] | None = None, description: str = "") -> Settings:
    """Raises UserError for whatever can be seen to be wrong without loading a model."""
    options = parser(description)
    args = options.read(argv)
    args["split"] = args["split"] or default_split(args["mode"])
    args["batching"] = args["batching"] or default_batching(args["mode"])
    args["ravel"] = found = ravel.read_flags(args)
    for name in (*ravel.LIMITS, "attributes", "scored", "facts"):
        args.pop(name, None)
    attributes = list(found.facts.attributes if found else PAPER)
    args["targets"] = chosen("target", args["targets"] or attributes, attributes)
    args["cluster_named"] = args["cluster"] is not None
    args["cluster"] = _cluster(args["cluster"], found.facts.entity_type if found else "city")
    args["seeds_named"] = args["seeds"] is not None
    args["seeds"] = _numbers("seed", args["seeds"] or ["0"])
    args["against"] = _one_method(options, args["against"], "--against")
    launching.read_flags(args, argv)
    args["compare"] = read_sides(args["compare"], lambda name: _one_method(options, name, "--compare"))
    if args["to"] and not args["export"]:
        raise UserError("--to says where --export writes; name a format with --export")
    if args["controls"]:
        every = [control for name in args["methods"] for control in controls_of(name)]
        args["methods"] = ordered([*args["methods"], *every])
    if args["reproduce"]:
        if args["raw_residual"]:
            raise UserError("--reproduce runs SAEs both ways, --raw-residual only the original's; leave one out")
        every = [original for name in args["methods"] for original in originals_of(name)]
        args["methods"] = ordered([*args["methods"], *every])
    for name in args["methods"]:
        method = method_named(name)
        if method.variant == "features" and method.of not in args["methods"]:
            raise UserError(f"{name} takes as many features as {method.of} selects; add {method.of} to --methods")
    if not 0 < args["lr"] < float("inf"):
        raise UserError(f"--lr is {args['lr']}; it must be a positive number, such as 0.001")
    if not all(0 < t < float("inf") for t in args["temperature"]):
        raise UserError(f"--temperature is {args['temperature']}; both must be positive, such as 10 0.1")
    if args["precision"] != "fp32":
        _require_precision(args["precision"], args["mode"], args["engine"])
    return Settings(**args)


def _cluster(unit: str | None, entity_type: str) -> str:
    """--cluster: an attribute that entities of a type share, or each entity by itself."""
    shared = RAVEL.get(entity_type, ())
    if unit is None:
        return "country" if "country" in shared else ENTITY
    known = [*(PAPER if entity_type == "city" else shared), entity_type, ENTITY]
    if unit not in known and unit not in shared:
        raise UserError(f"--cluster is {unit!r}{meant(unit, known)}; known are {', '.join(dict.fromkeys(known))}")
    return unit


def _one_method(options: Options, name: str, flag: str) -> str:
    found = options.chosen_methods([name])
    if len(found) != 1:
        raise UserError(f"{flag} is {name!r}; name one method, such as neuron")
    return found[0]


def _require_precision(precision: str, mode: str, engine: str) -> None:
    """Raises UserError where a precision other than fp32 is not for this mode or engine."""
    if mode == "paper":
        raise UserError(f"--precision {precision} is not the paper's; use --mode strict, or leave it at fp32")
    if engine == "nnsight":
        raise UserError(f"the nnsight engine, the exact reference, has no --precision {precision}; use --engine fast")


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
