"""Images: names, command lines, archives and comparisons, without an engine or a cluster."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobrelay.api import Relay
from jobrelay.cli import main as cli
from jobrelay.errors import BadInput, EvidenceIncomplete, Exit, StageEnded
from jobrelay.images.comparing import Contender, Rounds, Sample, interleaved, sample_of
from jobrelay.images.engine import Engine, ToolFailed, engine_that_works, full_name, without_tag
from jobrelay.images.measuring import Weight, weigh
from jobrelay.images.report import METRICS, Compared, draw, ratio, rows, tree
from jobrelay.runs.report import RunReport, StageReport
from jobrelay.runs.target import Target
from jobrelay.verdicts import JobView, Verdict, judge
from jobrelay_runner.volume.record import parse_closing
from tests.support import objects as o
from tests.support.drawings import Drawing

# --- archives ---


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A tar of files and of symbolic links, in a folder that is in it, too."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("etc")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()


def manifest(*layers: str) -> bytes:
    return json.dumps([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": layers}]).encode()


LOWER = tar({"etc/a": b"a" * 1000, "etc/b": b"bb"}, {"etc/c": "a"})
UPPER = tar({"etc/.wh.b": b"", "etc/d": b"ddd"})


@pytest.mark.parametrize(
    "archive",
    [
        tar({"0/layer.tar": LOWER, "1/layer.tar": UPPER, "config.json": b"{}",
             "manifest.json": manifest("0/layer.tar", "1/layer.tar")}),
        tar({"manifest.json": manifest("blobs/sha256/0", "blobs/sha256/1"), "blobs/sha256/2": b'{"a": 1}',
             "blobs/sha256/0": LOWER, "blobs/sha256/1": UPPER, "oci-layout": b"{}"}),
        tar({"0/layer.tar": LOWER, "manifest.json": manifest("0/layer.tar", "1/layer.tar"), "x.tar": UPPER},
            {"1/layer.tar": "../x.tar"}),
    ],
    ids=["as docker, podman and buildah made it", "as docker makes it", "with a link"],
)  # fmt: skip
def test_the_weight_of_an_image(archive: bytes) -> None:
    compressed = sum(len(gzip.compress(layer, 6)) for layer in (LOWER, UPPER))
    weight = weigh(io.BytesIO(archive))
    assert weight == Weight(bytes_on_disk=1005, compressed_bytes=compressed, files=4, layers=2)


def test_a_layer_that_is_compressed_already_is_taken_as_it_is() -> None:
    packed = gzip.compress(LOWER, 1)
    archive = tar({"0": packed, "empty": bytes(1024), "manifest.json": manifest("0", "empty")})
    weight = weigh(io.BytesIO(archive))
    assert (weight.bytes_on_disk, weight.files, weight.layers) == (1002, 3, 2)
    assert weight.compressed_bytes == len(packed) + len(gzip.compress(bytes(1024), 6))


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        (b"", "cannot be read"),
        (b"no tar at all" * 100, "cannot be read"),
        (tar({"manifest.json": manifest("0"), "0": LOWER})[:4000], "cannot be read"),
        (tar({"manifest.json": manifest("0"), "0": gzip.compress(LOWER)[:-30]}), "cannot be read"),
        (tar({"0": LOWER}), "no manifest.json"),
        (tar({"manifest.json": b"[{}]"}), "manifest.json cannot be read"),
        (tar({"manifest.json": b"[]"}), "holds 0 images"),
        (tar({"manifest.json": manifest("0"), "0": b"\x28\xb5\x2f\xfd zstd"}), "layer 0 .* in none of"),
        (tar({"manifest.json": manifest("0")}), "layer 0"),
    ],
)  # fmt: skip
def test_what_is_no_archive_of_an_image(archive: bytes, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        weigh(io.BytesIO(archive))


# --- engines ---


@pytest.mark.parametrize(
    ("image", "full"),
    [
        ("jobrelay:0.1.0", "docker.io/library/jobrelay:0.1.0"),
        ("me/jobrelay", "docker.io/me/jobrelay"),
        ("localhost/jobrelay:1", "localhost/jobrelay:1"),
        ("registry.example.org/me/jobrelay:1", "registry.example.org/me/jobrelay:1"),
        ("127.0.0.1:5000/jobrelay", "127.0.0.1:5000/jobrelay"),
    ],
)
def test_the_full_name_of_an_image(image: str, full: str) -> None:
    assert full_name(image) == full


@pytest.mark.parametrize(
    ("reference", "name"),
    [("r:5000/a/b:1", "r:5000/a/b"), ("r:5000/a/b", "r:5000/a/b"), ("r/a@sha256:0", "r/a"), ("a:1", "a")],
)
def test_a_reference_without_its_tag(reference: str, name: str) -> None:
    assert without_tag(reference) == name


Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Puts a program on the PATH, alone, that writes its arguments down, one call a line."""
    calls = tmp_path / "calls"

    def put(name: str, script: str = "") -> Path:
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {calls}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return calls

    monkeypatch.setattr("jobrelay.images.engine.ENGINES", ("docker",))
    return put


def test_a_docker_without_its_daemon_is_passed_over(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrelay.images.engine.ENGINES", ("docker", "podman"))
    fake("docker", "echo 'Cannot connect to the daemon' >&2; exit 1")
    fake("podman")
    assert engine_that_works(None) == Engine("podman")
    with pytest.raises(BadInput, match=r"(?s)`docker version` ended with exit code 1:\n.*Cannot connect"):
        engine_that_works("docker")


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        (["load", "a:1", "--kind", "lab"], "kind load docker-image docker.io/library/a:1 --name lab"),
        (["load", "a:1", "--containerd", "/s"], "ctr --address /s --namespace k8s.io images import -"),
        (["build", "slim"], "docker build -t docker.io/library/jobrelay:0.1.0 -f"),
        (["build", "gpu"], "docker build --build-arg TORCH=cuda -t docker.io/library/jobrelay:0.1.0-gpu -f"),
        (["build", "bulky", "--", "--build-arg", "BASE=b"],
         "docker build --build-arg BASE=b -t docker.io/library/jobrelay-bulky:0.1.0 -f"),
    ],
)  # fmt: skip
def test_what_the_tools_are_told(fake: Fake, arguments: Sequence[str], called: str) -> None:
    for tool in ("docker", "kind", "ctr"):
        calls = fake(tool)
    assert cli.main(["images", *arguments]) == 0
    assert any(line.startswith(called) for line in calls.read_text().splitlines())


def test_containerd_is_given_the_archive(fake: Fake, tmp_path: Path) -> None:
    fake("docker", f'[ "$1" = save ] && cat {tmp_path / "archive"}; exit 0')
    fake("ctr", f"cat > {tmp_path / 'copy'}")
    (tmp_path / "archive").write_bytes(bytes(200_000))
    assert cli.main(["images", "load", "a:1", "--containerd"]) == 0
    assert (tmp_path / "copy").read_bytes() == bytes(200_000)


def test_a_stream_that_breaks_off_is_the_fault_of_who_writes_it(fake: Fake) -> None:
    fake("docker", 'if [ "$1" = save ]; then printf half; echo "no space left" >&2; exit 3; fi')
    told = r"(?s)`docker save docker.io/library/a:1` .* 3:\n.*no space left"
    with pytest.raises(ToolFailed, match=told), Engine("docker").archive("a:1") as archive:
        weigh(archive)


def test_who_writes_is_not_waited_for_when_who_reads_fails(fake: Fake) -> None:
    fake("docker", 'if [ "$1" = save ]; then exec cat /dev/zero; fi')
    fake("ctr", "exit 1")
    begun = time.monotonic()
    assert cli.main(["images", "load", "a:1", "--containerd"]) == 1
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["load", "a:1"], "images load needs one target"),
        (["load", "a:1", "--kind", "a", "--containerd", "b"], "images load needs one target"),
        (["load", "A:1", "--kind", "a"], "image 'A:1' cannot be an image's name"),
        (["push", "a:1", "a:2"], "a:2 names no registry"),
        (["push", "a:1", "r.org/a@sha256:" + 64 * "0"], "names no registry"),
        (["compare", "a:1", "a:2", "--local"], "images are compared on a cluster"),
        (["compare", "a:1", "a:2", "--image", "b"], "--image: the two images are named by themselves"),
        (["compare", "a:1", "a:2=B"], "image 'B' cannot be an image's name"),
        (["compare", "a:1", "a:1"], "the same image twice"),
        (["compare", "a:1", "a:2", "--name", "A"], "--name 'A': must be lower-case letters"),
        (["compare", "a:1", "a:2", "--set", "model.name=cnn"], "model cnn takes images"),
    ],
)
def test_what_is_refused(
    fake: Fake, arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake("docker")
    assert cli.main(["images", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert not calls.exists()  # before anything is touched


# --- comparisons ---

SLIM, BULKY = Contender("slim:1", "slim:1"), Contender("bulky:1", "r.org/bulky:1")


def sample(seconds: float) -> Sample:
    return Sample(seconds, 2 * seconds, 3.0, 2**28, "cgroup")


def compared(contender: Contender, weight: Weight, *seconds: float) -> Compared:
    return Compared(contender, weight, [sample(each) for each in seconds])


FIRST = compared(SLIM, Weight(800 << 20, 250 << 20, 17000, 4), 1.0, 5.0, 2.0)
SECOND = compared(BULKY, Weight(8000 << 20, 4000 << 20, 50000, 7), 4.0, 4.0, 8.0)


def test_a_contender() -> None:
    assert Contender.parse("a:1") == Contender("a:1", "a:1")
    assert Contender.parse("a:1=r.org/a:1") == Contender("a:1", "r.org/a:1")


def test_the_images_take_turns() -> None:
    order, said = [], list[str]()

    def measure(contender: Contender, run: str) -> Sample:
        order.append(run)
        return sample(len(order))

    found = interleaved([SLIM, BULKY], 3, "x", measure, said.append)

    assert order == ["x-a1", "x-b1", "x-b2", "x-a2", "x-a3", "x-b3"]
    assert [each.seconds_to_first_batch for each in found[SLIM]] == [1, 4, 5]
    assert [each.seconds_to_first_batch for each in found[BULKY]] == [2, 3, 6]
    assert len(said) == 6


def test_the_way_out_is_not_one_that_a_comparison_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["images", "compare", "a:1", "b:1"]) == 2
    assert "--local" not in capsys.readouterr().err

    def not_there(*_: object) -> None:
        raise StageEnded(Exit.COULD_NOT_START, "ErrImagePull", "name another one with --image")

    monkeypatch.setattr(Relay, "carry_out", not_there)
    config = Target(local=True).config(None, [])
    with pytest.raises(StageEnded) as raised:
        Rounds(Target(local=True, volume=tmp_path), config, "x", tmp_path).run(SLIM, "x-a1")
    assert str(raised.value.hint).endswith(f"images load {SLIM.runs_as}")


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cluster that runs nothing: every round is a line beside the calls of `fake`."""

    def run(_: Rounds, contender: Contender, run: str) -> Sample:
        with (tmp_path / "calls").open("a") as calls:
            calls.write(f"run {contender.image}\n")
        return sample(1.0)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Rounds, "run", run)
    monkeypatch.setattr(Target, "executor", lambda _: SimpleNamespace(place=lambda: "here"))
    return tmp_path


def test_what_takes_minutes_comes_last(fake: Fake, rounds: Path) -> None:
    calls = fake("docker", f'[ "$1" = save ] && cat {rounds / "archive"}; exit 0')
    (rounds / "archive").write_bytes(tar({"0": LOWER, "manifest.json": manifest("0")}))
    assert cli.main(["images", "compare", "a:1", "b:1", "--runs", "1", "--name", "x"]) == 0
    assert calls.read_text().splitlines() == [
        "docker image inspect docker.io/library/a:1",
        "docker image inspect docker.io/library/b:1",
        "run a:1",
        "run b:1",
        "docker save docker.io/library/a:1",
        "docker save docker.io/library/b:1",
    ]
    assert (rounds / "comparisons/x/comparison.svg").exists()


def test_nothing_is_run_for_an_image_that_cannot_be_weighed(
    fake: Fake, rounds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake("docker", 'case "$*" in *b:1) exit 1;; esac')
    assert cli.main(["images", "compare", "a:1", "b:1"]) == 2
    assert "image docker.io/library/b:1 is not here (looked in docker)" in capsys.readouterr().err
    assert "run" not in calls.read_text()
    assert not (rounds / "comparisons").exists()


def report(status: str, timeline: dict[str, str]) -> RunReport:
    job = o.job("train", o.condition(status))
    pod = o.pod(job, "Succeeded" if status == "Complete" else "Failed")
    verdict = judge(JobView(job, [pod]))
    assert isinstance(verdict, Verdict)
    said = parse_closing(o.closing())
    stage = StageReport("train", verdict, "created", said, 1.0, "2Gi", True, 1, True, timeline)
    return RunReport("a", "here", Path("x"), [stage])


def test_a_sample_is_taken_of_a_run_that_succeeded() -> None:
    timeline = {"pod_created": "2026-11-21T14:22:33Z", "first_batch": "2026-11-21T14:22:37.250Z"}
    found = sample_of(report("Complete", timeline))

    cost = parse_closing(o.closing()).cost  # type: ignore[union-attr]
    assert found == Sample(
        4.25, cost.wall_seconds, cost.cpu_seconds, cost.peak_memory_bytes, cost.peak_memory_from
    )
    with pytest.raises(EvidenceIncomplete, match="train of run a did not report"):
        sample_of(report("Complete", {}))
    with pytest.raises(StageEnded, match=r"train could not start: .*: Error"):
        sample_of(report("Failed", timeline))


def test_a_row_a_metric() -> None:
    found = {row[0]: row[1:] for row in rows(FIRST, SECOND)}
    assert found["bytes on disk"] == ["800 MiB", "7.8 GiB", "0.10"]
    assert found["layers"] == ["4", "7", "0.57"]
    assert found["Pod to first batch"] == ["2.0 s (1.0 s … 5.0 s)", "4.0 s (4.0 s … 8.0 s)", "0.50"]
    assert len(found) == len(METRICS)


@pytest.mark.parametrize(("first", "second", "expected"), [(0, 0, 1.0), (5, 0, float("inf")), (0, 5, 0.0)])
def test_a_ratio_where_something_is_nothing(first: int, second: int, expected: float) -> None:
    a, b = (compared(SLIM, Weight(files=count), 1.0) for count in (first, second))
    metric = next(metric for metric in METRICS if metric.label == "files")
    assert ratio(metric, a, b) == expected


def test_all_of_it_for_machines() -> None:
    found = json.loads(json.dumps(tree("x", "there", [FIRST, SECOND])))
    assert [image["runs_as"] for image in found["images"]] == ["slim:1", "r.org/bulky:1"]
    assert found["images"][0]["compressed_bytes"] == 250 << 20
    assert [run["seconds_to_first_batch"] for run in found["images"][1]["runs"]] == [4.0, 4.0, 8.0]


def test_the_picture_is_the_same_whenever_it_is_drawn(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        paths = draw(FIRST, SECOND, tmp_path)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]
    assert contents[0][0].startswith(b"<svg")


def test_the_picture_has_a_pair_of_bars_a_metric(tmp_path: Path) -> None:
    path, *_ = draw(FIRST, SECOND, tmp_path)
    drawing = Drawing(path.read_text())
    bars = drawing.all("rect", "first"), drawing.all("rect", "second")
    assert [len(each) for each in bars] == [len(METRICS) + 1] * 2  # and the legend
    assert {"slim:1", "bulky:1", "bytes on disk", "800 MiB", "7.8 GiB"} <= set(drawing.texts())
    _, *lengths = [float(bar.attrib["width"]) for bar in bars[1]]
    assert len(set(lengths)) == 1  # it is what the others are compared with
    assert float(bars[0][1].attrib["width"]) == pytest.approx(lengths[0] * 800 / 8000, abs=2)
    assert len(drawing.all("line", "range")) == 4
    drawing.check()


def test_the_longest_names_and_bars_stay_in_the_picture(tmp_path: Path) -> None:
    image = compared(Contender("registry.example.org/team/" + "a" * 200 + ":1", "a:1"), Weight(files=1), 1.0)
    drawing = Drawing(draw(FIRST, image, tmp_path)[0].read_text())
    assert len(next(text for text in drawing.texts() if "…" in text)) < 60
    drawing.check()


def test_a_comparison_without_matplotlib(
    fake: Fake, rounds: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    fake("docker", f'[ "$1" = save ] && cat {rounds / "archive"}; exit 0')
    (rounds / "archive").write_bytes(tar({"0": LOWER, "manifest.json": manifest("0")}))
    assert cli.main(["images", "compare", "a:1", "b:1", "--runs", "1", "--name", "x"]) == 0
    folder = rounds / "comparisons/x"
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "comparison.svg"}
    said = capsys.readouterr().err
    assert "comparison.json, .svg and the runs are in" in said
    assert said.count("pip install 'jobrelay[plots]'") == 1
