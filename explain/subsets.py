"""How pairs are answered when only some of the features that a mask selected are patched.

Names of arrays end in their shape: N pairs, S selected features, V variants of the mask, F active features.
"""

from common.progress import bar
from data.pairs import PairBatch
from imports import np, torch
from masks.engines import FastEngine

BATCH = 128  # patched prompts in a forward pass: more do not take less time each on a CPU


class Subsets:
    """A mask's selected features on some pairs, on the exact fast path.

    selected_S: int64, indices among the engine's active features.
    n_rows: patched prompts that were run so far; n_asked: as many as there are pairs and variants.
    """

    def __init__(self, engine: FastEngine, pairs: PairBatch, selected_S: torch.Tensor):
        self.engine, self.pairs = engine, pairs.to(engine.subject.device)
        self.selected_S = selected_S.to(engine.subject.device)
        features_RS = engine.bound.features_RF[:, self.selected_S]
        self.differs_NS = (features_RS[self.pairs.base] != features_RS[self.pairs.source]).cpu().numpy()
        self.n_rows = self.n_asked = 0

    def answers(self, keep_VS, text: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Which answers are right [V, N] bool, and their cross-entropy [V, N] in nats.

        keep_VS: bool; of the selected features only these are patched.
        A feature that is equal in base and source changes nothing, so variants of a mask that agree on the others
        patch the same vector: of each pair, every distinct vector is run once.
        text: what the progress bar says.
        """
        place_VN, row_N, row_V = self._distinct(keep_VS)
        self.n_rows, self.n_asked = self.n_rows + len(row_N), self.n_asked + place_VN.size
        right, loss = np.zeros(len(row_N), bool), np.zeros(len(row_N))
        with bar(total=len(row_N), desc=text, unit="prompt", unit_scale=True) as done:
            for start in range(0, len(row_N), BATCH):
                part = slice(start, start + BATCH)
                right[part], loss[part] = self._run(row_N[part], keep_VS[row_V[part]])
                done.update(len(row_N[part]))
        return right[place_VN], loss[place_VN]

    def _distinct(self, keep_VS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors to run: each variant's and pair's place among them [V, N], and of each a pair and a variant."""
        place_VN = np.empty((len(keep_VS), len(self.differs_NS)), int)
        rows: list[tuple[int, int]] = []
        for n, differs_S in enumerate(self.differs_NS):
            known: dict[bytes, int] = {}
            for v, packed in enumerate(np.packbits(keep_VS & differs_S, axis=1)):
                place = known.setdefault(packed.tobytes(), len(rows))
                if place == len(rows):
                    rows.append((n, v))
                place_VN[v, n] = place
        row_N, row_V = np.array(rows, int).reshape(-1, 2).T
        return place_VN, row_N, row_V

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
