"""Two processes of one stage: the later one wins, and the earlier changes nothing any more."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from pathlib import Path

import pytest

from jobrelay_runner import fence as fence_module
from jobrelay_runner.errors import Superseded
from jobrelay_runner.fence import WriterFence
from jobrelay_runner.volume import archive
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_runner.volume.record import differing, parse_closing
from tests.jobs.runner.test_supervisor import Supervised
from tests.support.volume import Place, every_process, finish, read_until, small_volume


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path, "a")
    folder.path.mkdir(parents=True)
    return folder


# --- the fence itself ---


def test_the_later_one_writes_and_the_earlier_one_does_not(run: RunFolder) -> None:
    earlier = WriterFence.claim(run, "train", "pod-1")
    earlier.write(run.model, b"of the earlier")
    later = WriterFence.claim(run, "train", "pod-2")

    with pytest.raises(Superseded, match=r"has taken over \(pod-2, since 20.*Z\)"):
        earlier.write(run.model, b"too late")
    with pytest.raises(Superseded):
        earlier.remove(run.model)
    with pytest.raises(Superseded):
        earlier.check()
    assert run.model.read_bytes() == b"of the earlier"

    later.write(run.model, "of the later")
    later.remove(run.model)
    later.remove(run.model)  # it may be gone already
    later.release()
    assert list(run.path.iterdir()) == []


def test_stages_do_not_fence_each_other(run: RunFolder) -> None:
    train, test = WriterFence.claim(run, "train", "a"), WriterFence.claim(run, "eval", "b")

    train.check()
    test.check()


def test_one_that_is_superseded_stays_so_when_the_later_one_has_ended(run: RunFolder) -> None:
    earlier = WriterFence.claim(run, "train", "pod-1")
    WriterFence.claim(run, "train", "pod-2").release()
    third = WriterFence.claim(run, "train", "pod-3")  # its number has been used before

    with pytest.raises(Superseded, match="pod-3"):
        earlier.write(run.model, b"")
    third.check()


def test_one_that_is_superseded_while_it_writes_moves_nothing(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = WriterFence.claim(run, "train", "pod-1")
    run.model.write_bytes(b"whole")
    replace = Path.replace

    def late(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        WriterFence.claim(run, "train", "pod-2")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", late)
    with pytest.raises(Superseded, match="pod-2"):
        earlier.write(run.model, b"other")
    assert run.model.read_bytes() == b"whole"


def test_of_many_that_claim_at_once_one_has_the_right(run: RunFolder) -> None:
    for _ in range(30):
        claims: list[WriterFence] = []
        superseded: list[Superseded] = []
        ready = threading.Barrier(6)

        def claim(ready: threading.Barrier, claims: list[WriterFence], superseded: list[Superseded]) -> None:
            ready.wait()
            try:
                claims.append(WriterFence.claim(run, "train", "pod"))
            except Superseded as error:
                superseded.append(error)

        threads = [threading.Thread(target=claim, args=(ready, claims, superseded)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(claims) + len(superseded) == 6
        (holder,) = [fence for fence in claims if not fence.is_lost()]
        assert list(run.path.iterdir()) == [holder.folder]


def test_what_killed_processes_left_is_removed(run: RunFolder) -> None:
    left = WriterFence.claim(run, "train", "pod-1").folder
    (left / "model.pt.new").write_bytes(b"half")
    (run.path / ".train-00000000-0000000000000000.gone.partial").mkdir()

    later = WriterFence.claim(run, "train", "pod-2")
    assert list(run.path.iterdir()) == [later.folder]


@pytest.mark.parametrize("number", [89_999_999, 99_999_998, 99_999_999])
def test_a_folder_named_like_a_later_claim_is_no_obstacle(run: RunFolder, number: int) -> None:
    """Whoever can write to the volume can make one; no count of starts comes so far."""
    (run.path / f".train-{number}-9f86d081884c7d65.partial").mkdir()

    fences = [WriterFence.claim(run, "train", f"pod-{attempt}") for attempt in range(3)]

    assert [fence.is_lost() for fence in fences] == [True, True, False]
    fences[-1].write(run.model, b"whole")
    assert set(run.path.iterdir()) == {run.model, fences[-1].folder}


def test_what_stands_where_a_folder_is_moved_to_is_no_obstacle(run: RunFolder) -> None:
    (run.path / ".train-00000007-9f86d081884c7d65.partial").write_text("no folder")
    (run.path / ".train-00000008-9f86d081884c7d65.partial").symlink_to("/tmp")
    full = run.path / ".train-00000009-9f86d081884c7d65.gone.partial"
    full.mkdir()
    (full / "file").touch()
    (run.path / ".train-00000009-9f86d081884c7d65.partial").mkdir()

    fence = WriterFence.claim(run, "train", "pod-1")

    assert list(run.path.iterdir()) == [fence.folder]
    assert Path("/tmp").is_dir()


def test_an_owner_that_is_a_fifo_is_not_waited_for(run: RunFolder) -> None:
    earlier, later = (WriterFence.claim(run, "train", f"pod-{number}") for number in (1, 2))
    (later.folder / "owner.json").unlink()
    os.mkfifo(later.folder / "owner.json")

    with pytest.raises(Superseded, match="another process of this stage has taken over"):
        earlier.check()


def test_a_folder_that_cannot_be_removed_at_once_is_kept_out_all_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A network file system keeps a file that is open under another name, and its folder with it.
    earlier = WriterFence.claim(run, "train", "pod-1")
    monkeypatch.setattr(fence_module.shutil, "rmtree", lambda *_, **__: None)
    WriterFence.claim(run, "train", "pod-2")

    with pytest.raises(Superseded):
        earlier.write(run.model, b"")


def test_a_run_that_was_deleted_was_not_taken_over(run: RunFolder) -> None:
    fence = WriterFence.claim(run, "train", "pod-1")
    fence.folder.joinpath("owner.json").unlink()
    fence.folder.rmdir()
    run.path.rmdir()

    with pytest.raises(FileNotFoundError) as raised:
        fence.write(run.model, b"")
    assert raised.value.filename == str(run.model)


def test_a_volume_that_does_not_answer_is_not_taken_over(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_: Path) -> bool:
        raise OSError(errno.ESTALE, "Stale file handle")

    fence = WriterFence.claim(run, "train", "pod-1")
    monkeypatch.setattr(Path, "is_dir", silent)

    assert not fence.is_lost()


def test_a_run_is_sent_home_without_what_is_being_written(run: RunFolder) -> None:
    fence = WriterFence.claim(run, "train", "pod-1")
    fence.write(run.history, "{}\n")
    (fence.folder / "model.pt.new").write_bytes(b"half")
    sent = io.BytesIO()
    archive.pack(run.path, sent)

    with tarfile.open(fileobj=io.BytesIO(sent.getvalue())) as tar:
        assert tar.getnames() == ["history.jsonl", archive.PROOFS_NAME]


def test_row_53_a_full_volume_lets_nobody_take_over(tmp_path: Path) -> None:
    with small_volume(tmp_path / "small", "256k") as (root, fill):
        run = RunFolder(root, "a")
        run.path.mkdir(parents=True)
        earlier = WriterFence.claim(run, "train", "pod-1")
        fill()

        with pytest.raises(OSError, match="No space left on device"):
            WriterFence.claim(run, "train", "pod-2")

        earlier.check()
        assert [path for path in run.path.iterdir() if path.is_dir()] == [earlier.folder]


# --- whole processes ---


def test_rows_33_and_34_the_later_process_goes_on_and_the_earlier_one_ends(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    first = _paused_after(long_run, b"epoch 3/8")
    second = long_run.start("train", pod="later")
    read_until(second, b"resuming from epoch ")
    _send(first, signal.SIGCONT)  # both at work now
    ended, done = finish(first), finish(second)

    assert ended.code == 75
    assert "train: another process of this stage has taken over (later, since " in ended.out
    assert done.code == 0
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed
    _check_the_record(long_run, "later")
    assert list(long_run.root.rglob("*.partial")) == []


def test_row_33_a_drained_pod_cannot_save_once_its_replacement_is_there(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    first = _paused_after(long_run, b"epoch 3/8")
    second = long_run.start("train", pod="later")
    read_until(second, b"resuming from epoch ")
    first.send_signal(signal.SIGTERM)
    _send(first, signal.SIGCONT)

    assert finish(first).code == 75
    assert finish(second).code == 0
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed


def test_row_34_one_that_was_frozen_changes_no_byte_when_it_wakes(long_run: Place) -> None:
    first = _paused_after(long_run, b"epoch 3/8")
    assert long_run.do("train", pod="later").code == 0
    before = _bytes_but_logs(long_run)
    _send(first, signal.SIGCONT)
    ended = finish(first)

    assert ended.code == 75
    assert "has taken over (later, since " in ended.out
    assert _bytes_but_logs(long_run) == before
    _check_the_record(long_run, "later")


def test_row_34_five_at_once_leave_one_record_and_the_right_files(
    long_run: Place, undisturbed: tuple[bytes, str]
) -> None:
    processes = [long_run.start("train", pod=f"pod-{number}") for number in range(5)]
    ended = [finish(process) for process in processes]

    assert {one.code for one in ended} <= {0, 75}
    assert [one.code for one in ended].count(0) >= 1
    assert (long_run.folder.model.read_bytes(), long_run.losses()) == undisturbed
    _check_the_record(long_run)
    assert list(long_run.root.rglob("*.partial")) == []
    assert long_run.do("eval").code == 0


def test_row_34_a_process_that_has_been_superseded_ends_before_its_next_checkpoint(
    tmp_path: Path,
) -> None:
    supervised = Supervised(tmp_path / "volume")
    first = supervised.start("print('at work'); time.sleep(60)")
    read_until(first, b"at work")
    begun = time.monotonic()
    assert supervised.do("print('at work too')", pod="pod-2").code == 0
    ended = finish(first)

    assert ended.code == 75
    assert time.monotonic() - begun < 20
    assert supervised.record.pod == "pod-2"


def test_row_34_a_process_that_has_been_superseded_says_so_to_its_pod(tmp_path: Path) -> None:
    supervised = Supervised(tmp_path / "volume")
    ended = supervised.do(
        """
        from jobrelay_runner.fence import WriterFence
        WriterFence.claim(context.folder, "train", "pod-2")
        context.fence.write(context.folder.model, b"")
        """
    )

    assert ended.code == 75
    assert ended.out.count("has taken over (pod-2, since ") == 1
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    assert closing.exit_code == 75
    assert "has taken over (pod-2" in (closing.error or "")
    assert supervised.record.status == "running"  # it writes none of its own


def _paused_after(place: Place, line: bytes) -> subprocess.Popen[bytes]:
    process = place.start("train", pod="earlier")
    read_until(process, line)
    _send(process, signal.SIGSTOP)
    assert place.folder.record("train").exists()
    assert not place.folder.model.exists()
    return process


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the supervisor and to the process of the stage."""
    for pid in every_process(process):
        os.kill(pid, number)


def _check_the_record(place: Place, pod: str | None = None) -> None:
    record = place.record("train")
    assert record.status == "succeeded"
    assert pod in (None, record.pod)
    assert differing(place.folder.path, record.outputs) == []
    assert record.log is not None
    assert json.loads(place.folder.record("train").read_text())["log"]["file"].endswith(f"{record.pod}.log")


def _bytes_but_logs(place: Place) -> dict[Path, bytes]:
    return {
        path: path.read_bytes()
        for path in place.root.rglob("*")
        if path.is_file() and path.parent != place.folder.logs
    }
