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
        return f"{self.target}/{file_name(self.method)}/layer{self.layer:02d}-seed{self.seed}"


def file_name(method: str) -> str:
    """A method's name as part of a path: its slashes become --; of a long one stand a fingerprint and the end."""
    name = method.replace("/", "--")
    if len(name.encode()) > LONGEST_NAME:  # a folder's name may have 255 bytes
        name = f"{hashlib.sha256(name.encode()).hexdigest()[:16]}--{name[-40:]}"
    return name
