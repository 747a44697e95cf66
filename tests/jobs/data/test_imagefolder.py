"""Image folders: classes and parts, what is left out or refused, the cache, the stages on real clothes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jobrelay_runner.errors import BadInput, Failed
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.volume.layout import part_of
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train.config.loading import validate
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.images import cache_bound, image_cache
from jobrelay_train.data.images.decoding import Unusable, read_image
from jobrelay_train.data.images.image_cache import decoded
from jobrelay_train.data.images.image_files import list_files, read_files
from jobrelay_train.data.registry import load
from jobrelay_train.data.split import Rows, Split
from jobrelay_train.inference.figures import picture_name
from jobrelay_train.train import train
from tests.support.volume import REPOSITORY, Place, png_of, stop_and_resume

CLASSES = ("bottomwear", "dress", "footwear", "handbag", "topwear")
CLOTHES = ("data.name=imagefolder", "data.folder=data/clothes", "train.epochs=2", "train.batch_size=16")
SHAPE = (3, 64, 64)


@pytest.fixture(scope="session")
def clothes_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five folders with 24 clothes each; not to be changed."""
    folder = tmp_path_factory.mktemp("clothes") / "clothes"
    program = REPOSITORY / "tools" / "make_clothes.py"
    subprocess.run([sys.executable, str(program), str(folder), "--per-class", "24"], check=True)
    return folder


@pytest.fixture
def clothes(tmp_path: Path, clothes_once: Path) -> Path:
    """The same on a volume, for the test alone."""
    return Path(shutil.copytree(clothes_once, tmp_path / "volume" / "data" / "clothes"))


@pytest.fixture
def place(clothes: Path) -> Place:
    return Place(clothes.parents[1], settings=(*CLOTHES, "model.name=cnn"))


def _config(**data: Any) -> RunConfig:
    return validate({"data": {"name": "imagefolder", "folder": "data/clothes", **data}})


def _load(clothes: Path, **data: Any) -> Split:
    return load(_config(**data), "train", clothes.parents[1])


def _picture(path: Path, *size: int, colour: tuple[int, ...] = (200, 30, 40), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size or (40, 30), colour).save(path, **options)
    return path


# --- classes and parts ---


def test_folders_are_classes_and_every_file_is_in_one_part(clothes: Path) -> None:
    train, test = (load(_config(), split, clothes.parents[1]) for split in ("train", "test"))  # type: ignore[arg-type]
    assert train.validation is not None
    parts = (train, train.validation, test)

    assert all(part.class_names == CLASSES for part in parts)
    names = [name for part in parts for name in part.names or ()]
    assert sorted(names) == list_files(clothes)
    assert len(train) > 80 > 30 > len(train.validation) > 3 < len(test) < 30
    for part in parts:
        assert part.images.shape == (len(part), *SHAPE)
        assert [CLASSES[label] for label in part.labels.tolist()] == [
            name.split("/")[0] for name in part.names or ()
        ]
        assert [path.relative_to(clothes).as_posix() for path in part.files] == list(part.names or ())
    name = (test.names or ())[3]
    assert torch.equal(test.images[3:4][0], read_image(clothes, name, SHAPE))


@given(st.text(min_size=1), st.integers(0, 2**32 - 1))
def test_the_part_of_a_file_depends_on_its_name_and_the_seed(name: str, seed: int) -> None:
    assert part_of(name, seed) == part_of(name, seed) in ("train", "val", "test")


def test_eight_of_ten_are_learnt_from_and_another_seed_divides_anew() -> None:
    names = [f"dress/{number}.png" for number in range(10_000)]
    counts = Counter(part_of(name, 0) for name in names)

    assert counts["train"] == pytest.approx(8000, abs=150)
    assert counts["val"] == pytest.approx(1000, abs=100)
    assert sum(part_of(name, 0) != part_of(name, 1) for name in names) > 2000


def test_a_folder_that_is_divided_under_other_names_is_learnt_by_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, files in {"Training": 4, "Testing": 2}.items():
        for kind in ("glioma", "healthy"):
            for number in range(files):
                _picture(tmp_path / "data/clothes" / part / kind / f"{number}.png")

    data = _load(tmp_path / "data/clothes")

    assert data.class_names == ("glioma", "healthy")
    assert len(data) == 8
    out = capsys.readouterr().out
    assert "2 classes: glioma 6, healthy 6\n" in out
    assert "divided by its folders: Testing/ (test), Training/ (train)\n" in out
    assert "warning" not in out


def test_two_classes_that_may_be_parts_are_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("train", "bus"):  # a vehicle each, or the images of a part that nobody has sorted
        for number in range(20):
            _picture(tmp_path / "data/clothes" / kind / f"{number}.png")

    assert _load(tmp_path / "data/clothes").class_names == ("bus", "train")
    assert "warning: the only two classes are bus/, train/: if they are parts" in capsys.readouterr().out


def test_a_name_in_two_spellings_of_unicode_is_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Röcke") for form in ("NFC", "NFD"))
    for folder in (composed, decomposed, "dress"):
        for number in range(40):
            _picture(tmp_path / "data/clothes" / folder / f"é{number}.png", colour=(len(folder), number, 0))

    data = _load(tmp_path / "data/clothes")
    assert data.class_names == (composed, "dress")
    assert data.validation
    test = load(_config(), "test", tmp_path)
    assert len(data) + len(data.validation) + len(test) == 120
    assert all(unicodedata.is_normalized("NFC", name) for name in data.names or ())
    assert all(path.is_file() for path in data.files)


def test_a_class_of_one_image_is_refused(clothes: Path) -> None:
    _picture(clothes / "scarf" / "only.png")

    with pytest.raises(BadInput, match=r"class scarf has 1 usable image, [01] of them to train on"):
        _load(clothes)


def test_a_class_that_is_only_tested_is_refused(tmp_path: Path) -> None:
    for part, kinds in {"train": "ab", "test": "abc"}.items():
        for kind in kinds:
            for number in range(2):
                _picture(tmp_path / "data" / "clothes" / part / kind / f"{number}.png")

    with pytest.raises(BadInput, match="class c has 2 usable images, 0 of them to train on"):
        _load(tmp_path / "data" / "clothes")


def test_a_folder_that_is_empty_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is missing; put .* on the volume as data/clothes"):
        _load(tmp_path / "data" / "clothes")
    (tmp_path / "data" / "clothes" / "dress").mkdir(parents=True)
    with pytest.raises(BadInput, match="holds no files"):
        _load(tmp_path / "data" / "clothes")


# --- files ---


def _break(clothes: Path) -> dict[str, str]:
    """Add files that are of no use; what is to be said of each."""
    whole = _picture(clothes / "dress" / "whole.jpg", 400, 300)
    (clothes / "dress" / "cut.jpg").write_bytes(whole.read_bytes()[:-700])
    (clothes / "dress" / "empty.png").touch()
    (clothes / "dress" / "no\timage.png").write_text("x")
    (clothes / "notes.txt").write_text("these are clothes")
    (clothes / "handbag" / "list.csv").write_text("a,b")
    (clothes / "dress" / "huge.png").write_bytes(png_of(20_000, 20_000))
    return {
        "dress/cut.jpg": "it is damaged: image file is truncated",
        "dress/empty.png": "it is empty",
        "'dress/no\\timage.png'": "`put` would not copy a file of this name",
        "notes.txt": "it is in no class's folder",
        "handbag/list.csv": "it is text; PNG, JPEG, ",
        "dress/huge.png": "it has 20000 x 20000 pixels, which take 1,526 MiB to decode; 512 MiB is the most",
    }


def test_files_of_no_use_are_counted_named_and_left_out(
    clothes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _break(clothes)

    data = _load(clothes)

    assert data.skipped.keys() == expected.keys()
    assert all(data.skipped[name].startswith(why) for name, why in expected.items())
    out = capsys.readouterr().out
    assert "skipped dress/empty.png: it is empty" in out
    assert "skipped 6 of 127 files" in out


def test_more_of_them_than_may_be_are_refused_by_name(clothes: Path) -> None:
    _break(clothes)

    with pytest.raises(
        BadInput,
        match=r"6 of 127 files cannot be used, and the limit is 5 .*skip_limit.*dress/cut\.jpg: it is",
    ):
        _load(clothes, skip_limit=5)


def test_a_folder_without_a_single_image_is_refused(tmp_path: Path) -> None:
    for kind in "ab":
        path = tmp_path / "data" / "clothes" / kind / "x.png"
        path.parent.mkdir(parents=True)
        path.write_text("no image")

    with pytest.raises(BadInput, match="no usable image in 2 files"):
        _load(tmp_path / "data" / "clothes")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_images_of_every_kind_become_rgb_squares(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    pixels = numpy.full((300, 100), 250, numpy.uint8)
    image = (
        Image.fromarray(pixels.astype(numpy.uint16) * 256)
        if mode == "I;16"
        else Image.fromarray(pixels).convert(mode)
    )
    image.save(tmp_path / name)

    found = read_image(tmp_path, name, SHAPE)

    assert (found.shape, found.dtype) == (SHAPE, torch.uint8)
    assert found.float().mean() > 240  # bright it stays, and what fills it up to a square has its colour


def test_colours_proportions_and_orientation_are_kept(tmp_path: Path) -> None:
    pixels = numpy.zeros((60, 120, 3), numpy.uint8)
    pixels[:, :60] = (255, 0, 0)  # the left half is red, the right half blue
    pixels[:, 60:] = (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by a quarter against the clock: red comes to the bottom
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)

    red, green, blue = read_image(tmp_path, "a.png", SHAPE).int()

    assert red[50, 32] > 250 > 5 > blue[50, 32]
    assert blue[14, 32] > 250 > 5 > red[14, 32]
    assert int(green.max()) < 10
    assert abs(int(red[32, 2]) - 127) < 10  # the ground has the mean colour of the border


def test_an_rgb_image_of_the_very_size_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), numpy.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    assert torch.equal(read_image(tmp_path, "a.png", SHAPE).permute(1, 2, 0), torch.from_numpy(pixels))


def test_an_image_of_400_million_pixels_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "huge.png").write_bytes(png_of(20_000, 20_000))

    with pytest.raises(Unusable, match="20000 x 20000 pixels"):
        read_image(tmp_path, "huge.png", SHAPE)


def test_more_images_than_there_is_memory_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrelay_train.data.images.image_files.memory_bytes", lambda: 40_000_000)

    with pytest.raises(BadInput, match=r"1,000 images of 64 x 64 take 12 MiB, and 10 MiB can be used"):
        read_files(tmp_path, ["a.png"], 1000, SHAPE)


# --- the cache ---


def _decoded(clothes: Path, size: int = 64) -> image_cache.Decoded:
    return decoded(clothes, list_files(clothes), size)


def _caches(clothes: Path) -> list[str]:
    return sorted(path.suffix for path in (clothes / ".cache").iterdir())


def test_files_are_decoded_once(clothes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = _decoded(clothes)
    assert "decoding 120 files of clothes, once, to 64 x 64 pixels" in capsys.readouterr().out
    again = _decoded(clothes)

    assert capsys.readouterr().out == ""
    assert torch.equal(again.images, first.images)
    assert again.images.is_contiguous(memory_format=torch.channels_last)  # as the convolutions take it
    assert (again.names, again.digests, again.skipped) == (first.names, first.digests, first.skipped)
    assert _caches(clothes) == ["", ".json", ".json", ".lock", ".pixels"]
    assert list_files(clothes) == list(first.names)  # the cache is none of the images


def test_files_that_are_as_they_were_are_not_read_again(
    clothes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "_TICK_NS", -(10**12))  # that they are new does not matter
    before = _decoded(clothes)
    name = before.names[7]
    monkeypatch.setattr(image_cache.FileDigest, "of", lambda path: pytest.fail(f"{path} was read"))
    monkeypatch.setattr(image_cache, "matches", lambda path, digest: True)
    assert _decoded(clothes).digests == before.digests

    monkeypatch.undo()
    times = (clothes / name).stat()
    content = bytearray((clothes / name).read_bytes())
    content[-20] ^= 1
    (clothes / name).write_bytes(content)
    os.utime(clothes / name, ns=(times.st_atime_ns, times.st_mtime_ns))  # as if nothing had happened
    assert _decoded(clothes).digests[name] != before.digests[name]


def _one_name_less(path: Path) -> None:
    index = json.loads(path.with_suffix(".json").read_text())
    index["skipped"] = {index["names"].pop(): "somebody says so"}
    path.with_suffix(".json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".json").write_text("{}"),
        _one_name_less,
    ],
    ids=["other-pixels", "cut", "gone", "no-index", "other-index"],
)
def test_a_damaged_cache_is_made_anew(clothes: Path, harm: Callable[[Path], None]) -> None:
    expected = _decoded(clothes).images.clone()
    (pixels,) = (clothes / ".cache").glob("*.pixels")
    harm(pixels)

    assert torch.equal(_decoded(clothes).images, expected)


def test_a_volume_that_does_not_answer_is_tried_again(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(path: Path) -> FileDigest:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(FileDigest, "of", silent)

    with pytest.raises(Failed, match=r"cannot use .*\.png: Input/output error; this may pass"):
        _decoded(clothes)


def test_another_size_or_other_files_have_a_cache_of_their_own(clothes: Path) -> None:
    _decoded(clothes)
    assert _decoded(clothes, size=32).images.shape == (120, 3, 32, 32)
    assert _caches(clothes).count(".pixels") == 2
    _picture(clothes / "dress" / "new.png")
    assert len(_decoded(clothes).names) == 121
    assert _caches(clothes).count(".pixels") == 3


def _elsewhere(clothes: Path, size: int) -> subprocess.Popen[str]:
    """Another process that decodes, says so, and ends with its stdin."""
    program = f"""
import sys
from pathlib import Path
from jobrelay_train.data.images.image_cache import decoded
from jobrelay_train.data.images.image_files import list_files
folder = Path({str(clothes)!r})
found = decoded(folder, list_files(folder), {size})
print("mapped", flush=True)
sys.stdin.read()
print(int(found.images.sum()), flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    assert process.stdout
    assert any(line == "mapped\n" for line in process.stdout)
    return process


def _before(clothes: Path, size: int) -> None:
    """Decode as a process that has ended: its locks are gone with it."""
    _decoded(clothes, size)
    while cache_bound._held:
        os.close(cache_bound._held.popitem()[1])


def test_the_cache_keeps_what_was_used_last_and_what_is_in_use(
    clothes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = _elsewhere(clothes, 16)
    for size in (17, 18, 19):
        _before(clothes, size)
    sizes = {_side(path): path for path in (clothes / ".cache").glob("*.pixels")}
    assert sorted(sizes) == [16, 17, 18, 19]
    for age, size in ((400, 16), (100, 17), (300, 18), (200, 19)):  # seconds since each was used
        path = sizes[size].with_suffix(".json")
        os.utime(path, times=(path.stat().st_mtime - age,) * 2)
    (clothes / ".cache" / "orphan.pixels").write_bytes(b"half")  # of one that was killed while it removed

    _decoded(clothes, size=20)

    left = sorted(_side(path) for path in (clothes / ".cache").glob("*.pixels"))
    assert left == [16, 17, 19, 20]  # 16 is the oldest, and in use
    assert "removed the least recently used 2 entries of the image cache" in capsys.readouterr().out
    out, _ = used.communicate()
    assert int(out) == int(_decoded(clothes, size=16).images.sum())


def _side(pixels: Path) -> int:
    return round((pixels.stat().st_size / 120 / 3) ** 0.5)


def test_where_the_volume_is_full_other_entries_make_room(
    clothes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _before(clothes, 16)
    _before(clothes, 17)
    free = {2: 0, 1: 0, 0: 10**9}  # bytes, by the number of entries
    monkeypatch.setattr(
        cache_bound.shutil,
        "disk_usage",
        lambda cache: SimpleNamespace(free=free[len([*cache.glob("*.pixels")])]),
    )

    _decoded(clothes, size=18)

    assert [_side(path) for path in (clothes / ".cache").glob("*.pixels")] == [18]


def test_where_there_are_no_locks_nothing_is_removed(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unknown)
    for size in range(16, 24):
        _decoded(clothes, size)

    assert _caches(clothes).count(".pixels") == 8


def test_remains_of_a_killed_process_are_cleared(clothes: Path) -> None:
    (clothes / ".cache").mkdir()
    remains = clothes / ".cache" / "0123.pixels.89ab.partial"
    remains.write_bytes(b"half")

    _decoded(clothes)

    assert not remains.exists()


def test_stages_that_come_at_once_decode_once(clothes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[torch.Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(_decoded(clothes).images)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(found) == 3
    assert all(torch.equal(images, found[0]) for images in found)
    assert capsys.readouterr().out.count("decoding ") == 1


def test_a_file_that_changes_under_it_is_told(clothes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changing(folder: Path, name: str, shape: Any) -> torch.Tensor:
        if name.startswith("dress/"):
            (folder / name).write_bytes(b"another one")
        return torch.zeros(shape, dtype=torch.uint8)

    monkeypatch.setattr(image_cache, "read_image", changing)

    with pytest.raises(Failed, match=r"dress/.* was changed while it was read"):
        _decoded(clothes)
    assert not list((clothes / ".cache").glob("????*-*.json"))


def test_rows_are_used_as_the_tensor_of_them() -> None:
    images = torch.arange(40, dtype=torch.uint8).view(10, 1, 2, 2)
    rows = Rows(images, torch.tensor([7, 1, 4]))

    assert (rows.shape, len(rows)) == ((3, 1, 2, 2), 3)
    assert torch.equal(rows[1:], images[[1, 4]])
    assert torch.equal(rows[torch.tensor([2, 0])], images[[4, 7]])
    assert rows.to(torch.device("cpu")) is rows


# --- names of pictures ---


def test_pictures_are_named_for_their_files() -> None:
    taken: set[str] = set()
    named = [
        ("topwear/Größe 写真.jpg", "dress", "Größe 写真_dress.png"),
        ("dress/a.png", "dress", "a_dress.png"),
        ("handbag/a.jpeg", "dress", "a-2_dress.png"),
        ("handbag/A.jpeg", "dress", "A-3_dress.png"),  # the same file, on some machines
        ("x.png", "T-shirt/top", "x_T-shirt-top.png"),
        ("x.png", "../..", "x_..-...png"),
    ]

    assert [picture_name(original, predicted, taken) for original, predicted, _ in named] == [
        n for *_, n in named
    ]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_picture_stays_in_its_folder(original: str, predicted: str) -> None:
    name = picture_name(f"a/{original.replace('/', '')}x", predicted, set())

    assert (Path("results") / name).parent == Path("results")
    assert len(name.encode()) <= 255


# --- the stages ---


def test_train_eval_and_infer_on_clothes(place: Place, clothes: Path) -> None:
    (clothes / "dress" / "empty.png").touch()
    ended = [place.do(stage, "--set", "infer.samples=all") for stage in ("train", "eval", "infer")]

    assert [each.code for each in ended] == [0, 0, 0], ended
    assert "decoding 120 files" in ended[0].out
    assert not any("decoding" in each.out for each in ended[1:])
    assert ended[0].out.count("  val acc 0.") == 2
    assert [place.record(stage).skipped for stage in ("train", "eval", "infer")] == [  # type: ignore[arg-type]
        {"dress/empty.png": "it is empty"}
    ] * 3
    train, test = (place.record(stage) for stage in ("train", "eval"))
    assert {name.split("/")[3] for name in train.inputs} == {"clothes"}
    assert not train.inputs.keys() & test.inputs.keys()
    rows = [json.loads(line) for line in place.folder.history.read_text().splitlines()]
    assert train.metrics["val_accuracy"] == rows[-1]["val_accuracy"]
    predictions = json.loads(place.folder.predictions.read_text())
    assert all(
        prediction["true_name"] == prediction["image"].split("/")[0]
        and prediction["file"]
        == f"results/{Path(prediction['image']).stem}_{prediction['predicted_name']}.png"
        and (place.folder.path / prediction["file"]).is_file()
        for prediction in predictions
    )
    results = json.loads(place.folder.eval_results.read_text())
    assert results["class_names"] == list(CLASSES)
    assert results["correct"] == sum(prediction["correct"] for prediction in predictions)
    assert results["samples"] == len(predictions) == len(place.record("infer").inputs) - 2  # and the model


def test_photographs_without_labels_are_classified(place: Place, clothes: Path) -> None:
    photos = clothes.parent / "photos"
    for number, name in enumerate(("Größe 1.png", "b/same.jpg", "c/same.jpg")):
        _picture(photos / name, 300 + number, 200)
    asked = ("--set", "infer.source=data/photos", "--set", "infer.samples=all")
    ended = [place.do(stage, *asked) for stage in ("train", "infer")]

    assert [each.code for each in ended] == [0, 0], ended
    predictions = json.loads(place.folder.predictions.read_text())
    assert [prediction["image"] for prediction in predictions] == ["Größe 1.png", "b/same.jpg", "c/same.jpg"]
    names = [prediction["file"].split("/")[1].rsplit("_", 1)[0] for prediction in predictions]
    assert names == ["Größe 1", "same", "same-2"]
    with Image.open(place.folder.path / predictions[0]["file"]) as picture:
        assert picture.getpixel((40, 128)) == (200, 30, 40)


@pytest.mark.parametrize("strategy", ["hogwild", "ddp"])
def test_two_processes_train_on_clothes(place: Place, strategy: str) -> None:
    light = ("model.name=mobilenet_v3_small", "data.size=34", "train.epochs=1")
    settings = (f"train.strategy={strategy}", *light)
    ended = place.do("train", *(part for setting in settings for part in ("--set", setting)))

    assert ended.code == 0, ended
    assert f"{strategy} with 2 processes" in ended.out


def test_row_54_a_stopped_training_on_clothes_ends_as_an_undisturbed_one(place: Place) -> None:
    stop_and_resume(place, (*CLOTHES, "model.name=mobilenet_v3_small", "data.size=34"))


def test_other_images_are_another_training(place: Place, clothes: Path) -> None:
    stop = StopRequest()
    train(place.context("train"), stop)
    _picture(next(iter(_load(clothes).files)), 28, 28)

    with pytest.raises(BadInput, match="data_sha256: was"):
        train(place.context("train", "train.epochs=3"), stop)


def test_a_pictures_name_reads_as_it_is() -> None:
    name = picture_name("a/\u202egnp.exe\u200f.png", "bag\u2066", set())
    assert name == "-gnp.exe-_bag-.png"
