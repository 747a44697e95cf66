"""Kill trainings: can each be resumed, what is lost, and are the final weights the same?

    .venv/bin/python -m benchmarks.reliability.kills --kills 200 --terms 100

Half of the kills happen at a random moment, half at a random step of a save (a file opened, synced, renamed,
removed), which is too short to be hit by chance. A synced file is first truncated to half its size, as if it
had not been fully written. A training is killed repeatedly until it completes; then its weights are compared
with those of an undisturbed one. With one CPU and one process they must be equal bit for bit.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import REPOSITORY, finish, spread

#: Dropout and mirrored images make the weights depend on the state of the random numbers.
SETTINGS = ("model.name=mnist-hogwild-net", "train.epochs=6", "train.batch_size=64")
_START_SECONDS = 1.5  # until PyTorch is imported, roughly
GRACE_SECONDS = 30.0  # terminationGracePeriodSeconds of the manifests
#: Steps of a save; the first save removes nothing and has fewer, so a kill at a later step does not happen.
STEPS = 15

Kind = Literal["at a random moment", "in a save", "SIGTERM"]


@dataclass(frozen=True)
class Training:
    """A run of train on its own volume."""

    volume: Path
    settings: tuple[str, ...] = SETTINGS

    def start(self, die_in_save: int = 0, at_step: int = 0) -> subprocess.Popen[str]:
        """Start it; it kills itself at that step of that save, counted from 1, if it reaches it."""
        program = f"from benchmarks.reliability import kills; kills.train({die_in_save}, {at_step})"
        settings = [part for setting in self.settings for part in ("--set", setting)]
        return subprocess.Popen(
            [sys.executable, "-c", program, "train", "--run", "a", "--volume", str(self.volume), *settings],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C must reach only the benchmark
        )

    def finish(self) -> str:
        """Run undisturbed to the end; return the output."""
        process = self.start()
        out, _ = process.communicate()
        assert process.returncode == 0, out
        return out

    @property
    def epochs(self) -> int:
        (number,) = [text.partition("=")[2] for text in self.settings if text.startswith("train.epochs=")]
        return int(number)

    @property
    def model(self) -> bytes:
        return (self.volume / "runs" / "a" / "model.pt").read_bytes()


@dataclass
class Tally:
    """Results of the disturbed trainings."""

    kills: int = 0
    terms: int = 0
    resumed: int = 0
    epochs_lost: list[int] = field(default_factory=list)
    term_seconds: list[float] = field(default_factory=list)
    trainings: int = 0
    with_other_weights: int = 0
    failures: list[str] = field(default_factory=list)


def disturb(training: Training, expected: bytes, kinds: list[Kind], seconds: float, tally: Tally) -> None:
    """Disturb one training, by one of `kinds` after the other, until it completes.

    kinds: used ones are removed. expected: the weights of an undisturbed training, which takes `seconds`.
    """
    before = ""
    while True:
        kind = kinds[-1] if kinds else None
        in_save = (random.choice((1, 1, 2)), random.randint(1, STEPS)) if kind == "in a save" else (0, 0)
        process = training.start(*in_save)
        begun = time.monotonic()
        try:
            if kind in ("at a random moment", "SIGTERM"):
                share = 1 - _progress(before) / training.epochs  # the fraction of epochs left
                latest = _START_SECONDS + share * max(seconds - _START_SECONDS, 0)  # after that, it has ended
                with suppress(subprocess.TimeoutExpired):
                    process.wait(random.uniform(0.3, latest))
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
            out, _ = process.communicate()
        except KeyboardInterrupt:
            process.kill()
            raise
        _judge(out, before, tally)
        if process.returncode == 0:
            break
        if process.returncode == -signal.SIGTERM:  # Python itself had not started yet
            continue
        if kind == "SIGTERM":
            tally.terms += 1
            tally.term_seconds.append(time.monotonic() - begun)
            if process.returncode != 143:
                tally.failures.append(f"SIGTERM ended with {process.returncode}: {out[-300:]}")
        elif process.returncode == -signal.SIGKILL:
            tally.kills += 1
        else:
            tally.failures.append(f"exit code {process.returncode}: {out[-300:]}")
            return
        if kinds:
            kinds.pop()
        before = out if _progress(out) >= _progress(before) else before
    tally.trainings += 1
    if training.model != expected:
        tally.with_other_weights += 1


def _judge(out: str, before: str, tally: Tally) -> None:
    """Compare where a training has resumed with how far the previous one had got."""
    saved = re.search(r"saved as checkpoints/(epoch-\S+)\.pt", before)
    begun = re.search(r"resuming from epoch (\d+).*\(checkpoints/(\S+)\.pt\)", out)
    if "training " not in out:  # it ended before that
        return
    if begun:
        tally.resumed += 1
    lost = _progress(before) - (int(begun[1]) if begun else 0)
    tally.epochs_lost.append(lost)
    if lost > 0:
        tally.failures.append(f"lost {lost} whole epochs: {out[:300]}")
    # a newer checkpoint is fine: a training killed in a save may have completed it without reporting it
    if saved and (not begun or _position(begun[2]) < _position(saved[1])):
        tally.failures.append(f"{saved[1]}, which SIGTERM has made, was not taken: {out[:300]}")


def _position(name: str) -> tuple[int, int]:
    """epoch-0004-step-00005 → (4, 5)"""
    epoch, step = re.fullmatch(r"epoch-(\d+)(?:-step-(\d+))?", name).groups()  # type: ignore[union-attr]
    return int(epoch), int(step or 0)


def _progress(out: str) -> int:
    """Return the last epoch in the output, which is printed after the save."""
    done = re.findall(r"^epoch (\d+)/", out, flags=re.MULTILINE)
    return int(done[-1]) if done else 0


# --- in the process that kills itself ---


def train(die_in_save: int, at_step: int) -> None:
    """Run `python -m jobrelay_train …`, with a stage that may kill itself and its supervisor."""
    from jobrelay_train import __main__, program

    load = program._load

    def stage(*asked: Any) -> Any:
        function = load(*asked)
        from jobrelay_train.models.serialization import checkpoint

        save, saves = checkpoint.save, 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal saves
            saves += 1
            if saves != die_in_save:
                return save(*arguments, **options)
            with dying_at(at_step, [os.getppid(), os.getpid()]):
                return save(*arguments, **options)

        checkpoint.save = counted
        return function

    program._load = stage
    sys.exit(__main__.main(sys.argv[1:]))


@contextmanager
def dying_at(step: int, processes: list[int]) -> Iterator[None]:
    """Kill these processes within this block, right before the step-th file operation."""
    steps, active = 0, True

    def count(before_death: Callable[[], None] = lambda: None) -> None:
        nonlocal steps
        steps += active
        if active and steps == step:
            before_death()
            for process in processes:
                os.kill(process, signal.SIGKILL)

    def on_event(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            count()

    def fsync(descriptor: int) -> None:
        count(lambda: _cut_in_half(descriptor))
        really(descriptor)

    really, os.fsync = os.fsync, fsync
    sys.addaudithook(on_event)  # cannot be removed
    try:
        yield
    finally:
        active = False
        os.fsync = really


def _cut_in_half(descriptor: int) -> None:
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        os.ftruncate(descriptor, found.st_size // 2)


def every_step(folder: Path) -> list[dict[str, Any]]:
    """Kill a third save at every step; return for each: the step, what can be loaded, what is left.

    Call it in a separate process, because it forks.
    """
    from jobrelay_runner.fence import WriterFence
    from jobrelay_runner.volume.paths import RunFolder
    from jobrelay_train.models.serialization.checkpoint import Position, load_newest, save

    results: list[dict[str, Any]] = []
    for step in range(1, 100):
        run = RunFolder(folder / str(step), "a")
        run.path.mkdir(parents=True)
        fence = WriterFence.claim(run, "train", "a")
        for epoch in (1, 2):
            save(fence, run.checkpoints, Position(epoch=epoch, step=0), {"epoch": epoch}, {})
        pid = os.fork()
        if pid == 0:
            with dying_at(step, [os.getpid()]):
                save(fence, run.checkpoints, Position(epoch=3, step=0), {"epoch": 3}, {})
            os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
        loaded = load_newest(run.checkpoints, {}, limit=10**9)
        fence = WriterFence.claim(run, "train", "b")  # as the next attempt does
        save(fence, run.checkpoints, Position(epoch=4, step=0), {"epoch": 4}, {})
        fence.release()
        results.append(
            {
                "step": step,
                "killed": killed,
                "loaded": loaded and (loaded[0].epoch, loaded[1]["epoch"]),
                "left": sorted(path.name for path in [*run.checkpoints.iterdir(), *run.path.glob(".*")]),
            }
        )
        if not killed:
            break
    return results


# --- the figures ---


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random.seed(asked.seed)
    kinds: list[Kind] = [
        *(["at a random moment"] * (asked.kills - asked.kills // 2)),
        *(["in a save"] * (asked.kills // 2)),
        *(["SIGTERM"] * asked.terms),
    ]
    random.shuffle(kinds)
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Training(Path(folder) / "undisturbed")
        begun = time.monotonic()
        undisturbed.finish()
        seconds = time.monotonic() - begun
        with suppress(KeyboardInterrupt):  # Ctrl-C: report the results so far
            while kinds and not tally.failures:
                training = Training(Path(folder) / str(tally.trainings))
                disturb(training, undisturbed.model, kinds, seconds, tally)
                print(f"{len(kinds)} to come", file=sys.stderr, flush=True)
    rows = [
        ("trainings killed", str(tally.kills), f"{asked.kills}"),
        ("trainings told to stop (SIGTERM)", str(tally.terms), f"{asked.terms}"),
        ("whole epochs lost, at most", str(max(tally.epochs_lost, default=0)), "0"),
        ("seconds from SIGTERM to the end", spread(tally.term_seconds or [0.0], 2), f"≤ {GRACE_SECONDS:g}"),
        ("trainings that came to their end", str(tally.trainings), ""),
        ("of these with other weights", str(tally.with_other_weights), "0"),
        ("failures", str(len(tally.failures)), "0"),
    ]
    finish("kills", rows, {**vars(tally), "undisturbed_seconds": seconds})
    sys.exit(bool(tally.failures or tally.with_other_weights))


if __name__ == "__main__":
    main()
