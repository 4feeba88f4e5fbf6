"""Build a folder once, however many processes want it, on this machine or on others that share the folder."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from common.files import umask
from common.leases import alone


def build_once(folder: Path, is_built: Callable[[], bool], build: Callable[[Path], object]) -> None:
    """Have `build` fill a folder, unless it is there already, in one process at a time.  Raises OSError.

    It is built within a folder beside its place and moved when whole, so an interrupted
    build is simply redone; one that was there before is replaced.
    """
    if is_built():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.parent / f".{folder.name}.lease"):  # a second process waits here, and then finds it built
        if is_built():
            return
        prefix = f".{folder.name}-building-"
        for leftover in folder.parent.glob(prefix + "*"):  # of a killed build, as we hold the lease
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as around:
            building = Path(around, folder.name)
            building.mkdir()
            build(building)
            for path in building.rglob("*"):
                if path.is_file():
                    path.chmod(0o666 & ~umask())  # safetensors lets only the owner read
            shutil.rmtree(folder, ignore_errors=True)
            building.rename(folder)
