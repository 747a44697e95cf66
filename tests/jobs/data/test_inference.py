"""infer over whole sets and folders: what is classified, in which batches, how fast, and what is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from jobrelay_runner.errors import BadInput
from jobrelay_train.data.idx import read_images
from jobrelay_train.data.images import image_files
from jobrelay_train.data.images.decoding import Unusable, read_image
from jobrelay_train.data.images.image_files import list_files, read_files
from jobrelay_train.inference.latency import measure_latency
from jobrelay_train.models.auto_batch import GrowingBatch, Memory, memory_of
from jobrelay_train.models.predict import predict
from jobrelay_train.models.registry import ModelSpec, build
from tests.support.volume import Place, png_of

CPU = torch.device("cpu")
GREY = (1, 28, 28)
PLENTY = Memory(used=0, peak=0, allowed=1 << 40)
SPEC = ModelSpec(
    name="cnn", input_shape=(1, 28, 28), class_names=(*"0123456789",), mean=0.3, std=0.3, dataset="mnist"
)


# --- batches ---


def _grown(rate: Callable[[int], float], memory: Callable[[int], Memory] = lambda size: PLENTY) -> list[int]:
    """The sizes of twenty batches, on a device of so many images a second."""
    sizes = [0]
    batches = GrowingBatch(lambda: memory(sizes[-1]))
    for _ in range(20):
        sizes.append(batches.size)
        batches.took(batches.size, batches.size / rate(batches.size))
    return sizes[1:]


def test_a_batch_grows_while_that_makes_it_faster() -> None:
    sizes = _grown(lambda size: 1000 * min(size, 200))

    assert sizes[:8] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert sizes[10:] == [256] * 10  # 512 was tried, and is no faster


def test_a_batch_that_is_slower_when_it_is_larger_stays_small() -> None:
    assert _grown(lambda size: 1000 / size)[4:] == [32] * 16


def test_a_batch_has_a_largest_size() -> None:
    assert max(_grown(float)) == 4096


def test_a_batch_stays_within_memory() -> None:
    # each image takes a megabyte beside the 200 that the rest of the process has
    def memory(size: int) -> Memory:
        return Memory(used=200_000_000, peak=200_000_000 + size * 1_000_000, allowed=1_000_000_000)

    sizes = _grown(float, memory)

    assert max(sizes) == 512
    assert memory(max(sizes)).peak <= 0.8 * memory(0).allowed


def test_one_slow_batch_decides_nothing() -> None:
    batches = GrowingBatch(lambda: PLENTY)
    for seconds in (10.0, 0.001):  # the first one of a size has all to prepare
        batches.took(batches.size, seconds)

    assert batches.size == 64


def test_the_last_batch_says_nothing() -> None:
    batches = GrowingBatch(lambda: PLENTY)
    for _ in range(10):
        batches.took(5, 100.0)

    assert batches.size == 32


def test_the_memory_of_this_process_is_known() -> None:
    memory = memory_of(CPU)()

    assert 0 < memory.used <= memory.peak * 1.01 < memory.allowed


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["cnn", "mnist-hogwild-net", "perceptron"]), st.integers(1, 70), st.integers(0, 9))
def test_what_an_image_is_does_not_depend_on_its_batch(name: Any, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    spec = SPEC.model_copy(update={"name": name})
    model, images = build(spec), torch.randint(0, 256, (70, 1, 28, 28), dtype=torch.uint8)

    alone = torch.cat([predict(model, spec, image.unsqueeze(0), CPU) for image in images])
    found = predict(model, spec, images, CPU, size)

    assert torch.equal(found.argmax(1), alone.argmax(1))
    assert (found.exp() - alone.exp()).abs().max() < 1e-5


class _Noisy(nn.Module):
    """Two classes as good as equal, whose order is rounding: another one in batches of another size."""

    def forward(self, images: Tensor) -> Tensor:
        scores = torch.zeros(len(images), 10)
        scores[:, 3] = 5 + (1e-6 if len(images) % 2 else -1e-6)
        scores[:, 7] = 5
        return scores


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000])
def test_a_tie_is_decided_alike_in_every_batch(size: int) -> None:
    images = torch.zeros(9, 1, 28, 28, dtype=torch.uint8)

    assert predict(_Noisy(), SPEC, images, CPU, size).argmax(1).tolist() == [3] * 9


# --- latency ---


def _ticks(*steps: float) -> Callable[[], float]:
    """A clock that is read before and after each request; the requests take these seconds, over and over."""

    def times() -> Iterator[float]:
        now = 0.0
        yield now  # begun
        while True:
            for step in steps:
                yield now  # is there time for one more
                yield now  # started
                now += step
                yield now

    iterator = times()
    return lambda: next(iterator)


def test_latency_is_of_single_images_and_by_nearest_rank() -> None:
    shapes = set()
    clock = _ticks(*[number / 10_000 for number in range(1, 101)])

    found = measure_latency(lambda image: shapes.add(tuple(image.shape)), torch.zeros(3, 1, 2, 2), clock)

    assert shapes == {(1, 1, 2, 2)}
    assert (found.requests, found.p50_ms, found.p99_ms) == (200, 5.0, 9.9)


def test_a_slow_model_is_not_asked_for_ever() -> None:
    assert measure_latency(lambda image: None, torch.zeros(1, 1, 2, 2), _ticks(3.0)).requests == 4


# --- files ---


def _picture(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(numpy.asarray(pixels)).save(path, **options)
    return path


def _disc(width: int, height: int, ground: int, thing: int) -> Any:
    """A disc on a ground, as uint8 (height, width)."""
    y, x = numpy.mgrid[:height, :width]
    inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 4) ** 2
    return numpy.where(inside, thing, ground).astype(numpy.uint8)


def test_what_a_model_has_learnt_from_is_taken_as_it_is(tmp_path: Path) -> None:
    pixels = numpy.arange(784, dtype=numpy.uint8).reshape(28, 28)
    _picture(tmp_path / "a.png", pixels)

    assert torch.equal(read_image(tmp_path, "a.png", GREY), torch.from_numpy(pixels).unsqueeze(0))


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *[(mode, "a.png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        *[(mode, "a.jpg") for mode in ("L", "RGB", "CMYK")],
        *[(mode, "a.webp") for mode in ("RGB", "RGBA")],
    ],
)
@pytest.mark.parametrize("bright", [False, True], ids=["on-black", "on-white"])
def test_a_thing_is_bright_on_black_whatever_the_file(
    tmp_path: Path, mode: str, name: str, bright: bool
) -> None:
    disc = _disc(300, 200, *((255, 20) if bright else (0, 235)))
    if mode == "I;16":
        image = Image.fromarray(disc.astype(numpy.uint16) * 257)
    else:
        image = Image.fromarray(disc).convert(mode)
    image.save(tmp_path / name)

    found = read_image(tmp_path, name, GREY)

    assert (found.dtype, found.shape) == (torch.uint8, (1, 28, 28))
    assert found[0, 14, 14] > 200
    assert found[0, [0, 0, -1, -1, 0], [0, -1, 0, -1, 14]].max() < 40
    # proportions: two thirds of the height are left to the picture, and a disc is as wide as high
    assert abs(int((found[0, 14] > 127).sum()) - int((found[0, :, 14] > 127).sum())) <= 1


def test_what_is_transparent_is_ground(tmp_path: Path) -> None:
    image = Image.fromarray(_disc(100, 100, 0, 0)).convert("RGBA")
    image.putalpha(Image.fromarray(_disc(100, 100, 0, 255)))
    image.save(tmp_path / "a.png")

    found = read_image(tmp_path, "a.png", GREY)

    assert (found[0, 14, 14], found[0, 0, 0]) == (255, 0)


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    pixels = numpy.zeros((90, 120), numpy.uint8)
    pixels[42:48, 20:100] = 255
    pixels[25:65, 85:100] = 255  # its foot is on the right; turned, it is below
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to view"
    _picture(tmp_path / "a.jpg", pixels, exif=exif)

    found = read_image(tmp_path, "a.jpg", GREY)[0]

    widths = [width for width in (found > 100).sum(dim=1).tolist() if width]
    assert widths[-1] > 3 * widths[0]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"name,label\n", "it is text; PNG, JPEG, WebP, GIF, BMP, TIFF and AVIF images are read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is a PostScript document; PNG"),
        (png_of(50_000, 50_000), "it has 50000 x 50000 pixels"),
        (png_of(2**31 - 1, 2**31 - 1), "it has 2147483647 x 2147483647 pixels"),
        (png_of(300, 300), "it is damaged"),
        (png_of(300, 300)[:60], "it is damaged"),
        (png_of(0, 5), "it is"),
    ],
    ids=["empty", "text", "another-format", "bomb", "overflow", "cut", "cut-in-the-middle", "no-pixels"],
)
def test_a_file_that_is_no_image_is_told_by_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(Unusable, match=reason):
        read_image(tmp_path, "a.png", GREY)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    os.truncate(tmp_path / "a.png", 1 << 40)

    with pytest.raises(Unusable, match="it is larger than 67,108,864 bytes"):
        read_image(tmp_path, "a.png", GREY)


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF____WEBP"])
)
def test_any_bytes_are_an_image_or_told(tmp_path_factory: Any, content: bytes, magic: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.png").write_bytes(magic + content)
    try:
        assert read_image(folder, "any.png", GREY).shape == (1, 28, 28)
    except Unusable as error:
        assert str(error)  # noqa: PT017 (both ends are right)


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    folder = tmp_path / "data"
    for made in (outside, folder / "inner"):
        made.mkdir(parents=True)
        _picture(made / "a.png", numpy.zeros((28, 28), numpy.uint8))
    (folder / "link.png").symlink_to(outside / "a.png")
    (folder / "linked").symlink_to(outside)
    os.mkfifo(folder / "pipe.png")
    (folder / ".hidden.png").touch()

    assert list_files(folder) == ["inner/a.png"]
    with pytest.raises(Unusable, match="it cannot be read"):
        read_image(folder, "link.png", GREY)
    for name in ("../outside/a.png", str(outside / "a.png")):
        with pytest.raises(Unusable, match="file of this name"):
            read_image(folder, name, GREY)


def test_as_many_files_are_read_as_are_wanted(tmp_path: Path) -> None:
    for number in range(6):
        pixels = numpy.zeros((28, 28), numpy.uint8)
        pixels[0, 0], pixels[10:20, 14] = number, 255
        _picture(tmp_path / f"{number}.png", pixels)
    (tmp_path / "1.png").write_bytes(b"")
    names = list_files(tmp_path)

    found = read_files(tmp_path, names, 3, GREY)

    assert found.names == ("0.png", "2.png", "3.png")
    assert found.images[:, 0, 0, 0].tolist() == [0, 2, 3]
    assert found.skipped == {"1.png": "it is empty"}


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MOST_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.png").touch()

    with pytest.raises(BadInput, match="more than 2 files"):
        list_files(tmp_path)


# --- the stage ---


def _inference(place: Place) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told = json.loads(place.folder.inference.read_text())
    return told, json.loads(place.folder.predictions.read_text())


def test_the_whole_test_set_is_classified_as_eval_does(trained: Place) -> None:
    assert trained.do("eval").code == 0
    ended = trained.do("infer", "--set", "infer.samples=all")

    assert ended.code == 0, ended
    told, predictions = _inference(trained)
    results = json.loads(trained.folder.eval_results.read_text())
    assert [prediction["index"] for prediction in predictions] == list(range(80))
    assert told["correct"] == results["correct"] == sum(p["correct"] for p in predictions)
    assert (told["images"], told["source_images"], told["skipped"]) == (80, 80, [])
    assert told["latency"]["requests"] == 200
    assert 0 < told["latency"]["p50_ms"] <= told["latency"]["p99_ms"]
    metrics = trained.record("infer").metrics
    assert metrics["images_per_second"] == told["images_per_second"] > 0
    assert metrics["latency_p99_ms"] == told["latency"]["p99_ms"]
    assert "classifying 80 images (all in mnist; read in " in ended.out
    assert f"p99 {metrics['latency_p99_ms']:.2f} ms (200 requests)" in ended.out


def test_the_size_of_the_batches_changes_no_prediction(trained: Place) -> None:
    found = []
    for size in ("auto", "1", "7", "80"):
        assert (
            trained.do("infer", "--set", "infer.samples=all", "--set", f"infer.batch_size={size}").code == 0
        )
        found.append(_inference(trained)[1])

    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert one["predicted"] == other["predicted"]
            assert one["probabilities"] == pytest.approx(other["probabilities"], abs=2e-6)


def test_no_more_pictures_are_drawn_than_a_person_looks_at(tmp_path: Path) -> None:
    place = Place(tmp_path, settings=("model.name=perceptron", "train.epochs=1", "infer.samples=all"))
    for stage in ("train", "infer"):
        assert place.do(stage).code == 0

    predictions = _inference(place)[1]
    drawn = [prediction["file"] for prediction in predictions if prediction["file"]]
    assert len(predictions) == 1000  # those in the box
    assert len(drawn) == len(list(place.folder.results.iterdir())) == 100
    assert all((place.folder.path / name).is_file() for name in drawn)


def test_files_of_the_test_images_are_classified_as_the_test_images(trained: Place) -> None:
    photos = trained.root / "data" / "photos"
    photos.mkdir()
    images = read_images(trained.root / "data" / "mnist" / "t10k-images-idx3-ubyte")
    for index, image in enumerate(images):
        _picture(photos / f"größe {index:02} 写真.png", image[0].numpy())
    assert trained.do("infer", "--set", "infer.samples=all").code == 0
    expected = _inference(trained)[1]

    ended = trained.do("infer", "--set", "infer.samples=all", "--set", "infer.source=data/photos")

    assert ended.code == 0, ended
    found = _inference(trained)[1]
    assert [p["image"] for p in found] == [f"größe {index:02} 写真.png" for index in range(80)]
    assert [p["probabilities"] for p in found] == [p["probabilities"] for p in expected]
    assert "true" not in found[0]
    record = trained.record("infer")
    assert "correct" not in record.metrics
    assert "../../data/photos/größe 00 写真.png" in record.inputs
    assert "80 images classified" in ended.out


def test_files_that_cannot_be_taken_are_counted_named_and_skipped(trained: Place) -> None:
    photos = trained.root / "data" / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        _picture(photos / name, _disc(60, 50, 0, 255))
    (photos / "cut.png").write_bytes((photos / "a.png").read_bytes()[:-30])
    (photos / "empty.png").touch()
    (photos / "notes\n.txt").write_text("a newline in a name")

    ended = trained.do("infer", "--set", "infer.samples=all", "--set", "infer.source=data/photos")

    assert ended.code == 0, ended
    told, predictions = _inference(trained)
    assert [p["image"] for p in predictions] == ["a.png", "b.png"]
    assert [skipped["file"] for skipped in told["skipped"]] == ["cut.png", "empty.png", "'notes\\n.txt'"]
    assert trained.record("infer").metrics["skipped"] == 3
    assert "skipped empty.png: it is empty" in ended.out
    assert "2 images (of 5 in data/photos; " in ended.out


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (None, "is missing; put the folder of images on the volume as data/photos"),
        ([], "holds no files"),
        (["a.png"], "no usable image in 1 file (a.png: it is empty)"),
    ],
    ids=["absent", "empty", "nothing-usable"],
)
def test_a_folder_without_images_is_refused(trained: Place, files: list[str] | None, told: str) -> None:
    if files is not None:
        photos = trained.root / "data" / "photos"
        photos.mkdir()
        for name in files:
            (photos / name).touch()

    ended = trained.do("infer", "--set", "infer.source=data/photos")

    assert ended.code == 78
    assert told in ended.out
