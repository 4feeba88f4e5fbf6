"""Measure what a run over each SAE family takes in memory and time, on real sizes.

    python benchmarks/memory.py             some minutes; no network, no GPT-2, no published files
    python benchmarks/memory.py --limit 4   exit code 1 if a run takes more than 4 GB
    python benchmarks/memory.py --layer 1   where more blocks follow, more weights are laid out for oneDNN

Each family's run is `main.py` in a process of its own: GPT-2 small's shape with random
weights, 40 cities, all 3,200 pairs of target country, mode paper, one layer, one epoch.
The files are made on the spot in the publishers' formats and sizes; `sae:` is one of
SAELens's, where its library is installed.  The peak is the kernel's own figure for the
process (wait4's maximum resident set: what is mapped from files counts).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import HOME, machine

SAES = {"bloom": 24_576, "openai": 32_768, "apollo-e2e": 46_080}  # release -> latents
OWN = "standard"  # the folder of SAELens's


def make(folder: Path, layer: int) -> None:
    """Write the checkpoint, its cities and one SAE of each family for this layer.  Runs in a process of its own.

    A child's peak is at least its parent's, so the parent must use no library: it would load it.
    """
    from fixtures import build_subject, random_sae, write_sae

    subject, prompts = build_subject()
    x_RD = subject.harvest(prompts, [layer], progress=False).residuals[layer][:, 0]
    subject.model.save_pretrained(folder / "model")
    subject.tokenizer.save_pretrained(folder / "model")
    with open(folder / "cities.csv", "w", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("city", "country", "continent"), *((c.name, c.country, c.continent) for c in prompts.cities)]
        )
    for release, n_latents in SAES.items():
        write_sae(release, folder / "saes", random_sae(release, n_latents, x_RD, layer), subject.n_layers)
    if is_installed():
        from imports import sae_lens

        sae = random_sae("bloom", SAES["bloom"], x_RD, layer)
        metadata = sae_lens.saes.sae.SAEMetadata(
            model_name="gpt2-small",
            hook_name=f"blocks.{layer}.hook_resid_post",
            model_from_pretrained_kwargs={"center_writing_weights": True},
        )
        config = sae_lens.StandardSAEConfig(d_in=sae.d_model, d_sae=sae.n_latents, metadata=metadata)
        library = sae_lens.StandardSAE(config)
        for name in ("W_enc", "b_enc", "W_dec", "b_dec"):
            getattr(library, name).data.copy_(getattr(sae, name))
        library.save_model(folder / OWN)


def is_installed() -> bool:
    return importlib.util.find_spec("sae_lens") is not None


def measure(folder: Path, method: str, layer: int) -> tuple[float, float]:
    """(10^9 bytes at the peak, seconds) of one run of main.py as a process."""
    flags = ["--model", "model", "--cities", "cities.csv", "--saes", "saes", "--output", "results", "--unfiltered"]
    flags += ["--methods", method, "--layers", str(layer), "--targets", "country", "--epochs", "1", "--device", "cpu"]
    began = time.perf_counter()
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen([sys.executable, HOME / "main.py", *flags], cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read())
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=float, metavar="GB", help="exit with 1 if a run takes more")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only these rows (all)")
    parser.add_argument("--layer", type=int, default=5, choices=range(11), metavar="L", help="(5)")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="only write the files there")
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments.make, arguments.layer)
    cases = [("neuron", "neuron", 768), *((release, release, n) for release, n in SAES.items())]
    if is_installed():
        cases.append((f"sae:{OWN}", f"sae:{OWN}", SAES["bloom"]))
    cases = [case for case in cases if arguments.methods is None or case[0] in arguments.methods]
    if not cases:
        parser.error("no such row; rows are neuron, sae:standard and the releases")
    threads = os.environ.get("OMP_NUM_THREADS", "torch's choice of")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--make", folder, "--layer", str(arguments.layer)], check=True)
        print(f"{datetime.date.today()}, {machine()}, {threads} thread(s)\n")
        print("method        latents  peak GB  seconds", flush=True)
        peaks = []
        for name, method, n_latents in cases:
            peak, seconds = measure(Path(folder), method, arguments.layer)
            peaks.append(peak)
            print(f"{name:<12} {n_latents:8,} {peak:8.2f} {seconds:8.0f}", flush=True)
    if arguments.limit is not None:
        verdict = max(peaks) <= arguments.limit
        print(f"wanted: at most {arguments.limit:g} GB: {'met' if verdict else 'MISSED'}")
        sys.exit(not verdict)


if __name__ == "__main__":
    main()
