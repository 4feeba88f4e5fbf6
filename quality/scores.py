"""OUTPUT/MODEL/sae-quality.json: the scores of SAEs, to which several processes may add at once."""

from dataclasses import dataclass

from common.errors import UserError
from common.files import read_config, write_json
from common.leases import alone
from featurizers.methods import METHODS
from grid.inputs import Inputs
from quality.names import SCORES_FILE
from results.provenance import difference
from results.shapes import QUALITY, QUALITY_ROW, fault
from results.store import Store

FILE_FORMAT = 1
LEASE = "scores"  # of the file itself, while it is read, changed and written
PAUSE = 0.1  # seconds between two looks at it


@dataclass(frozen=True)
class Cell:
    """One SAE, read with or without centring."""

    method: str
    layer: int
    raw_residual: bool


def cell_of(row: dict) -> Cell:
    return Cell(row["method"], row["layer"], row["raw_residual"])


def is_row(row) -> bool:
    """Whether something is a row as we write it; the file is anyone's."""
    return fault(row, QUALITY_ROW) is None and isinstance(row.get("raw_residual"), bool)


def there(store: Store) -> tuple[list[dict], int]:
    """The sound rows of the file as it is, whatever they were made with, and of how many cities they are.

    None, and 0, if there is no such file or it is none of ours.
    """
    try:
        content = read_config(store.root / SCORES_FILE)
    except UserError:
        return [], 0
    if fault(content, QUALITY) is not None:
        return [], 0
    return [row for row in content["rows"] if is_row(row)], content["config"].get("n_cities", 0)


class ScoreStore:
    """The file: its rows, and adding to them.

    by_cell: the rows of each SAE, as of the last look.
    """

    def __init__(self, store: Store, inputs: Inputs):
        """Raises UserError if a file is there that is broken or was made with other settings (unless --force)."""
        self.store, self.sae_digests = store, inputs.sae_digests
        self.path = store.root / SCORES_FILE
        s = inputs.settings
        self.replaces = s.force  # whatever is there that does not fit
        self.config = {
            "format": FILE_FORMAT,
            "model": s.model,
            "model_digest": inputs.model_digest,
            "prompt": s.prompt,
            "unfiltered": s.unfiltered,
            "n_cities": len(inputs.prompts),
            "cities_digest": inputs.prompts.digest(),
        }
        self.look()

    def _kept(self) -> list[dict]:
        """Read the rows that are still valid.  Raises UserError as above."""
        if not self.path.exists():
            return []
        wrong, rows, digests = "", [], self.sae_digests
        try:
            content = read_config(self.path)
            differs = difference(content["config"], self.config)
            rows = content["rows"]
            if not all(map(is_row, rows)):
                raise TypeError
            # A method that needs SAEs bears the name of their release.
            of_another = [
                f"{row['method']} SAE of layer {row['layer']}"
                for row in rows
                if row.get("sae_digest") != digests.get((row.get("method"), row.get("layer")), row.get("sae_digest"))
            ]
        except (UserError, KeyError, TypeError, AttributeError):
            wrong, rows = f"cannot read the scores in {self.path}; remove the file, or redo it with --force", []
        else:
            if differs:
                wrong, rows = f"another configuration ({differs})", []
            elif of_another:
                wrong = f"another {of_another[0]}"
            if wrong:
                wrong = f"{self.path} was made with {wrong}; redo it with --force, or keep both with another --output"
        if wrong and not self.replaces:
            raise UserError(wrong)
        return rows

    def look(self) -> None:
        """See what others have added.  Raises UserError as `__init__` does."""
        self._set(self._kept())

    def _set(self, rows: list[dict]) -> None:
        self.by_cell: dict[Cell, list[dict]] = {}
        for row in rows:
            self.by_cell.setdefault(cell_of(row), []).append(row)

    def add(self, fresh: list[dict], origin: dict) -> None:
        """Replace the rows of the same SAEs, and save.

        origin: what computed them, as `results.provenance.provenance` tells it.
        """
        again = {cell_of(row) for row in fresh}
        order = {method: i for i, method in enumerate(METHODS)}
        with alone(self.store.lease_path(LEASE), PAUSE):  # nobody else changes the file meanwhile
            rows = [*(row for row in self._kept() if cell_of(row) not in again), *fresh]
            rows.sort(key=lambda r: (r["layer"], order.get(r["method"], len(order)), r["raw_residual"], r["attribute"]))
            self._set(rows)
            write_json(self.path, {"format": FILE_FORMAT, "config": self.config, "rows": rows, **origin})
