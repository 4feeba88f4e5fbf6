#!/usr/bin/env bash
# Train and test every mask. Flags go to main.py; without any: the paper's grid.
#
#   ./run.sh                  the paper's grid on GPT-2 small (a GPU helps, SAEs must be there)
#   ./run.sh --model toy      the whole grid on the toy world: offline, on a CPU, in minutes
#   ./run.sh --help           all flags
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/setup.sh"

if [ $# -eq 0 ]; then
  # Chaudhary & Geiger 2024: 2 targets x (12 layers x {neuron, das, openai, bloom} + 3 layers x 2 Apollo),
  # and the baselines none and full beside them.
  set -- \
    --model openai-community/gpt2 \
    --targets country continent \
    --methods none full neuron das openai apollo-e2e apollo-e2e+ds bloom \
    --layers all \
    --seeds 0 \
    --mode paper \
    --epochs 20 --batch-size 16 --lr 0.001 --temperature 10 0.1
fi
exec "$here/.venv/bin/python" "$here/main.py" "$@"
