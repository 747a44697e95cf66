"""Run all stages one after the other in one container: what `docker run IMAGE` does by default."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from jobrelay_runner import exit_codes
from jobrelay_runner.volume.paths import RunFolder
from jobrelay_train.config.schema import STAGES


def run_all(arguments: Sequence[str], folder: RunFolder) -> int:
    """Run `python -m jobrelay_train STAGE` with these arguments for every stage until one fails.

    Returns the exit code of the last one.

    SIGTERM and SIGINT go to the running stage, which saves its work; no further stage starts.
    """
    with _Signals() as signals:
        for stage in STAGES:
            code = signals.run([sys.executable, "-m", "jobrelay_train", stage, *arguments])
            if code != exit_codes.SUCCEEDED:
                return code
    print(f"results are in {folder.path}")
    if _is_container():
        copy = f"docker cp {os.uname().nodename}:{folder.path} ."
        print(f"copy them: {copy}   (or mount a folder at {folder.root})")
    return exit_codes.SUCCEEDED


class _Signals:
    """Passes SIGTERM and SIGINT on to the running process, and remembers them between processes."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._received: int | None = None

    def __enter__(self) -> _Signals:
        self._before = {
            number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str]) -> int:
        """Run a command; return its exit code, or 128 + the signal that ended or prevented it."""
        if self._received is not None:
            return 128 + self._received
        # its own group: otherwise a terminal's Ctrl-C would reach it twice
        self._process = subprocess.Popen(command, start_new_session=True)
        if self._received is not None:  # the signal arrived in between
            self._process.send_signal(self._received)
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        if self._process is not None:
            self._process.send_signal(number)


def _is_container() -> bool:
    return os.getpid() == 1
