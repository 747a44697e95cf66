"""Out of memory: said for certain where the kernel counts, else asked."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrelay_runner.usage.cgroup import Cgroup
from jobrelay_runner.volume.record import Closing, parse_closing
from tests.jobs.runner.test_supervisor import Supervised
from tests.support.volume import finish

#: A cgroup of files, which counts what the stage writes there.
FAKED = """
from jobrelay_runner.usage.cgroup import Cgroup
faked = Path(sys.argv[1]).parent / "cgroup"
Cgroup.find = classmethod(lambda cls, *_: cls((faked,)))
(faked / "cgroup.procs").write_text(f"{os.getpid()}\\n")
"""
V2 = ("memory.events", "low 0\nhigh 7\nmax 3\noom 1\noom_kill {count}\noom_group_kill 0\n")
V1 = ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n")


class Faked:
    """A stage in a container whose kernel counts."""

    def __init__(self, supervised: Supervised, name: str, text: str) -> None:
        self.supervised = supervised
        self.folder = supervised.folder.root.parent / "cgroup"
        self.folder.mkdir()
        self.name, self.text = name, text
        (self.folder / name).write_text(text.format(count=4))
        (self.folder / "memory.max").write_text(f"{2 << 30}\n")
        (self.folder / "memory.peak").write_text(f"{2 << 30}\n")

    def do(self, body: str, kills: int) -> tuple[int, str]:
        after = (
            f"(Path({str(self.folder)!r}) / {self.name!r}).write_text({self.text.format(count=4 + kills)!r})"
        )
        ended = self.supervised.do(f"{after}\n{textwrap.dedent(body)}", FAKED)
        return ended.code, ended.out


@pytest.fixture(params=[V2, V1], ids=["v2", "v1"])
def faked(tmp_path: Path, request: pytest.FixtureRequest) -> Faked:
    return Faked(Supervised(tmp_path / "volume"), *request.param)


def test_row_31_a_stage_that_the_kernel_kills_was_out_of_memory(faked: Faked) -> None:
    code, out = faked.do("os.kill(os.getpid(), 9)", kills=1)

    told = "out of memory: the kernel killed a process of this stage; peak 2.00 GiB, limit 2.00 GiB"
    assert code == 137
    assert out == f"train: {told}\n"
    assert faked.supervised.record.error == told
    assert _closing(faked.supervised).oom_kills == 1


def test_row_31_a_worker_that_the_kernel_kills_is_told_of_beside_the_stages_own_error(faked: Faked) -> None:
    code, out = faked.do("raise BadInput('a worker is gone')", kills=2)

    told = "out of memory: the kernel killed 2 processes of this stage; peak 2.00 GiB, limit 2.00 GiB"
    assert code == 78
    assert out == f"train: a worker is gone\ntrain: {told}\n"
    assert faked.supervised.record.error == f"a worker is gone; {told}"
    assert _closing(faked.supervised).oom_kills == 2


def test_row_31_a_stage_that_ends_without_a_word_after_a_worker_was_killed(faked: Faked) -> None:
    code, out = faked.do("os._exit(7)", kills=1)

    assert code == 7
    assert "limit 2.00 GiB, and the stage ended with exit code 7" in out


def test_row_31_a_success_in_spite_of_it_is_a_success_and_says_so(faked: Faked) -> None:
    code, out = faked.do("pass", kills=1)

    assert code == 0
    assert "out of memory: the kernel killed a process of this stage" in out
    assert faked.supervised.record.status == "succeeded"


def test_row_31_somebody_elses_sigkill_stays_a_question(faked: Faked) -> None:
    code, out = faked.do("os.kill(os.getpid(), 9)", kills=0)

    assert code == 137
    assert out == "train: killed by signal 9 (out of memory?); peak 2.00 GiB, limit 2.00 GiB\n"
    assert _closing(faked.supervised).oom_kills == 0


@pytest.mark.parametrize("text", ["", "oom_kill_disable 0\nunder_oom 0\n", "oom_kill many\n", "a b c\n"])
def test_where_the_kernel_does_not_count_nothing_is_claimed(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.oom_control").write_text(text)

    assert Cgroup((tmp_path,)).oom_kills() == 0
    assert Cgroup(()).oom_kills() == 0


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A real cgroup of 200 MiB."""
    folders = Cgroup.find("memory").folders
    if not folders or os.getuid() != 0:
        pytest.skip("making a cgroup takes root, on Linux")
    folder = folders[0] / f"jobrelay-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        limits = [folder / name for name in ("memory.max", "memory.limit_in_bytes")]
        limit = next((path for path in limits if path.exists()), None)
        if limit is None:
            pytest.skip("cgroups that are made here have no memory controller")
        limit.write_text(str(200 << 20))
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("held = bytearray(400 << 20)", 137),
        ("subprocess.run([sys.executable, '-c', 'held = bytearray(400 << 20)'], check=True)", 1),
    ],
    ids=["the-stage", "a-worker"],
)
def test_row_31_a_real_kernel_that_kills_is_named(
    tmp_path: Path, small_memory: Path, body: str, code: int
) -> None:
    supervised = Supervised(tmp_path / "volume")
    enter = (
        f"Path({str(small_memory)!r}, 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from jobrelay_runner.usage.cgroup import Cgroup\n"
        f"Cgroup.find = classmethod(lambda cls, *_: cls((Path({str(small_memory)!r}),)))"
    )
    ended = finish(supervised.start(body, enter))

    assert ended.code == code
    assert "out of memory: the kernel killed a process of this stage; peak 0.20 GiB, limit 0.20 GiB" in (
        ended.out
    )
    assert _closing(supervised).oom_kills == 1


def _closing(supervised: Supervised) -> Closing:
    closing = parse_closing(supervised.termination.read_text())
    assert closing is not None
    return closing
