#!/usr/bin/env bash
# Make a virtual environment inside this checkout and install the packages.
#
#   ./setup.sh          what the scripts need (requirements.txt)
#   ./setup.sh tests    that and what the tests need (requirements-test.txt)
#
# Needs python >= 3.11. Touches nothing outside this folder; may be run twice.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$here/.venv

fail() {
  echo "error: $*" >&2
  exit 2
}

find_python() {
  local name
  for name in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
    if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  fail "no python >= 3.11 was found; install one, or name it: PYTHON=/path/to/python3 ./setup.sh"
}

# Install a list of requirements unless exactly that list is installed already.
install() {
  local list=$here/$1 stamp=$venv/installed-$1
  if [ -f "$stamp" ] && cmp -s "$list" "$stamp"; then
    return
  fi
  echo "installing $1 into .venv (once; a minute or more, torch alone is 0.2 to 3 GB)" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$list" >&2 ||
    fail "pip could not install $1; see its message above, then run the same command again"
  cp "$list" "$stamp"
}

for word in "$@"; do
  [ "$word" = tests ] || fail "unknown word '$word'; known is: tests"
done

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  python=$(find_python)
  "$python" -m venv "$venv" >&2 ||
    fail "$python cannot make a virtual environment; on Debian and Ubuntu install python3-venv"
fi
install requirements.txt
for word in "$@"; do
  install "requirements-test.txt"
done
