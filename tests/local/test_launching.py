"""`python launcher` as it is started: by whatever Python, in whatever folder, for whatever terminal."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pty
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from tests.support import PATIENCE, REPOSITORY, Place, programs

MAIN = REPOSITORY / "launcher" / "__main__.py"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python without libraries."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin/python"


def test_a_python_without_the_libraries_hands_over_to_the_one_beside_the_checkout(
    bare_python: Path, tmp_path: Path
) -> None:
    if not (REPOSITORY / ".venv/bin/python").exists():
        pytest.skip("needs .venv beside the checkout, not here")
    for folder in (REPOSITORY / "launcher", "launcher"):
        done = subprocess.run(
            [bare_python, folder, "list", "--local", "--volume", tmp_path, "-o", "json"],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_python_without_the_libraries_says_how_to_install_them(bare_python: Path, tmp_path: Path) -> None:
    (tmp_path / "checkout/launcher").mkdir(parents=True)
    shutil.copy(MAIN, tmp_path / "checkout/launcher")
    done = subprocess.run(
        [bare_python, tmp_path / "checkout/launcher", "list"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {bare_python} lacks click, pydantic, yaml, rich\n"
        f"  try: make -C '{tmp_path}/checkout' install, then the same command again\n"
    )


def test_a_python_that_is_too_old_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "launcher").mkdir()
    shutil.copy(MAIN, tmp_path / "launcher")
    monkeypatch.setattr(sys, "version_info", (3, 8, 10, "final", 0))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tmp_path / "launcher" / "__main__.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "is Python 3.8.10, and JobRelay needs 3.11 or newer" in capsys.readouterr().err


def test_an_old_python_can_read_the_first_file() -> None:
    source = MAIN.read_bytes()
    source.decode("ascii")
    ast.parse(source, feature_version=(3, 4))
    assert not [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr | ast.AnnAssign)
    ]


@pytest.mark.parametrize("options", [[], ["--no-fetch"]])
def test_a_working_folder_that_cannot_be_written_is_found_before_anything_runs(
    place: Place, tmp_path: Path, options: list[str]
) -> None:
    folder = programs(tmp_path / "m")
    (place.folder / "runs").touch()  # for root, too, no folder in which logs could be kept
    result = place.run("run-all", "--run", "a", "-k", str(folder), *options, expect=2)
    assert "results and logs cannot be kept in runs/a" in result.err
    assert not (tmp_path / "volume").exists()
    (place.folder / "sweeps").touch()
    swept = place.run("sweep", "--grid", "seed=1,2", "--grid", "train.epochs=1", expect=2)
    assert "sweeps" in swept.err or "--grid seed" in swept.err


def test_a_read_only_working_folder_is_found_before_anything_runs(place: Place, tmp_path: Path) -> None:
    folder = programs(tmp_path / "m")
    place.folder = Path("/proc/self")  # root can write everywhere else
    result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=2)
    assert "cannot be written" in result.err
    assert not (tmp_path / "volume").exists()


def launched(place: Place, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The same as `place.run`, with the bytes as they are printed."""
    command = [sys.executable, REPOSITORY / "launcher", *arguments, *place.options]
    return subprocess.run(
        command, cwd=place.folder, env={**os.environ, **place.environment}, capture_output=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "latin-1", "posix"],
)
def test_streams_in_any_encoding(place: Place, environment: dict[str, str]) -> None:
    program = "print('é ✓ \\u65e5 ' + chr(0x202e))"
    folder = programs(place.folder / "m", train=program)
    place.environment.update(environment)
    process = launched(place, "run", "train", "--run", "a", "-k", str(folder), "--no-fetch")
    assert process.returncode == 0, process.stderr
    assert b"train | \\xe9" in process.stderr or "train | é".encode("latin-1") in process.stderr
    assert b"\\u65e5 \\u202e" in process.stderr
    assert b"succeeded" in process.stdout
    assert (place.folder / "runs/a/report.html").exists()
    for command in (["status", "a"], ["logs", "a"], ["list"], ["doctor"]):
        done = launched(place, *command)
        assert b"UnicodeEncodeError" not in done.stderr
        assert done.returncode == 0, done


def test_a_table_on_a_real_terminal_of_40_columns(place: Place) -> None:
    folder = programs(place.folder / "m")
    place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", "-q")
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, REPOSITORY / "launcher", "status", "a", *place.options],
        cwd=place.folder, env={**os.environ, "COLUMNS": "40", "TERM": "dumb"}, stdout=terminal,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(terminal)
        printed = b""
        try:
            while chunk := os.read(controller, 4096):
                printed += chunk
        except OSError:  # how a terminal ends on Linux
            pass
        assert process.wait(PATIENCE) == 0
    os.close(controller)
    lines = printed.decode().splitlines()
    assert [line.split() for line in lines if line.startswith("state")] == [["state", "succeeded"]]
    assert max(map(len, lines)) <= 40


def test_the_first_file_knows_every_library_that_the_launcher_takes() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]}
    main = runpy.run_path(str(MAIN), run_name="read")
    distributions = importlib.metadata.packages_distributions()
    looked_for = {
        name.lower() for module in main["_NEEDED"] + main["_WANTED"] for name in distributions[module]
    }
    assert looked_for == required
