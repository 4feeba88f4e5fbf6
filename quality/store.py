"""OUTPUT/MODEL/sae-quality.json: the scores of SAEs, and what they were made with."""

from dataclasses import dataclass

from common.errors import UserError
from common.files import read_config, write_json
from featurizers.methods import METHODS
from grid.inputs import Inputs
from grid.store import Store, difference
from quality.names import SCORES_FILE

FILE_FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One SAE, read with or without centring."""

    method: str
    layer: int
    raw_residual: bool


class ScoreStore:
    """OUTPUT/MODEL/sae-quality.json: its rows, and adding to them."""

    def __init__(self, store: Store, inputs: Inputs):
        """Raises UserError if a file is there that is broken or was made with other settings (unless --force)."""
        self.store = store
        self.inputs = inputs
        self.path = store.root / SCORES_FILE
        s = inputs.settings
        self.config = {
            "format": FILE_FORMAT,
            "model": s.model,
            "model_digest": inputs.model_digest,
            "prompt": s.prompt,
            "unfiltered": s.unfiltered,
            "n_cities": len(inputs.prompts),
            "cities_digest": inputs.prompts.digest(),
        }
        self.rows: list[dict] = []
        if self.path.exists():
            self.rows = self._kept()

    def _kept(self) -> list[dict]:
        force = self.inputs.settings.force
        try:
            content = read_config(self.path)
            config, rows = content["config"], content["rows"]
            if not all(isinstance(row, dict) for row in rows):
                raise TypeError
            differs = difference(config, self.config)
        except (UserError, KeyError, TypeError, AttributeError):
            if force:
                return []
            raise UserError(
                f"cannot read the scores in {self.path}; remove the file, or redo it with --force"
            ) from None
        if differs and not force:
            raise UserError(
                f"{self.path} was made with another configuration ({differs}); redo it with --force, or keep both "
                "with another --output"
            )
        if differs:
            return []
        for row in rows:
            # A method that needs SAEs bears the name of their release.
            digest = self.inputs.sae_digests.get((row.get("method"), row.get("layer")), row.get("sae_digest"))
            if row.get("sae_digest") != digest and not force:
                raise UserError(
                    f"{self.path} was made with another {row['method']} SAE of layer {row['layer']}; redo it with "
                    "--force, or keep both with another --output"
                )
        return rows

    def has(self, cell: Cell) -> bool:
        return bool(self.rows_of(cell))

    def rows_of(self, cell: Cell) -> list[dict]:
        names = ("method", "layer", "raw_residual")
        return [row for row in self.rows if cell == Cell(*map(row.get, names))]

    def add(self, layer: int, fresh: list[dict], origin: dict) -> None:
        """Put rows of a layer in the place of those of the same SAEs, and save.

        origin: what computed them, as `grid.store.provenance` tells it.
        """
        again = {(row["method"], row["raw_residual"]) for row in fresh}
        self.rows = [r for r in self.rows if r["layer"] != layer or (r["method"], r["raw_residual"]) not in again]
        self.rows += fresh
        order = {method: i for i, method in enumerate(METHODS)}
        self.rows.sort(
            key=lambda r: (r["layer"], order.get(r["method"], len(order)), r["raw_residual"], r["attribute"])
        )
        write_json(self.path, {"format": FILE_FORMAT, "config": self.config, "rows": self.rows, **origin})
