"""The snapshot of the code: the same files always give the same archive."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from jobrelay.errors import BadInput
from jobrelay.pipelines import code
from jobrelay.pipelines.code import MOST_CODE, snapshot
from jobrelay.pipelines.config import ProgramConfig
from jobrelay.pipelines.definition import Pipeline, StageDefinition


def names(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        return members.getnames()


def test_the_same_files_give_the_same_archive(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub/x.py").write_text("1")
        (tmp_path / folder / "run.sh").write_text("#!/bin/sh")
        (tmp_path / folder / "run.sh").chmod(0o755)
    os.utime(tmp_path / "b/run.sh", (1, 1))
    one, other = (snapshot({".": tmp_path / folder}) for folder in ("a", "b"))
    assert one.archive == other.archive
    assert names(one.archive) == ["run.sh", "sub/x.py"]
    (tmp_path / "b/run.sh").chmod(0o644)
    assert snapshot({".": tmp_path / "b"}).digest != one.digest


def test_ignored_files_stay_here(tmp_path: Path) -> None:
    left_out = {"b.log", "sub/c.log", "data/d", ".git/x", "__pycache__/y.pyc", "runs/r/z"}
    for name in ("a.py", "sub/keep.log", *left_out):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("*.log\n/data/\n")
    (tmp_path / "sub/.jobrelayignore").write_text("!keep.log\n")
    assert "a.py" in names(snapshot({".": tmp_path}).archive)
    found = set(names(snapshot({".": tmp_path}).archive))
    assert not found & left_out


def test_what_is_too_large_is_refused_with_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_MOST_BYTES", 1000)
    (tmp_path / "big.bin").write_bytes(bytes(2000))
    (tmp_path / "small.py").write_text("")
    with pytest.raises(BadInput) as error:
        snapshot({".": tmp_path})
    assert "big.bin" in error.value.what
    assert "data:" in str(error.value.hint)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inner").symlink_to("x.py")
    (tmp_path / "x.py").write_text("")
    assert names(snapshot({".": tmp_path}).archive) == ["inner", "x.py"]
    (tmp_path / "out").symlink_to("../secret")
    with pytest.raises(BadInput, match="leads out of the code"):
        snapshot({".": tmp_path})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(BadInput, match="closed cannot be read"):
        snapshot({".": tmp_path})


def of(folder: Path, **runs: str) -> ProgramConfig:
    stages = {name: StageDefinition(run=run) for name, run in runs.items()}
    config = ProgramConfig(Pipeline(source="x", stages=stages, image="", files={".": folder}))
    assert config.code  # the files as they are now
    return config


def test_a_change_in_a_later_stages_script_leaves_the_earlier_stage_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import nets")
    (tmp_path / "nets.py").write_text("")
    (tmp_path / "evaluate.py").write_text("import nets")
    runs = {"train": "python train.py", "evaluate": "python evaluate.py"}
    before = of(tmp_path, **runs)
    (tmp_path / "evaluate.py").write_text("import nets  # better")
    after = of(tmp_path, **runs)
    assert after.decides("train") == before.decides("train")
    assert after.decides("evaluate") != before.decides("evaluate")
    (tmp_path / "nets.py").write_text("# other")
    assert of(tmp_path, **runs).decides("train") != before.decides("train")


def test_a_script_that_another_one_imports_counts_for_all(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("from evaluate import accuracy")
    (tmp_path / "evaluate.py").write_text("accuracy = 1")
    runs = {"train": "python train.py", "evaluate": "python evaluate.py"}
    before = of(tmp_path, **runs)
    (tmp_path / "evaluate.py").write_text("accuracy = 2")
    assert of(tmp_path, **runs).decides("train") != before.decides("train")


def test_code_that_is_too_large_for_a_config_map_goes_to_the_volume(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(MOST_CODE + 1000))
    config = of(tmp_path, a="true")
    assert "code.tar.gz" not in config.config_files()
    ((path, content),) = config.uploads().items()
    assert config.code
    assert path == f"code/{config.code.digest}/code.tar.gz"
    assert content == config.code.archive
