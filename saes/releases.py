"""The published SAEs: who published them, for which layers, and where; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from saes.names import hook_point


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


# The runs of Apollo are those of Chaudhary & Geiger 2024.  The mirrors are named after "similar L0";
# by the tables of Apollo's own analysis (e2e_sae/scripts/analysis/utils.py, SIMILAR_L0_RUNS) that is
# the same run at layers 1 and 5 and another at layer 9 (8crnit9h, cvj5um2h).
RELEASES = {
    "openai": Release(
        "openai",
        tuple(range(12)),
        "az://openaipublic/sparse-autoencoder/gpt2-small/resid_post_mlp_v5_32k/autoencoders/{layer}.pt",
    ),
    "apollo-e2e": Release(
        "apollo",
        (1, 5, 9),
        "wandb://sparsify/gpt2/{run}",
        runs=("bst0prdd", "tvj2owza", "vnfh4vpi"),
        mirror="hf://neuronpedia/gpt2-small__res_sle-ajt/{next}-res_sle-ajt",
        mirrored=(1, 5),
        end_to_end=True,
    ),
    "apollo-e2e+ds": Release(
        "apollo",
        (1, 5, 9),
        "wandb://sparsify/gpt2/{run}",
        runs=("e26jflpq", "2lzle2f0", "u50mksr8"),
        mirror="hf://neuronpedia/gpt2-small__res_slefr-ajt/{next}-res_slefr-ajt",
        mirrored=(1, 5),
        end_to_end=True,
    ),
    "bloom": Release(
        "bloom",
        tuple(range(12)),
        "hf://jbloom/GPT2-Small-SAEs-Reformatted@57d08a4fd333fbf18caf3fbea63ceeb88e2f50d9/{hook}",
    ),
}
