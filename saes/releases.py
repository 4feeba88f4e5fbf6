"""Which SAEs were published, where, and where they are kept on this machine; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from saes.names import hook_point, is_own
from saes.source import find

N_LAYERS = 12  # of GPT-2 small, whose residuals they all read
PLACES = {"openai": "{layer}.pt", "apollo": "layer{layer:02d}", "bloom": "{hook}"}  # family -> the publisher's own name


@dataclass(frozen=True)
class Release:
    """A set of published SAEs, one per layer: its family, the layers there are for GPT-2 small, and where.

    address: of one SAE at its host; {layer}, {hook} (its hook point) and {run} (one of `runs`) are filled in.
    mirror: of the same, where one is known to hold the same run: for the layers in `mirrored`.
    """

    family: str
    layers: tuple[int, ...]
    address: str = ""
    runs: tuple[str, ...] = ()  # of Weights & Biases, one per layer
    mirror: str = ""
    mirrored: tuple[int, ...] = ()
    end_to_end: bool = False  # trained for the model's answers; a reconstruction may be far off

    def address_of(self, layer: int, n_layers: int, mirror: bool = False) -> str:
        run = self.runs[self.layers.index(layer)] if self.runs else ""
        pattern = self.mirror if mirror else self.address
        return pattern.format(layer=layer, next=layer + 1, hook=hook_point(layer, n_layers), run=run)


def _apollo(kind: str, *runs: str) -> Release:
    """One of Apollo's two kinds, at the layers 1, 5 and 9 with the runs of Chaudhary & Geiger 2024.

    The mirrors are named after "similar L0"; by Apollo's own table (SIMILAR_L0_RUNS in
    e2e_sae/scripts/analysis/plot_settings.py) that is the same run at layers 1 and 5 and
    another at layer 9 (8crnit9h, cvj5um2h).
    """
    mirror = f"hf://neuronpedia/gpt2-small__res_{kind}-ajt/{{next}}-res_{kind}-ajt"
    return Release("apollo", (1, 5, 9), "wandb://sparsify/gpt2/{run}", runs, mirror, (1, 5), end_to_end=True)


ALL = tuple(range(N_LAYERS))
RELEASES = {
    "openai": Release(
        "openai", ALL, "az://openaipublic/sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/{layer}.pt"
    ),
    "apollo-e2e": _apollo("sle", "bst0prdd", "tvj2owza", "vnfh4vpi"),
    "apollo-e2e+ds": _apollo("slefr", "e26jflpq", "2lzle2f0", "u50mksr8"),
    "bloom": Release(
        "bloom", ALL, "hf://jbloom/GPT2-Small-SAEs-Reformatted@57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9/{hook}"
    ),
}


def release_named(name: str) -> Release:
    """Return a published release, or one made of a user's own SAE.  Raises UserError if that cannot be read."""
    return Release(name, (find(name).layer,)) if is_own(name) else RELEASES[name]


def locate(release: str, root: str | Path, layer: int, n_layers: int) -> Path:
    """Return the path of a release's SAE of a layer: ROOT/RELEASE/ and then the publisher's own name.

    A user's own SAE stays in its folder; for any layer but its own the path does not exist.
    """
    if is_own(release):
        source = find(release)
        return source.folder if layer == source.layer else source.folder / f"no SAE of layer {layer}"
    place = PLACES[RELEASES[release].family]
    return Path(root) / release / place.format(layer=layer, hook=hook_point(layer, n_layers))
