"""The local executor's folders, and how it follows a Job, without a process."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobrelay.executors.base import Submission
from jobrelay.executors.local import LocalExecutor, contact, layout
from jobrelay.kube.labels import CONFIG_FILE
from tests.support import objects as o

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose runners were started; nothing runs."""
    folders: list[Path] = []
    monkeypatch.setattr(contact, "start_runner", folders.append)
    return folders


def write_state(folder: Path, job: Object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / layout.STATE).write_text(json.dumps({"job": job, "pods": []}))
    return folder


def test_what_is_hidden_is_no_job(tmp_path: Path) -> None:
    (write_state(tmp_path / ".jobs/.new-1", o.job()) / layout.STATE).write_text("{")
    write_state(tmp_path / ".jobs/a-train", o.job())
    assert len(LocalExecutor(tmp_path).jobs()) == 1


def test_a_job_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    job = o.job()
    job["spec"]["unspeakable"] = {0}
    with pytest.raises(TypeError, match="set"):
        LocalExecutor(tmp_path).submit(job)
    assert list((tmp_path / ".jobs").iterdir()) == []


def test_row_46_a_job_that_was_half_removed_is_made_anew(tmp_path: Path) -> None:
    folder = layout.job_folder(tmp_path, o.job()["metadata"]["name"])
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    submission = LocalExecutor(tmp_path).submit(o.job())
    assert submission.how == "created"
    assert list((tmp_path / ".jobs").iterdir()) == [folder]
    assert {path.name for path in folder.iterdir()} == {layout.STATE, layout.LOCK}


def test_row_48_two_launchers_that_replace_a_failed_job_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = o.job("train", o.condition("Failed"))
    write_state(layout.job_folder(tmp_path, failed["metadata"]["name"]), failed)
    remove, seconds = layout.remove, iter([0.2, 0.5])

    def slowly(folder: Path) -> None:
        time.sleep(next(seconds))  # both have looked by then; the slower one after the faster one's Job
        remove(folder)

    monkeypatch.setattr(layout, "remove", slowly)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: LocalExecutor(tmp_path).submit(o.job()), range(2)))

    assert sorted(submission.how for submission in both) == ["adopted", "replaced"]
    assert len({submission.job["metadata"]["uid"] for submission in both}) == 1


@pytest.mark.parametrize("remove", ["submit", "delete"])
def test_row_46_of_a_removal_that_was_killed_no_half_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remove: str
) -> None:
    """The folder has another name before the first of its files goes."""
    job = o.job("train", o.condition("Failed"))
    folder = write_state(layout.job_folder(tmp_path, job["metadata"]["name"]), job)

    def killed(path: Path, **_: Any) -> None:
        if not path.name.startswith(".new-"):  # _create clears up after itself
            raise SystemExit(9)

    monkeypatch.setattr("shutil.rmtree", killed)
    local = LocalExecutor(tmp_path)
    with pytest.raises(SystemExit):
        local.submit(job) if remove == "submit" else local.delete(o.RUN)
    assert not folder.exists()
    assert local.jobs() == []


def test_a_configuration_is_whole_at_every_moment(tmp_path: Path) -> None:
    def config_map(text: str) -> Object:
        return {"metadata": {"name": "a-config"}, "data": {CONFIG_FILE: text}}

    local = LocalExecutor(tmp_path)
    local.configure(config_map("seed: 1"))
    folder = layout.config_folder(tmp_path, "a-config")
    with (folder / CONFIG_FILE).open() as reader:
        local.configure(config_map("seed: 2"))
        assert reader.read() == "seed: 1"
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(CONFIG_FILE, "seed: 2")]


def test_row_38_a_job_of_the_same_name_is_another(tmp_path: Path) -> None:
    job = o.job("train", o.condition("Failed"))
    folder = write_state(layout.job_folder(tmp_path, job["metadata"]["name"]), job)
    with LocalExecutor(tmp_path).watch(o.plan()) as updates:
        assert updates.view(Submission(job, "adopted")).job == job

        later = o.job("train", o.condition("Complete"))
        later["metadata"]["uid"] = "uid-later"
        write_state(folder, later)

        assert updates.view(Submission(later, "replaced")).job == later
        earlier = o.job("train")
        earlier["metadata"]["uid"] = "uid-earlier"
        assert updates.view(Submission(earlier, "adopted")).job is None


def test_runners_that_cannot_be_followed_are_started_with_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started: list[Path]
) -> None:
    folder = write_state(tmp_path / ".jobs/a-train", o.job())
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            write_state(folder, o.job("train", o.condition("Complete")))

    monkeypatch.setattr("time.sleep", pause)
    *waiting, state = contact.messages(folder)
    assert len(waiting) == 2  # each is a look at the state, as at the log
    assert state["job"]["status"]["conditions"]
    assert (len(started), pauses) == (3, [1.0, 1.0])
