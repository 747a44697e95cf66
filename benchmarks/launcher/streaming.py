"""How fast the launcher follows a log, compared with `kubectl logs -f`.

    .venv/bin/python -m benchmarks.launcher.streaming --context NAME [--image NAME] [--mb 30] [--pairs 3]

Each measurement has its own Pod, which prints `--mb` MB in lines of 100 bytes. A file starts it, once the
reader has received its first line. `kubectl logs -f` and `python launcher logs -f` take turns, both into a
pipe that only counts. The reader's CPU seconds per GB say more than its time, because the node prints and
stores the log with the same CPUs.

If the kubelet rotates the log in the meantime (by default at 10 MB, checked every 10 s), it may tear a line
or end the stream; kubectl then ends, too, while the launcher reconnects.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.report import REPOSITORY, finish, spread
from tests.support import Place, programs
from tests.support.kubectl import Kubectl

LINE = 100
PROGRAM = """
import os, pathlib, sys, time
print("ready", flush=True)
go = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "go-" + os.environ["JOBRELAY_RUN"])
while not go.exists():
    time.sleep(0.05)
line = b"x" * {width} + b"\\n"
for _ in range({lines} // 1000):
    sys.stdout.buffer.write(line * 1000)
sys.stdout.buffer.flush()
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--context", required=True)
    parser.add_argument("--image", default="jobrelay:0.1.0")
    parser.add_argument("--mb", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    kubectl = Kubectl(asked.context, f"jobrelay-bench-{secrets.token_hex(3)}")
    samples: dict[str, list[float]] = defaultdict(list)
    with TemporaryDirectory() as name:
        text = PROGRAM.format(width=LINE - 1, lines=asked.mb * 10**6 // LINE)
        folder = programs(Path(name) / "m", train=text)
        options = ["--context", asked.context, "-n", kubectl.namespace, "--image", asked.image]
        place = Place([*options, "-k", str(folder)], Path(name))
        try:
            for number in range(asked.pairs):
                for reader in ("kubectl", "launcher"):
                    megabytes, seconds, cpu = read(kubectl, place, reader, f"{reader}-{number}")
                    samples[reader].append(megabytes / seconds)
                    samples[f"{reader}_cpu"].append(cpu / megabytes * 1000)
                    samples[f"{reader}_lacks"].append(asked.mb - megabytes)
        finally:
            kubectl.delete_namespace()
    rows = [
        (f"kubectl logs -f of {asked.mb} MB, MB/s", spread(samples["kubectl"], 1), ""),
        (f"python launcher logs -f of {asked.mb} MB, MB/s", spread(samples["launcher"], 1), "≥ kubectl's"),
        ("what kubectl has not shown, MB", spread(samples["kubectl_lacks"], 2), ""),
        ("what the launcher has not shown, MB", spread(samples["launcher_lacks"], 2), ""),
        ("kubectl's CPU, s a GB", spread(samples["kubectl_cpu"], 1), ""),
        ("launcher's CPU, s a GB", spread(samples["launcher_cpu"], 1), ""),
    ]
    finish("streaming", rows, samples)


def read(kubectl: Kubectl, place: Place, reader: str, run: str) -> tuple[float, float, float]:
    """Return the MB received, seconds from first to last, and CPU seconds of the reader."""
    launcher = place.start("run", "train", "--run", run, "--no-fetch", "-q")
    assert kubectl.wait_until(
        lambda: "Running" in kubectl("get", "pods", "-l", f"jobrelay.dev/run={run}"), 60
    )
    pod = kubectl.pods_alive(run)[0]
    launcher.kill()  # the Job continues, and nothing else reads its log
    launcher.communicate()
    command = ["kubectl", "--context", kubectl.context, "-n", kubectl.namespace, "logs", "-f", pod]
    if reader == "launcher":
        command = [sys.executable, str(REPOSITORY / "launcher"), "logs", run, "train", "-f", *place.options]
    process = subprocess.Popen(command, cwd=place.folder, stdout=subprocess.PIPE)
    assert process.stdout
    out = process.stdout.fileno()
    received = os.read(out, 100)
    assert received == b"ready\n"
    kubectl("exec", pod, "--", "sh", "-c", "touch $JOBRELAY_VOLUME/go-$JOBRELAY_RUN")
    begun, bytes_read = 0.0, 0
    while chunk := os.read(out, 1 << 20):
        begun = begun if bytes_read else time.perf_counter()
        bytes_read += len(chunk)
    seconds = time.perf_counter() - begun
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return bytes_read / 10**6, seconds, usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
