"""Is a harvest worth keeping on disk?  It takes so long, its file so much, and the training that follows so long.

    python benchmarks/harvest.py                                  SmolLM2's own grid, layers 10 and 22
    python benchmarks/harvest.py --layers 15 -- --facts city --max-entities 300 --max-templates 9
    python benchmarks/harvest.py --layers 2 -- --model toy

Behind -- stand more flags of main.py.  To read a file means: from this machine's disk, after it was written, so rather
from memory; a shared folder is slower.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from decoder.activations import ActivationCache
from grid.devices import settle
from grid.experiment import Experiment
from grid.layers import model_info
from grid.plan import plan
from grid.settings import read_settings
from grid.trainer import Trainer
from imports import safetensors_torch, torch
from results.store import Store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", nargs="+", default=["10", "22"])
    parser.add_argument("flags", nargs="*", help="of main.py")
    args = parser.parse_args()
    flags = ["--model", "smollm2", "--device", "cpu", "--threads", "1", "--layers", *args.layers, *args.flags]
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings([*flags, "--output", folder])
        settle(settings)
        store = Store(settings.output, settings.model)
        spec = Experiment(settings, store, plan(settings, model_info(settings))).check()
        trainer = Trainer(spec, progress=False)
        n = len(spec.inputs.prompts.rows)
        print(f"{settings.model}, {n:,} prompts, {len(spec.configs) // len(settings.layers)} runs a layer")
        print(f"{'layer':>5}{'harvest s':>11}{'file MB':>9}{'write s':>9}{'read s':>8}{'training s':>12}")
        for layer in settings.layers:
            harvest, cache = timed(
                lambda layer=layer: spec.inputs.subject.harvest(spec.inputs.prompts, [layer], answers=False)
            )
            content, path = flat(cache), Path(folder, "harvest.safetensors")
            write, _ = timed(lambda content=content, path=path: safetensors_torch.save_file(content, path))
            read, _ = timed(lambda path=path: [t.clone() for t in safetensors_torch.load_file(path).values()])
            size = path.stat().st_size / 1e6
            training = trainer.seconds(layer, 3)
            print(f"{layer:>5}{harvest:>11.1f}{size:>9.0f}{write:>9.2f}{read:>8.2f}{training:>12.0f}")


def timed(work) -> tuple[float, object]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


def flat(cache: ActivationCache) -> dict[str, torch.Tensor]:
    """Every tensor of a harvest, by a name for it."""
    found: dict[str, torch.Tensor] = {}

    def add(name: str, value) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value.contiguous().clone()
        elif isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name}.{key}", inner)
        elif isinstance(value, list | tuple):
            for i, inner in enumerate(value):
                add(f"{name}.{i}", inner)

    for name, value in vars(cache).items():
        add(name, value)
    return found


if __name__ == "__main__":
    main()
