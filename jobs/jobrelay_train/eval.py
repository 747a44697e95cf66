"""eval: test this run's model on all test images. Writes eval_results.json and, if configured, model.pt2."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_runner.context import StageResult
from jobrelay_runner.errors import BadInput, one_line
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.text.counting import counted, rate
from jobrelay_runner.volume.files import json_text
from jobrelay_runner.volume.record import FileDigest
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.own import require_known_classes
from jobrelay_train.data.registry import describe, load
from jobrelay_train.data.split import Images
from jobrelay_train.inference.artifacts import TrainedModel, trained_model
from jobrelay_train.models.predict import predict
from jobrelay_train.own.functions import find
from jobrelay_train.program import Context, keep_config


def eval(context: Context, _stop: StopRequest) -> StageResult:  # noqa: A001 (the stage's name)
    """Test the model that this run trained."""
    config, folder = context.config, context.folder
    trained = trained_model(context)
    device = compute.prepare(config)
    data = load(config, "test", folder.root)
    require_known_classes(config, data.labels, trained.spec.class_names)
    inputs = {**trained.digests, **context.named(data.files)}
    keep_config(context)
    where, things = compute.describe(device), trained.spec.things
    print(f"testing {trained.spec.name} on {len(data):,} {things} of {describe(config.data)}, {where}")

    started = time.perf_counter()
    log_probabilities = predict(trained.model, trained.spec, data.images, device, config.eval.batch_size)
    images_per_second = len(data) / (time.perf_counter() - started)

    test_loss = F.nll_loss(log_probabilities, data.labels, reduction="sum").item() / len(data)
    confusion = confusion_matrix(data.labels, log_probabilities.argmax(1), trained.spec.classes)
    correct = int(confusion.diagonal().sum())
    test_acc = correct / len(data)
    results = {
        "test_loss": test_loss,
        "test_acc": test_acc,
        "samples": len(data),
        "correct": correct,
        "images_per_second": round(images_per_second, 1),
        "dataset": describe(config.data),
        "model": trained.spec.name,
        "model_sha256": trained.digests[folder.model.name].sha256,
        "per_class": per_class(confusion, trained.spec.class_names),
        "class_names": list(trained.spec.class_names),
        "confusion_matrix": confusion.tolist(),  # rows: true class, columns: predicted class
    }
    more = own_metrics(config, log_probabilities, data.labels)
    if more:
        results["metrics"] = more
    context.fence.write(folder.eval_results, json_text(results))
    print(
        f"test loss {test_loss:.4f}  acc {test_acc:.4f} ({correct:,} of {len(data):,})  "
        f"{rate(images_per_second, things)}"
    )
    outputs = [folder.eval_results]
    metrics = {
        "test_loss": test_loss,
        "test_acc": test_acc,
        "images_per_second": round(images_per_second, 1),
    }
    if more:
        print(", ".join(f"{name} {value:.4g}" for name, value in more.items()))
    if clash := sorted(metrics.keys() & more.keys()):
        raise BadInput(f"eval.metrics: {config.eval.metrics}: {clash[0]} is the name of another metric")
    metrics |= more
    if config.eval.export == "none":
        context.fence.remove(folder.exported)  # from other settings: it was never compared with this model
    else:
        outputs.append(folder.exported)
        metrics |= _export(context, trained, data.images)
    return StageResult(inputs, context.digests(*outputs), metrics, skipped=dict(data.skipped))


def _export(context: Context, trained: TrainedModel, images: Images) -> dict[str, float]:
    """Write model.pt2, read it back and compare it with the model. Returns how close they are."""
    from jobrelay_train.inference import (
        export,  # imports PyTorch's compiler, which takes a second, and is rarely used
    )

    if trained.spec.is_own:
        function = find("model.name", trained.spec.name)
        content = function.guarded("torch.export", export.export, trained.model, trained.spec)
    else:
        content = export.export(trained.model, trained.spec)
    path = context.folder.exported
    context.fence.write(path, content)
    digest = FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    program = export.load_exported(path, digest)
    parity = export.compare(program, trained.model, trained.spec, images)
    compared = counted(parity.images, f"test {trained.spec.things.removesuffix('s')}")
    print(
        f"exported {path.name} ({len(content) / 1e6:.1f} MB): same classes as the model on "
        f"{compared}, probabilities within {parity.largest_difference:.1e}"
    )
    return {
        "export_images": float(parity.images),
        "export_largest_difference": parity.largest_difference,
    }


def own_metrics(config: RunConfig, log_probabilities: Tensor, labels: Tensor) -> dict[str, float]:
    """Return what the user's own function measures; empty if there is none. Raises BadInput."""
    if config.eval.metrics is None:
        return {}
    function = find("eval.metrics", config.eval.metrics)
    found = function(log_probabilities.clone(), labels.clone())
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise function.problem(f"it returned a {type(found).__name__}, and a dict of numbers is expected")
    try:
        return {name: float(value) for name, value in found.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise function.problem(f"a dict of numbers is expected: {one_line(error)}") from error


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """Return int64 (classes, classes): how often class `row` was predicted as class `column`."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def per_class(confusion: Tensor, class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return each class's precision, recall and F1, 0 where they would be 0/0, and support (its images).

    Three lines of arithmetic suffice: torchmetrics would give the same, but import torchvision.
    """
    true_positive = confusion.diagonal().double()
    precision = true_positive / confusion.sum(0).clamp(min=1)
    recall = true_positive / confusion.sum(1).clamp(min=1)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return [
        {
            "class": number,
            "name": name,
            "precision": precision[number].item(),
            "recall": recall[number].item(),
            "f1": f1[number].item(),
            "support": int(confusion[number].sum()),
        }
        for number, name in enumerate(class_names)
    ]
