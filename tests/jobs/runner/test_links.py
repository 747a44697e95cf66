"""Links and special files in the folder of a run: a stage neither writes through them nor waits for them."""

from __future__ import annotations

import os

import pytest

from jobrelay_runner import exit_codes
from jobrelay_runner.stages import Stage
from tests.support.volume import Place


@pytest.mark.parametrize(
    ("name", "stage"), [("results", "infer"), ("logs", "eval"), ("checkpoints", "train"), ("", "eval")]
)
def test_a_link_in_place_of_a_folder_is_refused_and_what_it_leads_to_is_untouched(
    trained: Place, name: str, stage: Stage
) -> None:
    outside = trained.root.parent / "outside"
    outside.mkdir()
    (outside / "mine.png").write_text("mine")
    if stage == "train":
        trained.settings = [*trained.settings, "train.epochs=3"]
    if stage == "infer":
        assert trained.do("eval").code == 0
    link = trained.folder.path / name
    if link.exists():
        link.rename(trained.root.parent / "before")
    link.symlink_to(outside)

    ended = trained.do(stage)

    assert ended.code == exit_codes.BAD_CONFIG, ended.out + ended.err
    assert f"{link} is in the way: it is a symbolic link" in ended.out + ended.err
    assert [path.name for path in outside.iterdir()] == ["mine.png"]


@pytest.mark.parametrize("name", ["train.json", "model.json"])
def test_a_fifo_in_place_of_evidence_ends_the_stage_at_once(trained: Place, name: str) -> None:
    path = trained.folder.path / name
    path.unlink()
    os.mkfifo(path)

    ended = trained.do("eval")

    assert ended.code == exit_codes.BAD_EVIDENCE, ended.out + ended.err
    assert (
        "train.json is not a readable record: it is a FIFO" in ended.out or "model.json is not" in ended.out
    )
