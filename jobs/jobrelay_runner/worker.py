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
    """Run the stage with both standard streams going to `output`; send the report; return the exit code.

    The imports happen at once; the work starts at the first byte from `go`, and never if `go` is closed.
    When the work starts, one line of JSON goes to `report`: cpu_seconds, the cost of the imports, and the
    moments that were passed. A command then replaces this process, and makes no report. Otherwise the report
    itself, one JSON object, follows at the end: inputs, outputs, metrics, means and versions after a success,
    otherwise error; and the moments that were passed.
    """
    # Its own process group, so that the supervisor can end everything that the stage leaves behind.
    os.setsid()
    die_with_parent()
    stop = StopRequest()
    stop.install()
    _print_to(output)
    outcome: dict[str, Any]
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])  # a pending signal is obeyed here
        # An interrupted import leaves half a module, and a confusing error.
        with stop.deferred(), _nothing_collected():
            # only here: otherwise the supervisor, which forks, would hold PyTorch's 200 MB for nothing
            stage = context.program.load()
        stop.obey()
        mark("imported")
        if not os.read(go, 1):
            return 0
        mark("working")
        started = {"cpu_seconds": time.process_time(), "moments": moments()}
        os.write(report, json.dumps(started).encode() + b"\n")
        result = stage(context, stop)
        stop.ignore()
        outcome = {
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
            outcome, code = {"error": redacted("".join(traceback.format_exception_only(error)).strip())}, 1
        else:
            print(f"{context.stage}: {known}", file=sys.stderr)
            outcome, code = {"error": str(known)}, known.exit_code
    outcome["versions"] = _versions()
    outcome["moments"] = moments()
    sys.stdout.flush()
    with os.fdopen(report, "w") as pipe:
        json.dump(outcome, pipe)
    return code


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Create long-lived objects, as imports do, without the garbage collector.

    It would search all the objects of PyTorch's modules again and again, and find nothing to free. It does
    not search them later, either.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _known(error: Exception, context: StageContext[Any]) -> StageError | None:
    """Return the error as a StageError if it is one that people can act on."""
    if isinstance(error, StageError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error, context.folder.path)
    return None


def _versions() -> dict[str, str]:
    """Return the versions of the libraries used; one that was not imported had no part in the result."""
    return {
        name: str(sys.modules[name].__version__) for name in ("torch", "torchvision") if name in sys.modules
    }


def _print_to(descriptor: int) -> None:
    """Redirect standard output and error to one pipe, in the order of writing, line by line."""
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # New objects: the old ones remember whether they were a terminal or a file, and their position.
    sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    faulthandler.enable()  # shows where native code crashed
