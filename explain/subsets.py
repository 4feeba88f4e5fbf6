"""How pairs are answered when only some of the features that a mask selected are patched.

Names of arrays end in their shape: N pairs, M their questions, S selected features, V variants of the mask, F active
features.
"""

from common.progress import bar
from data.batches import PairBatch
from imports import np, torch
from masks.engines import FastEngine

BATCH = 128  # patched prompts in a forward pass: more do not take less time each on a CPU


class Subsets:
    """A mask's selected features on some pairs, on the exact fast path.

    selected_S: int64, indices among the engine's active features.
    n_rows: patched prompts that were run so far; n_asked: as many as there are questions and variants.
    """

    def __init__(self, engine: FastEngine, pairs: PairBatch, selected_S: torch.Tensor):
        self.engine, self.pairs = engine, pairs.to(engine.subject.device)
        self.selected_S = selected_S.to(engine.subject.device)
        features_RS = engine.bound.features_RF[:, self.selected_S]
        self.differs_MS = (features_RS[self.pairs.base] != features_RS[self.pairs.source]).cpu().numpy()
        self.n_rows = self.n_asked = 0

    def answers(self, keep_VS, text: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Which pairs are right [V, N] bool, and their answers' cross-entropy [V, N] in nats.

        keep_VS: bool; of the selected features only these are patched.
        A feature that is equal in base and source changes nothing, so variants of a mask that agree on the others
        patch the same vector: of each question, every distinct vector is run once.
        text: what the progress bar says.
        """
        place_VM, row_M, row_V = self._distinct(keep_VS)
        self.n_rows, self.n_asked = self.n_rows + len(row_M), self.n_asked + place_VM.size
        right, loss = np.zeros(len(row_M), bool), np.zeros(len(row_M))
        with bar(total=len(row_M), desc=text, unit="prompt", unit_scale=True) as done:
            for start in range(0, len(row_M), BATCH):
                part = slice(start, start + BATCH)
                right[part], loss[part] = self._run(row_M[part], keep_VS[row_V[part]])
                done.update(len(row_M[part]))
        right_VM, loss_VM = torch.from_numpy(right[place_VM]), torch.from_numpy(loss[place_VM])
        return self.pairs.answered(right_VM).numpy(), self.pairs.of_pairs(loss_VM, "sum").numpy()

    def _distinct(self, keep_VS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors to run: each variant's and question's place among them [V, M], and of each both."""
        place_VM = np.empty((len(keep_VS), len(self.differs_MS)), int)
        rows: list[tuple[int, int]] = []
        for m, differs_S in enumerate(self.differs_MS):
            known: dict[bytes, int] = {}
            for v, packed in enumerate(np.packbits(keep_VS & differs_S, axis=1)):
                place = known.setdefault(packed.tobytes(), len(rows))
                if place == len(rows):
                    rows.append((m, v))
                place_VM[v, m] = place
        row_M, row_V = np.array(rows, int).reshape(-1, 2).T
        return place_VM, row_M, row_V

    def _run(self, pair_B, keep_BS) -> tuple[np.ndarray, np.ndarray]:
        batch = self.pairs[torch.from_numpy(pair_B).to(self.selected_S.device)]
        rows_31B = (rows[None] for rows in (batch.base, batch.source, batch.label))
        with torch.no_grad():
            loss_1B, best_1B = self.engine.batched_loss([self.engine], *rows_31B, [self.mask(keep_BS)])
        return (best_1B[0] == batch.label).cpu().numpy(), loss_1B[0].double().cpu().numpy()

    def mask(self, keep_BS) -> torch.Tensor:
        """The masks over the engine's active features, [B, F]."""
        mask_BF = torch.zeros(len(keep_BS), self.engine.n_active, device=self.selected_S.device)
        return mask_BF.index_copy_(1, self.selected_S, torch.from_numpy(keep_BS).to(mask_BF))
