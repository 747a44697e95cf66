"""Absolute paths for a program on this machine: mounts that only its own process sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import ANY_PYTHON, Pipeline, as_user, is_root, outputs

#: In /, and nowhere on this machine.
NEW = "/jobrelay-test-of-binds"


def _refusal(prefix: list[str]) -> str:
    """Why this system does not let that user make mounts; empty if it does."""
    flags = [] if is_root() and not prefix else ["--map-current-user"]
    try:
        tried = subprocess.run(
            [*prefix, "unshare", "--mount", *flags, "true"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else ""


@pytest.fixture(params=["this-user", "ordinary-user"])
def prefix(request: pytest.FixtureRequest) -> list[str]:
    """Words that make a command run as that user."""
    if not sys.platform.startswith("linux"):
        pytest.skip("mount namespaces are Linux's")
    words = as_user(1234) if request.param == "ordinary-user" else []
    if words and not is_root():
        pytest.skip("only root can become another user")
    if reason := _refusal(words):
        pytest.skip(f"this system makes no mounts for this user: {reason}")
    return words


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """On a volume to which every user may write."""
    with tempfile.TemporaryDirectory() as folder:
        made = Pipeline(Path(folder), python=[ANY_PYTHON])
        made.describe()
        made.here.chmod(0o777)
        (made.folder.root / "runs").chmod(0o777)
        for name in ("data", "tmp"):
            (made.here / name).mkdir()
            (made.here / name).chmod(0o777)
        (made.here / "data" / "there").write_text("data")
        yield made


@pytest.fixture(autouse=True)
def _no_trace(pipeline: Pipeline) -> Iterator[None]:
    """What a bind makes, it makes for its own process: nothing is left on this machine."""
    before = {folder: names_in(folder) for folder in ("/", "/opt", "/usr", "/mnt", "/etc")}
    yield
    assert {folder: names_in(folder) for folder in before} == before
    assert list((pipeline.here / "tmp").iterdir()) == []
    assert Path(NEW).name not in names_in("/tmp")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert str(pipeline.here) not in mounts
    assert NEW not in mounts


def names_in(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def bound(pipeline: Pipeline, prefix: list[str], program: str, expect: int = 0, **binds: Path) -> list[str]:
    """Run a shell's program with binds, {path: folder}; return its lines."""
    pipeline.environment = {
        "JOBRELAY_BINDS": json.dumps({path: str(folder) for path, folder in binds.items()}),
        "TMPDIR": str(pipeline.here / "tmp"),
        "HOME": str(pipeline.here),
    }
    return pipeline.sh("a", program, prefix=prefix, expect=expect).out.splitlines()


def test_a_new_folder_in_the_root(pipeline: Pipeline, prefix: list[str]) -> None:
    """Where / itself must be replaced: everything in it is there as before."""
    names = names_in("/")
    said = bound(
        pipeline, prefix,
        f"cat {NEW}/there; echo; echo 1 > {NEW}/made; ls -a /; pwd; id -u; touch in-work",
        **{NEW: pipeline.here / "data"},
    )  # fmt: skip
    assert said[0] == "data"
    assert names <= set(said)
    assert str(pipeline.work) in said
    assert ("1234" if prefix else str(os.geteuid())) in said
    assert (pipeline.here / "data" / "made").read_text() == "1\n"
    assert outputs(pipeline.record("a")) == {"in-work"}
    assert not Path(NEW).exists()


@pytest.mark.parametrize("path", ["/opt/mount/model", "/usr/no/such", "/etc/x", "/mnt/a/b/c"])
def test_a_new_folder_in_another(pipeline: Pipeline, prefix: list[str], path: str) -> None:
    parent = next(each for each in Path(path).parents if each.is_dir())
    names = names_in(parent)
    said = bound(
        pipeline,
        prefix,
        f"cat {path}/there; echo; ls -a {parent}; touch {path}/made",
        **{path: pipeline.here / "data"},
    )
    assert said[0] == "data"
    assert names <= set(said)
    assert (pipeline.here / "data" / "made").exists()


def test_a_folder_that_is_there_is_hidden(pipeline: Pipeline, prefix: list[str]) -> None:
    said = bound(pipeline, prefix, "ls /opt; touch /opt/made", **{"/opt": pipeline.here / "data"})
    assert said[:1] == ["there"]
    assert (pipeline.here / "data" / "made").exists()
    assert not Path("/opt/made").exists()


def test_a_new_folder_in_tmp(pipeline: Pipeline, prefix: list[str]) -> None:
    path = f"/tmp/{Path(NEW).name}/inner"
    said = bound(
        pipeline, prefix, f"cat {path}/there; echo; stat -c %a /tmp", **{path: pipeline.here / "data"}
    )
    assert said[:2] == ["data", "1777"]


def test_nested_folders_and_a_file(pipeline: Pipeline, prefix: list[str]) -> None:
    (pipeline.here / "inner").mkdir()
    (pipeline.here / "inner").chmod(0o777)
    (pipeline.here / "file").write_text("a file")
    said = bound(
        pipeline, prefix,
        f"cat {NEW}/file; echo; cat {NEW}/there; echo; touch {NEW}/outer-made {NEW}/deep/inner/made",
        **{
            f"{NEW}/file": pipeline.here / "file",
            f"{NEW}/deep/inner": pipeline.here / "inner",
            NEW: pipeline.here / "data",
        },
    )  # fmt: skip
    assert said[:2] == ["a file", "data"]
    assert (pipeline.here / "data" / "outer-made").exists()
    assert (pipeline.here / "inner" / "made").exists()


def test_a_file_in_a_folder_of_the_system(pipeline: Pipeline, prefix: list[str]) -> None:
    (pipeline.here / "file").write_text("a file")
    path = f"/etc/{Path(NEW).name}.conf"
    said = bound(
        pipeline, prefix, f"cat {path}; echo; cat /etc/passwd | head -1", **{path: pipeline.here / "file"}
    )
    assert said[0] == "a file"
    assert said[1].startswith("root:")


def test_a_folder_of_the_workspace(pipeline: Pipeline, prefix: list[str]) -> None:
    """As a stage of a pipeline has it: what is written there is found as the stage's output."""
    pipeline.work.mkdir(parents=True)
    for path in (pipeline.folder.path, pipeline.work, pipeline.work / "model"):
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
    bound(pipeline, prefix, f"echo 1 > {NEW}/model/m.pt", **{f"{NEW}/model": pipeline.work / "model"})
    assert outputs(pipeline.record("a")) == {"model/m.pt"}


def test_what_cannot_be_bound_is_named(pipeline: Pipeline, prefix: list[str]) -> None:
    bound(pipeline, prefix, "true", expect=78, **{"/etc/passwd/x": pipeline.here / "data"})
    error = str(pipeline.record("a").error)
    assert "the program needs /etc/passwd/x, and this system refuses them" in error
    assert "run it on a cluster" in error


def test_without_the_right_to_make_mounts(pipeline: Pipeline) -> None:
    if not is_root():
        pytest.skip("only root can give up its right for good")
    prefix = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"]
    bound(pipeline, prefix, "true", expect=78, **{NEW: pipeline.here / "data"})
    assert "Operation not permitted" in str(pipeline.record("a").error)
