"""infer: names what is on a few test images. Writes results/*.png and predictions.json."""

from __future__ import annotations

import torch

from jobs import compute
from jobs.assignment import Assignment, Outcome
from jobs.contract.files import json_text
from jobs.data import load
from jobs.evidence import trained_model
from jobs.pictures import draw, file_safe
from jobs.predict import predict
from jobs.stopping import StopRequest


def infer(assignment: Assignment, _stop: StopRequest) -> Outcome:
    """Classify test images, drawn by the run's seed, with the model that this run trained."""
    config, folder = assignment.config, assignment.folder
    trained = trained_model(assignment)
    device = compute.prepare(config)
    data = load(config.data, "test", folder.root)
    inputs = {**trained.proofs, **assignment.prove(*data.files)}
    assignment.keep_config()

    samples = min(config.infer.samples, len(data))
    drawn = torch.randperm(len(data), generator=compute.generator(config.seed, "infer"))[:samples]
    drawn = drawn.sort().values  # (samples,)
    probabilities = predict(
        trained.model, trained.spec, data.images[drawn], device
    ).exp()  # (samples, classes)

    names = trained.spec.class_names
    folder.results.mkdir(exist_ok=True)
    predictions = []
    for index, row in zip(drawn.tolist(), probabilities, strict=True):
        best, label = int(row.argmax()), int(data.labels[index])
        file = folder.results / f"{index:05}_{file_safe(names[best])}.png"
        picture = draw(data.images[index], names[best], row[best].item(), names[label])
        assignment.fence.write(file, picture)
        predictions.append(
            {
                "index": index,
                "file": str(file.relative_to(folder.path)),
                "predicted": best,
                "predicted_name": names[best],
                "probability": row[best].item(),
                "true": label,
                "true_name": names[label],
                "correct": best == label,
                "probabilities": row.tolist(),
            }
        )
        print(f"image {index}: {names[best]} {row[best]:.1%} (true: {names[label]})")
    pictures = [folder.path / str(prediction["file"]) for prediction in predictions]
    for old in set(folder.results.iterdir()) - set(pictures):  # of a pass with other settings, or cut short
        assignment.fence.remove(old)
    assignment.fence.write(folder.predictions, json_text(predictions))
    correct = sum(bool(prediction["correct"]) for prediction in predictions)
    print(f"{correct} of {samples} right; the pictures are in {folder.results.relative_to(folder.root)}")
    return Outcome(
        inputs=inputs,
        outputs=assignment.prove(*pictures, folder.predictions),
        metrics={"samples": float(samples), "correct": float(correct)},
    )
