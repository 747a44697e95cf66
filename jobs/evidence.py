"""The trained model, accepted only as what this run's train.json says it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError as PydanticError
from torch import Tensor, nn

from jobs.assignment import Assignment
from jobs.checkpoint import differences, foreign, readable
from jobs.contract.loading import ConfigError, load_config
from jobs.contract.record import FileProof, Record, RecordError, read_record, verified
from jobs.contract.safe_read import UnsafeFile, read_bytes
from jobs.errors import BadEvidence, passing_trouble
from jobs.models import ModelSpec, build, outline
from jobs.weights import Foreign, NotWhole, from_bytes, load_verified, model_to_bytes, room_for

#: model.json names the classes; 10,000 of them are some 200 KB.
_SPEC_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class TrainedModel:
    """A model on the CPU, in evaluation mode, with what it was built from and the proofs of its files."""

    model: nn.Module
    spec: ModelSpec
    proofs: dict[str, FileProof]


def trained_model(assignment: Assignment) -> TrainedModel:
    """The model of this run.

    Raises BadEvidence if it is not there or not the one that train recorded, BadInput if it is that
    one and another program has written it, Failed or OSError if the volume does not answer.
    """
    folder = assignment.folder
    record = _train_record(assignment)
    weights, description = (
        _proof(record, folder.model, assignment),
        _proof(record, folder.model_config, assignment),
    )
    if not verified(folder.model_config, description, root=folder.root):
        raise BadEvidence(_changed(folder.model_config, assignment))
    try:
        spec = ModelSpec.model_validate_json(read_bytes(folder.model_config, _SPEC_BYTES, root=folder.root))
        state = _weights(assignment, spec, weights)
        model = build(spec)
        model.load_state_dict(state)
    except NotWhole as error:
        raise BadEvidence(f"{_changed(folder.model, assignment)} ({error})") from error
    except Foreign as error:
        raise foreign(folder.model, folder.record("train"), error) from error
    except FileNotFoundError as error:
        raise BadEvidence(
            f"{error.filename} is missing; train should have created it. {_again(assignment)}"
        ) from error
    except UnsafeFile as error:  # it has changed since it was verified
        raise BadEvidence(f"{error}. {_again(assignment)}") from error
    except (PydanticError, RuntimeError) as error:
        raise BadEvidence(
            f"{folder.model} and {folder.model_config} do not fit this version: {error}"
        ) from error
    return TrainedModel(
        model.eval(), spec, {folder.model.name: weights, folder.model_config.name: description}
    )


def _weights(assignment: Assignment, spec: ModelSpec, proof: FileProof) -> dict[str, Any]:
    """The state in model.pt; where that is damaged, or gone, it is made again from a checkpoint.

    Raises OSError, NotWhole, Foreign.
    """
    path = assignment.folder.model
    tensors = outline(spec).state_dict().values()
    if (needed := sum(tensor.nbytes for tensor in tensors)) > proof.bytes:
        raise Foreign(
            f"it has {proof.bytes:,} bytes, and the model in model.json needs {needed:,} for its weights"
        )
    try:
        return load_verified(path, proof, room_for(tensors))
    except (NotWhole, UnsafeFile, FileNotFoundError) as damage:
        # No other weights than those that are recorded: what is made again has their very hash.
        for name, state in readable(assignment.folder.checkpoints, room_for(tensors, copies=3)):
            content = _model_in(state)
            if hashlib.sha256(content).hexdigest() == proof.sha256:
                what = "is gone" if isinstance(damage, FileNotFoundError) else f"is damaged ({damage})"
                print(f"warning: {path.name} {what}; restored from checkpoints/{name}", flush=True)
                assignment.fence.write(path, content)
                return from_bytes(content)
        raise


def _model_in(state: Mapping[str, Any]) -> bytes:
    """model.pt for the model of a checkpoint; empty if it has none."""
    model = state.get("model")
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        return b""
    return model_to_bytes(model)


def _train_record(assignment: Assignment) -> Record:
    path = assignment.folder.record("train")
    try:
        record = read_record(path, root=assignment.folder.root)
    except RecordError as error:
        trouble = passing_trouble(error.__cause__, path)
        raise trouble or BadEvidence(f"{error}. {_again(assignment)}") from error
    if record is None:
        raise BadEvidence(
            f"{path} is missing; stage train of this run should have created it. {_again(assignment)}"
        )
    if record.status != "succeeded":
        reason = f" ({record.error})" if record.error else ""
        raise BadEvidence(
            f"{path}: train has not succeeded, its status is {record.status}{reason}. {_again(assignment)}"
        )
    if record.config_hash != assignment.config.stage_hash("train"):
        raise BadEvidence(
            f"{path} records a training with other settings{_other_settings(assignment)}; "
            "use the settings of train, or another --run"
        )
    return record


def _proof(record: Record, file: Path, assignment: Assignment) -> FileProof:
    try:
        return record.outputs[file.name]
    except KeyError:
        raise BadEvidence(
            f"{assignment.folder.record('train')} does not list {file.name} among its outputs"
        ) from None


def _other_settings(assignment: Assignment) -> str:
    """The keys that differ, if the run's config.yaml can tell: ` (train.epochs: was 5, is 9)`."""
    try:
        before: dict[str, Any] = load_config(assignment.folder.config, root=assignment.folder.root).stage(
            "train"
        )
    except ConfigError:
        return ""
    changed = differences(before, assignment.config.stage("train"))
    return f" ({'; '.join(changed)})" if changed else ""


def _changed(file: Path, assignment: Assignment) -> str:
    return f"{file} is not the file that train.json of this run records. {_again(assignment)}"


def _again(assignment: Assignment) -> str:
    return (
        f"To restore it, delete the Jobs of run {assignment.folder.run} (its files stay) and start the "
        "run again: train then creates what is missing, from its newest checkpoint"
    )
