#!/usr/bin/env bash
# Score every SAE of the model. Flags go to eval_sae.py.
#
#   ./eval_run.sh                  all SAEs of GPT-2 small (they must be there: ./setup.sh all)
#   ./eval_run.sh --model toy      all SAEs of the toy world: offline, on a CPU, in seconds
#   ./eval_run.sh --help           all flags
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/setup.sh"
exec "$here/.venv/bin/python" "$here/eval_sae.py" "$@"
