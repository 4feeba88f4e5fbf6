"""Do the work in this process."""

from grid.experiment import Experiment
from grid.progress import Progress
from grid.work import do_layers


def launch(experiment: Experiment) -> bool:
    spec = experiment.prepare()
    if spec.configs:
        with Progress(len(spec.configs), spec.steps(spec.configs)) as progress:
            do_layers(spec, progress)
    return True
