"""What the local executor needs of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from jobrelay.executors.base import Finding
from jobrelay.executors.local.job_folder import OTHER_FOLDER, unwritable
from jobrelay.executors.local.layout import WORKING_FOLDER
from jobrelay.kube.objects import Job
from jobrelay.kube.quantities import parse_quantity
from jobrelay.kube.read import main_container
from jobrelay.manifests import Manifests
from jobrelay.resources import install_command, missing_for_training
from jobrelay_runner.text.counting import counted

_DISK_BYTES = 2 * 2**30


def examine_machine(root: Path, manifests: Manifests) -> list[Finding]:
    """Check Python, torch, memory, threads and disk."""
    return [_python(), _torch(), _memory(manifests), _threads(), _disk(root)]


def has_memory_for(job: Job) -> bool:
    """Whether as much memory as the Job may use is free now; False if the machine does not report it."""
    try:
        meminfo = Path("/proc/meminfo").read_text()
    except OSError:
        return False
    found = re.search(r"^MemAvailable: +(\d+) kB$", meminfo, re.MULTILINE)
    limit = parse_quantity(main_container(job).get("resources", {}).get("limits", {}).get("memory", 0))
    return found is not None and int(found[1]) * 1024 >= limit


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info) < (3, 11):
        return Finding("Python", "fail", version, "use Python 3.11 or newer")
    return Finding("Python", "ok", version)


def _torch() -> Finding:
    if missing := missing_for_training():
        return Finding("torch", "fail", f"not installed: {', '.join(missing)}", install_command("train"))
    version = importlib.metadata.version("torch")
    # in a separate process, like a stage: the launcher never imports torch
    program = "import torch; print(torch.cuda.device_count(), torch.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=WORKING_FOLDER
    )
    if done.returncode:
        reason = (
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"
        )
        return Finding("torch", "fail", f"{version} does not import: {reason}", "rm -r .venv; make install")
    devices, threads = done.stdout.split()
    return Finding(
        "torch", "ok", f"{version}, {counted(int(threads), 'thread')}, {counted(int(devices), 'CUDA device')}"
    )


def _memory(manifests: Manifests) -> Finding:
    limits = (main_container(job).get("resources", {}).get("limits", {}) for job in manifests.jobs.values())
    needed = max((parse_quantity(limit.get("memory", 0)) for limit in limits), default=0)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = f"{total / 2**30:.1f} GiB, the largest stage may use {needed / 2**30:.1f} GiB"
    if total < needed:
        return Finding("memory", "warn", found, "smaller batches: --set train.batch_size=…")
    return Finding("memory", "ok", found)


def _threads() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    if asked and asked.isdigit() and int(asked) > usable:
        return Finding(
            "threads",
            "warn",
            f"OMP_NUM_THREADS={asked} on {counted(usable, 'core')}",
            "unset OMP_NUM_THREADS",
        )
    return Finding("threads", "ok", counted(usable, "core"))


def _disk(root: Path) -> Finding:
    if why := unwritable(root):
        return Finding("volume", "fail", f"{root}: {why}", OTHER_FOLDER)
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    if not free:
        return Finding("volume", "fail", f"{root} is full", f"make room on it, or {OTHER_FOLDER}")
    found = f"{root}: {free / 2**30:.1f} GiB free"
    if free < _DISK_BYTES:
        return Finding("volume", "warn", found, "free some, or choose another folder with --volume")
    return Finding("volume", "ok", found)
