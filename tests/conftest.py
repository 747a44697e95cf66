"""Decides what this machine allows, and says at the end what was left out and why."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

#: Tests make and delete namespaces: only in clusters that are there for it.
TEST_CONTEXTS = re.compile(r"kind-.*|testcluster|minikube|k3d-.*")
IMAGE = os.environ.get("JOBRELAY_TEST_IMAGE", "jobrelay:0.1.0")


#: What tests start imports the code of this checkout, from whatever folder, and not an installed one.
REPOSITORY = Path(__file__).resolve().parents[1]
PYTHONPATH = os.pathsep.join(str(REPOSITORY / name) for name in ("launcher", "jobs", "."))


def pytest_configure(config: pytest.Config) -> None:
    os.environ["PYTHONPATH"] = PYTHONPATH
    # A shell starts what it runs in the background with SIGINT ignored, and so would be what tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long an example takes is the machine's affair: tests run side by side, and look at results.
    settings.register_profile("jobrelay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("jobrelay")


@functools.cache
def why_no_cluster() -> tuple[str, str]:
    """The context that tests/cluster may use, and "" or why there is none."""
    if not shutil.which("kubectl"):
        return "", "kubectl is not on the PATH"
    context = os.environ.get("JOBRELAY_TEST_CONTEXT") or _kubectl("config", "current-context")
    if not context:
        return "", "no kubeconfig with a current context (make kind-up makes a cluster)"
    if not os.environ.get("JOBRELAY_TEST_CONTEXT") and not TEST_CONTEXTS.fullmatch(context):
        return "", f"context {context} may be somebody's cluster; name it: JOBRELAY_TEST_CONTEXT={context}"
    images = _kubectl("--context", context, "get", "nodes", "-o", "jsonpath={..images[*].names}")
    if images is None:
        return "", f"context {context} does not answer"
    if f'{IMAGE}"' not in images:  # a JSON list of names, so not jobrelay:0.1.0-gpu
        return "", f"image {IMAGE} is on no node of {context} (make image, and load it)"
    return context, ""


def _kubectl(*arguments: str) -> str | None:
    command = ["kubectl", "--request-timeout=10s", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(scope="session")
def cluster_context() -> str:
    """The context of a cluster that tests may use; without one the test is left out."""
    context, reason = why_no_cluster()
    if reason:
        pytest.skip(reason)
    return context


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = terminalreporter.stats.get("skipped", [])
    by_reason: dict[str, int] = {}
    for report in left_out:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        by_reason[reason.removeprefix("Skipped: ")] = by_reason.get(reason.removeprefix("Skipped: "), 0) + 1
    for reason, count in by_reason.items():
        terminalreporter.write_line(f"left out: {count} tests: {reason}")
