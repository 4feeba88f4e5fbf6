"""The registry of launchers: where the processes run that do the shares of some work.

The command line reads their names here, so a launcher is imported only when it launches.
"""

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class Launcher:
    """One way to launch the work.

    module: has `launch(job)`, which returns whether the work (grid.work) is done when it returns.
    about: for --help.
    is_elsewhere: the work is done on other machines, so nothing is checked or read here that needs a model or a GPU.
    """

    module: str
    about: str
    is_elsewhere: bool = False

    def launch(self, job) -> bool:
        return importlib.import_module(self.module).launch(job)


LAUNCHERS = {
    "here": Launcher("grid.launchers.here", "this process"),
    "processes": Launcher("grid.launchers.processes", "processes N, of this machine"),
    "slurm": Launcher("grid.launchers.slurm", "a Slurm array, a task per share", is_elsewhere=True),
}
