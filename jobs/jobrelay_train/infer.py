"""infer: classify images or points. Writes predictions.json, inference.json and results/*.png."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from jobrelay_runner.context import StageResult
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.files import json_text
from jobrelay_runner.volume.paths import BOUNDARY
from jobrelay_train import compute
from jobrelay_train.data.images.image_files import shown
from jobrelay_train.data.registry import load
from jobrelay_train.data.split import Images
from jobrelay_train.inference.artifacts import TrainedModel, trained_model
from jobrelay_train.inference.boundary import draw_boundary
from jobrelay_train.inference.figures import as_pixels, draw, file_safe, picture_name
from jobrelay_train.inference.inputs import Asked, what_is_asked
from jobrelay_train.inference.latency import Latency, measure_latency
from jobrelay_train.models.auto_batch import GrowingBatch, memory_of
from jobrelay_train.models.predict import predict
from jobrelay_train.program import Context, keep_config

#: Most results that are drawn and printed, for a person to look at.
MOST_PICTURES: Final = 100
#: Most skipped files that the log names; inference.json has them all.
_MOST_SKIPPED_SHOWN: Final = 10


@dataclass(frozen=True)
class Pass:
    """Result and speed of a pass over all inputs; without any input, the figures are None."""

    log_probabilities: Tensor  # float32 (N, classes)
    images_per_second: float | None = None
    batch_size: int | None = None  # the final one
    latency: Latency | None = None


def infer(context: Context, _stop: StopRequest) -> StageResult:
    """Classify test images or image files, drawn by the run's seed, with the model that this run trained."""
    config, folder = context.config, context.folder
    trained = trained_model(context)
    device = compute.prepare(config)
    started = time.perf_counter()
    asked = what_is_asked(context, trained.spec.input_shape, trained.spec.dataset)
    seconds_to_read = time.perf_counter() - started
    inputs = {**trained.digests, **context.named(asked.files)}
    keep_config(context)
    count = len(asked.images)
    which = f"{'all' if count == asked.source_images else f'of {asked.source_images:,}'} in {asked.source}"
    what = counted(count, trained.spec.things.removesuffix("s"))
    where = compute.describe(device)
    print(f"classifying {what} ({which}; read in {seconds_to_read:.1f} s), {where}")
    if config.infer.folder:  # for a data set, the log has them already
        _print_skipped(asked.skipped)

    done = _pass(trained, asked.images, device, config.infer.batch_size)
    empty = _draw_nothing(context, asked)
    pictures = _show(context, asked, trained, done.log_probabilities, device, set(empty.values()))
    lines = chain(_predictions(asked, trained, done.log_probabilities, pictures), _nothing(asked, empty))
    context.fence.write(folder.predictions, _listed(lines))
    correct = None if asked.labels is None else int((done.log_probabilities.argmax(1) == asked.labels).sum())
    inference = {
        "source": asked.source,
        "source_images": asked.source_images,
        "images": count,
        "correct": correct,
        "nothing_found": list(asked.nothing),
        "skipped": [{"file": name, "reason": reason} for name, reason in asked.skipped.items()],
        "seconds_to_read": round(seconds_to_read, 3),
        "images_per_second": done.images_per_second,
        "batch_size": done.batch_size,
        "latency": asdict(done.latency) if done.latency else None,
        "device": where,
        "model": trained.spec.name,
        "model_sha256": trained.digests[folder.model.name].sha256,
    }
    context.fence.write(folder.inference, json_text(inference))
    _print_speed(done, trained.spec.things)
    if not count:
        print(f"warning: nothing is found in any picture ({len(asked.nothing):,} could be read)")
    right = f"{what} classified" if correct is None else f"{correct:,} of {count:,} right"
    if asked.nothing:
        right += f", nothing found in {len(asked.nothing):,}"
    where = f"; the pictures are in {folder.results.relative_to(folder.root)} on the volume"
    print(right + (where if pictures or empty else ""))
    metrics = {
        "samples": count,
        "correct": correct,
        "nothing_found": len(asked.nothing) if asked.nothing else None,
        "skipped": len(asked.skipped) if config.infer.folder else None,
        "images_per_second": done.images_per_second,
        "latency_p50_ms": done.latency.p50_ms if done.latency else None,
        "latency_p99_ms": done.latency.p99_ms if done.latency else None,
        "batch_size": done.batch_size,
    }
    return StageResult(
        inputs=inputs,
        outputs=context.digests(*{*pictures.values(), *empty.values()}, folder.predictions, folder.inference),
        metrics={name: float(value) for name, value in metrics.items() if value is not None},
        skipped=dict(asked.skipped),
    )


def _pass(
    trained: TrainedModel, images: Images, device: torch.device, batch_size: int | Literal["auto"]
) -> Pass:
    """Classify single images first, which also warms the model up, then all of them in batches."""
    if not len(images):
        return Pass(torch.empty(0, len(trained.spec.class_names)))
    latency = measure_latency(lambda image: predict(trained.model, trained.spec, image, device), images)
    batches = GrowingBatch(memory_of(device)) if batch_size == "auto" else batch_size
    started = time.perf_counter()
    log_probabilities = predict(trained.model, trained.spec, images, device, batches)
    images_per_second = round(len(images) / (time.perf_counter() - started), 1)
    settled = batches.size if isinstance(batches, GrowingBatch) else batches
    return Pass(log_probabilities, images_per_second, min(settled, len(images)), latency)


def _print_speed(done: Pass, things: str) -> None:
    if done.latency:
        print(
            f"{done.images_per_second:,.0f} {things}/s in batches of {done.batch_size:,}; "
            f"one {things.removesuffix('s')} alone: p50 {done.latency.p50_ms:.2f} ms, "
            f"p99 {done.latency.p99_ms:.2f} ms ({done.latency.requests} requests)"
        )


def _print_skipped(skipped: Mapping[str, str]) -> None:
    for name, reason in islice(skipped.items(), _MOST_SKIPPED_SHOWN):
        print(f"skipped {name}: {reason}")
    if len(skipped) > _MOST_SKIPPED_SHOWN:
        print(f"skipped {len(skipped) - _MOST_SKIPPED_SHOWN:,} more; inference.json names them all")


def _show(
    context: Context,
    asked: Asked,
    trained: TrainedModel,
    log_probabilities: Tensor,
    device: torch.device,
    others: Set[Path],
) -> dict[int, Path]:
    """Print and draw a sample for a person; return the paths of the pictures by position in `asked`.

    others: pictures that were drawn before; every other file in the folder is removed.
    """
    count, names = len(asked.images), trained.spec.class_names
    drawn = torch.randperm(count, generator=compute.generator(context.config.seed, "pictures"))
    positions = drawn[:MOST_PICTURES].sort().values.tolist()
    best = log_probabilities.argmax(1).tolist()
    for position in positions:
        probability = log_probabilities[position, best[position]].exp().item()
        known = f" (true: {names[int(asked.labels[position])]})" if asked.labels is not None else ""
        print(f"{asked.titles[position]}: {names[best[position]]} {probability:.1%}{known}")
    results = context.folder.results
    context.fence.make_folder(results)
    if trained.spec.things == "items":
        pictures = {}
    elif trained.spec.things == "points":
        pictures = dict.fromkeys(positions, _draw_boundary(context, trained, device))
    else:
        pictures = _draw_images(context, asked, trained, log_probabilities, positions)
    for old in set(results.iterdir()) - set(pictures.values()) - others:  # from other settings, or incomplete
        context.fence.remove(old)
    return pictures


def _draw_images(
    context: Context,
    asked: Asked,
    trained: TrainedModel,
    log_probabilities: Tensor,
    positions: Sequence[int],
) -> dict[int, Path]:
    """Draw a picture for each of these positions; return their paths."""
    names = trained.spec.class_names
    taken: set[str] = set()
    pictures = {}
    for position in positions:
        row = log_probabilities[position].exp()
        best = int(row.argmax())
        true = None if asked.labels is None else names[int(asked.labels[position])]
        if asked.names is None:
            name = f"{asked.keys[position]['index']:05}_{file_safe(names[best])}.png"
        else:
            name = picture_name(asked.names[position], names[best], taken)
        pictures[position] = context.folder.results / name
        image = as_pixels(asked.images[position : position + 1][0])
        context.fence.write(pictures[position], draw(image, names[best], row[best].item(), true))
    return pictures


def _draw_nothing(context: Context, asked: Asked) -> dict[str, Path]:
    """Print and draw a sample of the files with nothing on them; return the paths by name."""
    results = context.folder.results
    results.mkdir(exist_ok=True)
    taken: set[str] = set()
    pictures = {}
    for name, image in islice(asked.nothing.items(), MOST_PICTURES):
        print(f"{shown(name)}: nothing found")
        pictures[name] = results / picture_name(name, "nothing found", taken)
        context.fence.write(pictures[name], draw(image, "nothing found", None, None))
    return pictures


def _draw_boundary(context: Context, trained: TrainedModel, device: torch.device) -> Path:
    """Draw one picture of all test points, even if few are classified: a few would show little."""
    data = load(context.config, "test", context.folder.root)

    def classify(points: Tensor) -> Tensor:
        return predict(trained.model, trained.spec, points, device).argmax(1)

    path = context.folder.results / BOUNDARY
    picture = draw_boundary(classify, data.images[:], data.labels, trained.spec.class_names)
    context.fence.write(path, picture)
    return path


def _predictions(
    asked: Asked, trained: TrainedModel, log_probabilities: Tensor, pictures: dict[int, Path]
) -> Iterator[dict[str, Any]]:
    """Yield the entry of each image in predictions.json, generated while it is written."""
    names = trained.spec.class_names
    for position, row in enumerate(log_probabilities.exp()):
        best = int(row.argmax())
        prediction: dict[str, Any] = {
            **asked.keys[position],
            "file": f"results/{pictures[position].name}" if position in pictures else None,
            "predicted": best,
            "predicted_name": names[best],
            "probability": _rounded(row[best].item()),
        }
        if asked.labels is not None:
            label = int(asked.labels[position])
            prediction |= {"true": label, "true_name": names[label], "correct": best == label}
        prediction["probabilities"] = [_rounded(value) for value in row.tolist()]
        yield prediction


def _nothing(asked: Asked, pictures: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """Yield the entries in predictions.json of files with nothing on them, which have no class."""
    for name in asked.nothing:
        picture = pictures.get(name)
        yield {
            "image": name,
            "nothing_found": True,
            "predicted": None,
            "picture": f"results/{picture.name}" if picture else None,
        }


def _listed(lines: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield predictions.json: a list with one image per line, generated while it is written."""
    for number, line in enumerate(lines):
        yield f"{',' if number else '['}\n  {json.dumps(line, ensure_ascii=False, allow_nan=False)}".encode()
    yield b"\n]\n"


def _rounded(probability: float) -> float:
    """Round away the digits that depend on the image's batch."""
    return round(probability, 6)
