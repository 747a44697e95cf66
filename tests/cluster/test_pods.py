"""What our Pods may do, and that the one on the volume never stays."""

from __future__ import annotations

import signal
import time

from tests.support import PATIENCE, QUICK, Place, programs
from tests.support.kubectl import Kubectl

NEVER_FETCH = ("--run", "a", "--no-fetch")


def test_the_volume_pod_is_always_removed(place: Place, kubectl: Kubectl) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    place.run("fetch", "a")
    place.run("fetch", "b", expect=2)
    assert kubectl.wait_until(lambda: len(kubectl.items("pods")) == 1)


def test_an_interrupted_put_leaves_nothing(place: Place, kubectl: Kubectl) -> None:
    place.run("run", "train", "--run", "a", *QUICK)
    big = place.folder.parent / "big"
    big.mkdir()
    (big / "file").write_bytes(b"0123456789abcdef" * (64 * 2**20))
    process = place.start("put", str(big), "big")
    assert kubectl.wait_until(lambda: bool(kubectl.running_volume_pods()))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130

    (big / "file").write_bytes(b"small")
    place.run("put", str(big), "big")  # the name is free


PROBES = """
    import os, pathlib
    print("uid", os.getuid(), "gid", os.getgid())
    print("token", pathlib.Path("/var/run/secrets/kubernetes.io").exists())
    try:
        pathlib.Path("/here").touch()
    except OSError as error:
        print("root", error.strerror)
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    print("capabilities", int(status["CapEff"], 16), int(status["CapBnd"], 16))
    print("no new privileges", status["NoNewPrivs"])
    print("seccomp", status["Seccomp"])
    print("services", [name for name in os.environ if name.startswith("JOBRELAY_") and "_SERVICE_" in name])
"""


def test_row_59_probes_from_inside_the_pod(place: Place) -> None:
    result = place.run("run-all", "-k", str(programs(place.folder / "m", train=PROBES)), *NEVER_FETCH)
    assert "uid 10001 gid 10001" in result.err
    assert "token False" in result.err
    assert "root Read-only file system" in result.err
    assert "capabilities 0 0" in result.err
    assert "no new privileges 1" in result.err
    assert "seccomp 2" in result.err  # a filter
    assert "services []" in result.err  # and nobody tells what else is in the namespace


def test_row_59_no_stage_speaks_to_anybody(place: Place, kubectl: Kubectl) -> None:
    program = """
        import os, socket
        address = (os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"]))
        try:
            socket.create_connection(address, timeout=5)
            print("it answers")
        except OSError as error:
            print("nobody answers")
    """
    folder = programs(place.folder / "m", train="pass", eval=program)
    result = place.run("run-all", "-k", str(folder), *NEVER_FETCH)
    if "it answers" in result.err:
        kubectl.lacks("a network plugin that enforces NetworkPolicies")
    assert "nobody answers" in result.err


def test_row_59_an_image_by_its_digest(place: Place, kubectl: Kubectl) -> None:
    digests = [
        name
        for node in kubectl.items("nodes")
        for image in node["status"]["images"]
        if any(name.endswith("/jobrelay:0.1.0") for name in image["names"] or ())
        for name in image["names"]
        if "@sha256:" in name
    ]
    if not digests:
        kubectl.lacks("a digest of the image (it was loaded, not pulled)")
    result = place.run("run", "train", "--run", "a", "--image", digests[0], *QUICK)
    assert "epoch 1/1" in result.err


def test_row_57_what_is_no_regular_file_is_not_fetched(place: Place) -> None:
    program = """
        import os, pathlib
        folder = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "runs", os.environ["JOBRELAY_RUN"])
        (folder / "results").mkdir(parents=True)
        (folder / "results" / "passwd.png").symlink_to("/etc/passwd")
        os.mkfifo(folder / "results" / "fifo.png")
        (folder / "results" / "good.png").write_text("good")
        (folder / "results" / "up.png").symlink_to("../../../../..")
    """
    folder = programs(place.folder / "m", train=program)
    place.run("run", "train", "--run", "a", "-k", str(folder))
    home = place.folder / "runs/a"
    assert sorted(path.name for path in (home / "results").iterdir()) == ["good.png"]
    assert not any(path.is_symlink() for path in home.rglob("*"))
