"""The process that does the stage's work: the only one that imports torch."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobrelay_runner.context import StageContext
from jobrelay_runner.errors import StageError, from_os_error
from jobrelay_runner.signals import StopRequest, die_with_parent
from jobrelay_runner.text.redaction import redacted
from jobrelay_runner.usage.timeline import mark, moments


def run(context: StageContext[Any], go: int, output: int, report: int) -> int:
    """Do the stage with both standard streams going to `output`; send the report; return the exit code.

    All is imported at once, and the work begins when there is a byte in `go`; there is none if that ends.
    When the work begins, a line of JSON says in `report` what the imports have cost: cpu_seconds. At the end
    the report itself follows, one JSON object: inputs, outputs, metrics, means and versions after success,
    else error; and the moments that were passed.
    """
    # A group of its own, so that the supervisor can end whatever the stage leaves behind.
    os.setsid()
    die_with_parent()
    stop = StopRequest()
    stop.install()
    _print_to(output)
    told: dict[str, Any]
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # one that has waited is obeyed here
        # An import that is interrupted leaves half a module, and a strange error.
        with stop.deferred(), _nothing_collected():
            # here alone: the supervisor, which forks, would else hold PyTorch's 200 MB for nothing
            stage = context.program.load()
        stop.obey()
        mark("imported")
        if not os.read(go, 1):
            return 0
        mark("working")
        os.write(report, json.dumps({"cpu_seconds": time.process_time()}).encode() + b"\n")
        result = stage(context, stop)
        stop.ignore()
        told = {
            "inputs": {name: digest.to_dict() for name, digest in result.inputs.items()},
            "outputs": {name: digest.to_dict() for name, digest in result.outputs.items()},
            "metrics": result.metrics,
            "means": result.means,
            "skipped": result.skipped,
        }
        code = 0
    except Exception as error:
        stop.ignore()
        known = _known(error, context)
        if known is None:
            sys.stderr.write(redacted(traceback.format_exc()))
            told, code = {"error": redacted("".join(traceback.format_exception_only(error)).strip())}, 1
        else:
            print(f"{context.stage}: {known}", file=sys.stderr)
            told, code = {"error": str(known)}, known.exit_code
    told["versions"] = _versions()
    told["moments"] = moments()
    sys.stdout.flush()
    with os.fdopen(report, "w") as pipe:
        json.dump(told, pipe)
    return code


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Make objects that stay, as imports do, without the garbage collector.

    It would look through all that PyTorch's modules hold, over and over, and find nothing to free; nor
    does it ever look there again.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _known(error: Exception, context: StageContext[Any]) -> StageError | None:
    """The error as one that people can act on, if it is one."""
    if isinstance(error, StageError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error, context.folder.path)
    return None


def _versions() -> dict[str, str]:
    """Of what the stage has used; a library that it did not import had no part in the result."""
    return {
        name: str(sys.modules[name].__version__) for name in ("torch", "torchvision") if name in sys.modules
    }


def _print_to(descriptor: int) -> None:
    """Standard output and error become one pipe, in the order of writing, a line at a time."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # New objects: the old ones remember whether they were a terminal or a file, and their position.
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    faulthandler.enable()  # a crash of native code shows where
