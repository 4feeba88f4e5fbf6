"""One cell of the grid, and the name that its files have."""

import hashlib
from dataclasses import dataclass

LONGEST_NAME = 200


@dataclass(frozen=True)
class Run:
    """A method at a layer, trained for a target with a seed."""

    target: str
    method: str
    layer: int
    seed: int

    def __str__(self) -> str:
        """TARGET/METHOD/layerLL-seedS, of its files below OUTPUT/MODEL."""
        method = self.method.replace("/", "--")
        if len(method.encode()) > LONGEST_NAME:  # a path; a folder's name may have 255 bytes
            method = f"{hashlib.sha256(method.encode()).hexdigest()[:16]}--{method[-40:]}"
        return f"{self.target}/{method}/layer{self.layer:02d}-seed{self.seed}"
