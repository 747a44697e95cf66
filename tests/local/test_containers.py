"""The containers of a Pod: side by side, with their sidecars, as a kubelet runs them."""

from __future__ import annotations

from pathlib import Path

from tests.support import Object, Place, changed

WAITS_FOR_OTHER = """
import os, pathlib, time
mine, other = (pathlib.Path(os.environ["JOBRELAY_VOLUME"], name) for name in {names})
mine.touch()
while not other.exists():
    time.sleep(0.05)
print("both are there")
"""
BEATS = """
import itertools, os, pathlib, signal, sys, time
def end(*_):
    pathlib.Path(os.environ["JOBRELAY_VOLUME"], "ended").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
for number in itertools.count():
    pathlib.Path(os.environ["JOBRELAY_VOLUME"], "beat").write_text(str(number))
    time.sleep(0.05)
"""


def beside(spec: Object, name: str, program: str) -> Object:
    """Another container of the same kind as the stage's."""
    return {**spec["containers"][0], "name": name, "command": ["python", "-c", program]}


def test_containers_run_side_by_side(place: Place) -> None:
    def change(spec: Object, job: Object) -> None:
        spec["containers"].append(beside(spec, "other", WAITS_FOR_OTHER.format(names=("b", "a"))))
        spec["containers"][0]["command"] = ["python", "-c", WAITS_FOR_OTHER.format(names=("a", "b"))]

    folder = changed(place.folder / "m", change)
    result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")
    assert "train │ both are there" in result.err


def test_a_sidecar_runs_beside_the_stage_and_is_ended_after_it(place: Place, tmp_path: Path) -> None:
    """One that would never end by itself, and whose own end is no failure."""

    def change(spec: Object, job: Object) -> None:
        sidecar = {**beside(spec, "beats", BEATS), "restartPolicy": "Always"}
        first = beside(spec, "first", "print('init')")
        spec["initContainers"] = [sidecar, first]
        program = """
import os, pathlib, time
beat = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "beat")
while not beat.exists() or beat.read_text() in ("", "0", "1"):
    time.sleep(0.05)
print("it beats")
"""
        spec["containers"][0]["command"] = ["python", "-c", program]

    folder = changed(place.folder / "m", change)
    result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")
    assert "train │ it beats" in result.err
    assert (tmp_path / "volume/ended").exists()


def test_a_sidecar_that_ends_is_started_again(place: Place, tmp_path: Path) -> None:
    def change(spec: Object, job: Object) -> None:
        program = (
            "import os; open(os.environ['JOBRELAY_VOLUME'] + '/starts', 'a').write('x'); raise SystemExit(1)"
        )
        spec["initContainers"] = [{**beside(spec, "ends", program), "restartPolicy": "Always"}]
        program = """
import os, pathlib, time
starts = pathlib.Path(os.environ["JOBRELAY_VOLUME"], "starts")
while not starts.exists() or len(starts.read_text()) < 2:
    time.sleep(0.05)
"""
        spec["containers"][0]["command"] = ["python", "-c", program]

    folder = changed(place.folder / "m", change)
    place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch")


def test_a_failed_stage_names_itself_and_not_its_sidecar(place: Place) -> None:
    def change(spec: Object, job: Object) -> None:
        spec["terminationGracePeriodSeconds"] = 1
        stays = "import time; time.sleep(600)"
        spec["initContainers"] = [{**beside(spec, "stays", stays), "restartPolicy": "Always"}]
        spec["containers"][0]["command"] = ["python", "-c", "raise SystemExit(7)"]

    folder = changed(place.folder / "m", change)
    result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", expect=1)
    assert "exit code 7" in result.err


def test_a_failed_container_fails_the_pod_once_all_have_ended(place: Place, tmp_path: Path) -> None:
    def change(spec: Object, job: Object) -> None:
        ends = "import os, time; time.sleep(1); open(os.environ['JOBRELAY_VOLUME'] + '/ended', 'w')"
        spec["containers"].append(beside(spec, "other", ends))
        spec["containers"][0]["command"] = ["python", "-c", "raise SystemExit(7)"]

    folder = changed(place.folder / "m", change)
    result = place.run("run", "train", "--run", "a", "-k", str(folder), "--no-fetch", expect=1)
    assert "exit code 7" in result.err
    assert (tmp_path / "volume/ended").exists()


def test_nothing_is_written_outside_the_volume(place: Place, tmp_path: Path) -> None:
    """A mount path in a shell's program is that of the machine: the Job is refused before anything runs."""
    mount = tmp_path / "host" / "results"
    mount.mkdir(parents=True)

    def change(spec: Object, job: Object) -> None:
        mounts = spec["containers"][0]["volumeMounts"]
        mounts.append({"name": mounts[0]["name"], "mountPath": str(mount)})
        spec["containers"][0]["command"] = ["sh", "-c", f"echo a >> {mount}/out.txt"]

    folder = changed(place.folder / "m", change)
    result = place.run("run-all", "--run", "a", "-k", str(folder), "--no-fetch", expect=2)
    assert f"has the mount path {mount} in it" in result.err
    assert list(mount.iterdir()) == []
    assert place.run("list", "-o", "name").out == ""
