"""What is imported, and when: the launcher without PyTorch, and --help in a blink."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import jobrelay
from tests.support import REPOSITORY


def modules_of(*packages: Path) -> list[str]:
    """The names of all modules in packages, as they are imported."""
    return sorted(
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for package in packages
        for path in package.rglob("*.py")
        if path.name != "__main__.py"
    )


MODULES = modules_of(REPOSITORY / "launcher" / "jobrelay")


def loaded_after(program: str, folder: Path) -> set[str]:
    """The top-level modules that a fresh interpreter has after a program."""
    whole = (
        f"import sys; sys.path[:0] = {[str(REPOSITORY / top) for top in ('launcher', 'jobs')]!r}\n{program}\n"
    )
    whole += "import json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", whole], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_launcher_never_imports_torch(tmp_path: Path) -> None:
    assert "jobrelay.executors.cluster.api" in MODULES
    loaded = loaded_after("\n".join(f"import {module}" for module in MODULES), tmp_path)
    assert {"jobrelay", "urllib3", "pydantic"} <= loaded
    assert not {"torch", "torchvision", "torchmetrics"} & loaded


def test_the_launcher_never_imports_numpy(tmp_path: Path) -> None:
    program = "\n".join(f"import {module}" for module in MODULES)
    assert not {"matplotlib", "numpy"} & loaded_after(program, tmp_path)


def test_the_runner_and_the_configuration_never_import_torch(tmp_path: Path) -> None:
    jobs = REPOSITORY / "jobs"
    modules = [
        *modules_of(jobs / "jobrelay_runner"),
        *(f"jobrelay_train.{module}" for module in modules_of(jobs / "jobrelay_train" / "config")),
    ]
    program = "\n".join(f"import {module}" for module in modules)
    assert not {"torch", "torchvision", "numpy", "jobrelay"} & loaded_after(program, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run-all", "--help"], ["--version"], ["logs", "-h"], ["images", "compare", "-h"]],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    program = f"from jobrelay.cli.main import main; assert main({arguments!r}) == 0"
    heavy = {
        "kubernetes",
        "pydantic",
        "rich",
        "yaml",
        "urllib3",
        "websocket",
        "torch",
        "subprocess",
    }
    assert not heavy & loaded_after(program, tmp_path)


@pytest.mark.parametrize(
    "command",
    [["launcher"], ["-m", "jobrelay"]],
    ids=["as-a-folder", "as-a-module"],
)
def test_both_ways_to_start_it(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.startswith("jobrelay, version ")


def test_it_starts_from_another_folder_whose_files_are_named_like_libraries(tmp_path: Path) -> None:
    for name in ("click.py", "yaml.py", "jobrelay.py", "jobrelay_train.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong file')\n")
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "launcher"), "render", "--run", "a"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: a-train" in done.stdout


def test_the_library_is_imported_when_it_is_used(tmp_path: Path) -> None:
    assert "pydantic" not in loaded_after("import jobrelay; jobrelay.__version__; dir(jobrelay)", tmp_path)
    names = "import jobrelay\nfor name in jobrelay.__all__: getattr(jobrelay, name)"
    assert "pydantic" in loaded_after(names, tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = jobrelay.nothing
