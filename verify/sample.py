"""A handful of the real prompts, patched by random masks: what the self-check compares two ways on."""

from dataclasses import dataclass

from data.batches import PairBatch
from data.prompts import Prompts
from decoder.activations import ActivationCache
from featurizers.base import Featurizer
from featurizers.das import Das
from featurizers.neuron import Neuron
from imports import torch
from masks.engines import ENGINES
from masks.training import MaskRun
from models import Subject

N_PAIRS = 6  # cause and isolation in turns, so that prompts about both attributes meet in one batch


@dataclass
class Sample:
    """Some cities' prompts, frozen at the layers to check, and pairs of them.

    engine, precision: as --engine and --precision have them; layers: the first, a middle and the last one at which
    anything can be trained.
    """

    subject: Subject
    cache: ActivationCache
    pairs: PairBatch
    layers: list[int]
    engine: str
    precision: str

    @classmethod
    def of(cls, subject: Subject, prompts: Prompts, engine: str, precision: str) -> "Sample":
        """Entities from the whole list, with the one of the most tokens.  The model needs two layers or more."""
        last = subject.n_layers - 2
        layers = sorted({0, last // 2, last})
        attributes = prompts.attributes[:2]
        chosen = [row for attribute in attributes for row in _spread(prompts, prompts.rows_about(attribute))]
        few = subject.harvest(prompts.pick(chosen), layers, progress=False)
        rows = [few.prompts.rows_about(attribute) for attribute in attributes]
        asked = [(rows[i % len(rows)], i) for i in range(N_PAIRS)]
        base, source = ([about[(i + shift) % len(about)] for about, i in asked] for shift in (0, 1))
        # An entity's own token is no answer: so the loss is large, and no gradient is the small rest of what cancels.
        own = [few.prompts.rows[row] for row in base]
        pairs = PairBatch.of(base, source, [p.tokens[p.at] for p in own], [i % 2 for _, i in asked])
        return cls(subject, few, pairs.to(subject.device), layers, engine, precision)

    @property
    def middle(self) -> int:
        return self.layers[len(self.layers) // 2]

    def bound(self, layer: int, featurizer: Featurizer):
        return ENGINES[self.engine](self.subject, self.cache, layer, featurizer)

    def normal(self, *shape: int, seed: int):
        """Random numbers that are the same on every device."""
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(self.subject.device)

    def das(self) -> Das:
        """A rotation well away from its start; the norm of its parameter is about 2 at any width."""
        d_model = self.subject.d_model
        das = Das(d_model, seed=0, device=self.subject.device)
        das.move_to(self.normal(d_model, d_model, seed=1) / d_model**0.5)
        return das

    def neuron(self) -> Neuron:
        return Neuron(self.subject.d_model)

    def run(self, featurizer: Featurizer, seed: int) -> MaskRun:
        """A mask to train at the middle layer, from a random theta."""
        engine = self.bound(self.middle, featurizer)
        run = MaskRun(engine, featurizer if featurizer.is_trained else None, self.pairs.to("cpu"), seed)
        with torch.no_grad():
            run.theta.copy_(self.normal(engine.n_active, seed=seed))
        return run


def _spread(prompts: Prompts, rows: list[int]) -> list[int]:
    """A few of these rows from beginning to end, with the one whose entity has most tokens."""
    n = len(rows)
    longest = max(rows, key=lambda row: prompts.rows[row].n_own)
    return list(dict.fromkeys([*(rows[i] for i in (0, n // 3, 2 * n // 3, n - 1)), longest]))
