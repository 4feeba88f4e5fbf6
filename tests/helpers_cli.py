"""The command line as tests use it: its error line, a process of its own, and what it left on disk."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from main import main

HOME = Path(__file__).parent.parent


def fails(capsys, output: Path, *argv) -> str:
    """Run the command line in this process, see that it fails as promised, and return its error line.

    Promised are: exit code 2, one line `error: ...` as the last of stderr, nothing on
    stdout, no traceback, and an output folder that is just as it was before.
    """
    before = snapshot(output)
    existed = output.exists()
    capsys.readouterr()
    code = main([*map(str, argv), "--output", str(output)])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert snapshot(output) == before
    assert output.exists() == existed, f"{output} was made"
    return error_line(err)


def error_line(err: str) -> str:
    """The one error line of a stderr; other lines before it are of progress."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", err) if line.strip()]
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], err
    assert "Traceback" not in err
    return lines[-1]


def require_words(line: str, words) -> None:
    """The line names all of these."""
    missing = [word for word in words if str(word) not in line]
    assert not missing, f"{missing} not in: {line}"


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file under a folder, or the file itself: relative path -> (time of change, content)."""
    paths = [folder] if folder.is_file() else [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def start(*argv, code: str | None = None, **environment) -> subprocess.Popen:
    """main.py with these flags (or python code with them as sys.argv[1:]) as a process of its own.

    environment: variables to set; None removes one.
    """
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    env = {name: str(value) for name, value in env.items() if value is not None}
    what = [str(HOME / "main.py")] if code is None else ["-c", code]
    command = [sys.executable, *what, *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with ctrl_c_as_usual():
        return subprocess.Popen(command, cwd=HOME, env=env, text=True, **pipes)


@contextlib.contextmanager
def ctrl_c_as_usual():
    """A shell's background job ignores ctrl-C and so would its children; those that are started within do not."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def finish(process) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a process that ends by itself."""
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out, err
