"""Check SAEs on the experiment's prompts: are they whole, and are they fed the stream they were trained on?

    python eval_sae.py --check                                every published SAE that is there
    python eval_sae.py --check --model toy                    the toy world's, offline
    python eval_sae.py --check --methods bloom --layers 0 5
    python eval_sae.py --check --methods sae:runs/mine

Each SAE is read as the experiment reads it and with centring turned about, on the city's
vectors of all known prompts, and marked if it explains less than 0, or more when it is
read the other way: it is fed the wrong stream, or is another layer's or model's.
"""

from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.text import shortened
from grid.inputs import Inputs, read_inputs, set_up
from grid.layers import methods_at, model_info
from grid.settings import InputSettings
from quality.metrics import encode, reconstruction
from saes.releases import locate, release_named

BETTER = 0.99  # of the error: a smaller gain is no sign, an SAE may hardly see the mean
MARKS = {
    "RAW": "it fits better without centring than as it is read",
    "CENTRED": "it fits better with centring than as it is read",
    "WRONG": "explains less than the mean: another layer's or model's",
    "LOW": "explains less than the mean, as an SAE trained end to end may",
}


@dataclass(frozen=True)
class Reading:
    """Scores of an SAE on the vectors, with or without centring."""

    l0: float
    squared_error: float
    explained_variance: float | None


@dataclass(frozen=True)
class Checked:
    """One SAE, read as the experiment reads it and with centring turned about."""

    method: str
    layer: int
    path: str
    n_latents: int
    k: int | None
    decoder_norms: dict[str, float]
    reads: str  # as the experiment reads it: raw, centred, or normalised, which takes the mean off anyway
    used: Reading
    other: Reading

    def mark(self) -> str:
        """Return the key of `MARKS` that fits; '' if nothing is wrong."""
        if self.other.squared_error < BETTER * self.used.squared_error:
            return "RAW" if self.reads == "centred" else "CENTRED"
        explained = self.used.explained_variance
        if explained is not None and explained > 0:
            return ""
        return "LOW" if release_named(self.method).end_to_end else "WRONG"


def check(settings: InputSettings) -> None:
    """Print the table.  Raises UserError at its end if a file is damaged, or if there is none at all."""
    info = model_info(settings)
    methods_by_layer = methods_at(settings, info)
    wanted = [(m, layer) for m in settings.methods for layer, methods in methods_by_layer.items() if m in methods]
    set_up(settings)
    paths = {(method, layer): locate(method, settings.saes, layer, info.n_layers) for method, layer in wanted}
    there = {key: path for key, path in paths.items() if path.exists()}
    missing = _missing([key for key in paths if key not in there])
    if not there:
        raise UserError(f"there is no SAE to check in {settings.saes} ({missing or 'none asked for'}); see setup.sh")
    inputs = read_inputs(settings, [])  # of none of them: a damaged one must not keep the others from being checked
    inputs.sae_paths |= there
    cache = inputs.activations(sorted({layer for _, layer in there}))
    n = 2 * len(inputs.prompts)
    print(f"{shortened(settings.model, 26)}: {n} vectors; other: with centring turned about\n")
    print(HEAD)
    damaged, marks = [], set()
    for method, layer in there:
        try:
            found = measure(inputs, method, layer, cache.residuals[layer][:, 0])
        except UserError as error:
            damaged.append(str(error))
            print(f"{layer:>2} {shortened(method, 14):<14} DAMAGED, see below")
        else:
            print(rows(found, settings.saes), flush=True)
            marks.add(found.mark())
    for mark in sorted(marks & MARKS.keys()):
        print(f"{mark}: {MARKS[mark]}")
    if missing:
        print(f"missing in {settings.saes}: {missing}")
    for error in damaged:
        print(f"DAMAGED: {error}")
    if damaged:
        raise UserError(f"{len(damaged)} of {len(there)} SAEs cannot be used, the first: {damaged[0]}")


def measure(inputs: Inputs, method: str, layer: int, x_ND) -> Checked:
    """Load an SAE and score it on x [N, d_model], the raw residual, with and without centring.  Raises UserError."""
    sae = inputs.load_sae(method, layer)
    reads = "normalised" if sae.normalised else "centred" if sae.centred else "raw"
    used = _read(sae, x_ND)
    sae.centred = not sae.centred
    other = _read(sae, x_ND)
    return Checked(method, layer, sae.path, sae.n_latents, sae.k, sae.decoder_norms, reads, used, other)


def _read(sae, x_ND) -> Reading:
    seen = encode(sae, x_ND)
    scores = reconstruction(x_ND, seen.x_hat_ND)
    return Reading(float(seen.l0_N.double().mean()), scores["squared_error"], scores["explained_variance"])


# ---------------------------------------------------------------- the table

WIDTH = 79
HEAD = (
    "                                        explained            error\n"
    " L release        latents     l0   as read   other   as read   other"
)


def rows(found: Checked, root: Path) -> str:
    """Format two lines of at most 80 columns: the numbers; how it is read and which file it is."""
    used, other = found.used, found.other
    numbers = (
        f"{found.layer:>2} {shortened(found.method, 14):<14} {found.n_latents:>7} {used.l0:>6.1f} "
        f"{_share(used.explained_variance):>9} {_share(other.explained_variance):>7} "
        f"{used.squared_error:>9.4g} {other.squared_error:>7.3g} {found.mark()}"
    )
    norms = " ".join(f"{found.decoder_norms[name]:.3g}" for name in ("min", "median", "max"))
    how = found.reads + (f", k {found.k}" if found.k else "")
    about = f"   {how}; norms {norms}; "
    path = Path(found.path)
    path = path.relative_to(root) if path.is_relative_to(root) else path
    return f"{numbers.rstrip()}\n{about}{shortened(str(path), max(WIDTH - len(about), 12))}"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0e}"


def _missing(absent: list[tuple[str, int]]) -> str:
    """List absent SAEs: 'bloom 0 3, openai 5'."""
    layers: dict[str, list[str]] = {}
    for method, layer in absent:
        layers.setdefault(method, []).append(str(layer))
    return ", ".join(f"{method} {' '.join(found)}" for method, found in layers.items())
