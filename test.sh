#!/usr/bin/env bash
# Check the style and run all tests. Flags go to pytest, as in: ./test.sh -k saes
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"
./setup.sh tests
.venv/bin/ruff check .
.venv/bin/ruff format --check .
# One thread per process: two only get in each other's way on a small shared machine.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
