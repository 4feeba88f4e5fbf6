"""Measure what a run of each method takes in memory and time, on real sizes.

    python benchmarks/memory.py             some minutes; no network, no GPT-2, no published files
    python benchmarks/memory.py --limit 4   exit code 1 if a run takes more than 4 GB

Each is `main.py` in a process of its own: GPT-2 small's shape with random weights, 40 cities, target country, mode
paper, one layer, one epoch.  The SAEs are made on the spot in the publishers' formats and sizes.  The peak is the
kernel's own figure for the process (wait4's maximum resident set: files mapped into it count).
"""

import argparse
import csv
import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import HOME, machine

METHODS = ("neuron", "das", "bloom", "openai", "apollo-e2e")


def make(folder: Path, layer: int) -> None:
    """Write the checkpoint, its cities and one SAE of each family.  Runs in a process of its own.

    A child's peak is at least its parent's, so the parent must use no library: it would load it.
    """
    from fixtures import WIDTHS, build_subject, random_sae, write_sae

    subject, prompts = build_subject()
    x_RD = subject.harvest(prompts, [layer], progress=False).residuals[layer][:, 0]
    for part in (subject.model, subject.tokenizer):
        part.save_pretrained(folder / "model")
    with open(folder / "cities.csv", "w", encoding="utf-8") as file:
        rows = [(city.name, city.value("country"), city.value("continent")) for city in prompts.entities]
        csv.writer(file).writerows([("city", "country", "continent"), *rows])
    for release in WIDTHS:
        write_sae(release, folder / "saes", random_sae(release, x_RD, layer), subject.n_layers)


def measure(folder: str, method: str, layer: int) -> tuple[float, float]:
    """(10^9 bytes at the peak, seconds of processor time) of one run of main.py as a process."""
    flags = ["--model", "model", "--cities", "cities.csv", "--saes", "saes", "--output", "results", "--unfiltered"]
    flags += ["--methods", method, "--layers", str(layer), "--targets", "country", "--epochs", "1", "--threads", "1"]
    with open(Path(folder, "log"), "w+") as log:
        command = [sys.executable, HOME / "main.py", *flags, "--device", "cpu"]
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read())
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return peak, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=float, metavar="GB", help="exit with 1 if a run takes more")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="only these rows (all)")
    parser.add_argument("--layer", type=int, default=5, choices=range(11), metavar="L", help="(5)")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only write the files there")
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments.make, arguments.layer)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--make", folder, "--layer", str(arguments.layer)], check=True)
        print(f"{datetime.date.today()}, {machine()}, 1 thread, L = {arguments.layer}\n")
        print("method      peak GB  processor s", flush=True)
        peaks = []
        for method in arguments.methods:
            peak, seconds = measure(folder, method, arguments.layer)
            peaks.append(peak)
            print(f"{method:<12}{peak:7.2f} {seconds:12.0f}", flush=True)
    if arguments.limit is not None:
        print(f"wanted: at most {arguments.limit:g} GB: {'met' if max(peaks) <= arguments.limit else 'MISSED'}")
        sys.exit(max(peaks) > arguments.limit)


if __name__ == "__main__":
    main()
