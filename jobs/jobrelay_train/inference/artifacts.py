"""The trained model, accepted only if it matches this run's train.json."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError as PydanticError
from torch import Tensor, nn

from jobrelay_runner.errors import BadEvidence, passing_trouble
from jobrelay_runner.volume.record import FileDigest, Record, RecordError, read_record, verified
from jobrelay_runner.volume.safe_read import UnsafeFile, read_bytes
from jobrelay_train.config.loading import ConfigError, load_config
from jobrelay_train.models.registry import ModelSpec, build, outline
from jobrelay_train.models.serialization.checkpoint import differences, foreign, readable
from jobrelay_train.models.serialization.weights import (
    CorruptFile,
    UntrustedFile,
    from_bytes,
    load_verified,
    model_to_bytes,
    room_for,
)
from jobrelay_train.program import Context

#: model.json names the classes; 10,000 of them are some 200 KB.
_SPEC_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True)
class TrainedModel:
    """A model on the CPU, in evaluation mode, with what it was built from and the digests of its files."""

    model: nn.Module
    spec: ModelSpec
    digests: dict[str, FileDigest]


def trained_model(context: Context) -> TrainedModel:
    """Load the model of this run.

    Raises BadEvidence if it is missing or not the one that train recorded, BadInput if it is that one but
    another program wrote it, Failed or OSError if the volume does not answer.
    """
    folder = context.folder
    record = _train_record(context)
    weights, description = (
        _digest(record, folder.model, context),
        _digest(record, folder.model_config, context),
    )
    if not verified(folder.model_config, description, root=folder.root):
        raise BadEvidence(_changed(folder.model_config, context))
    try:
        spec = ModelSpec.model_validate_json(read_bytes(folder.model_config, _SPEC_BYTES, root=folder.root))
        state = _weights(context, spec, weights)
        model = build(spec)
        model.load_state_dict(state)
    except CorruptFile as error:
        raise BadEvidence(f"{_changed(folder.model, context)} ({error})") from error
    except UntrustedFile as error:
        raise foreign(folder.model, folder.record("train"), error) from error
    except FileNotFoundError as error:
        raise BadEvidence(
            f"{error.filename} is missing; train should have created it. {_again(context)}"
        ) from error
    except UnsafeFile as error:  # the file has changed since it was verified
        raise BadEvidence(f"{error}. {_again(context)}") from error
    except (PydanticError, RuntimeError) as error:
        raise BadEvidence(
            f"{folder.model} and {folder.model_config} do not fit this version: {error}"
        ) from error
    return TrainedModel(
        model.eval(), spec, {folder.model.name: weights, folder.model_config.name: description}
    )


def _weights(context: Context, spec: ModelSpec, digest: FileDigest) -> dict[str, Any]:
    """Load the state in model.pt; if the file is damaged or missing, restore it from a checkpoint.

    Raises OSError, CorruptFile, UntrustedFile.
    """
    path = context.folder.model
    tensors = outline(spec).state_dict().values()
    stored = {tensor.data_ptr() or id(tensor): tensor.nbytes for tensor in tensors}  # shared ones only once
    if (needed := sum(stored.values())) > digest.bytes:
        raise UntrustedFile(
            f"it has {digest.bytes:,} bytes, and the model in model.json needs {needed:,} for its weights"
        )
    try:
        return load_verified(path, digest, room_for(tensors))
    except (CorruptFile, UnsafeFile, FileNotFoundError) as damage:
        # Only the recorded weights are accepted: the restored file must have exactly the recorded hash.
        for name, state in readable(context.folder.checkpoints, room_for(tensors, copies=3)):
            content = _model_in(state)
            if hashlib.sha256(content).hexdigest() == digest.sha256:
                what = "is gone" if isinstance(damage, FileNotFoundError) else f"is damaged ({damage})"
                print(f"warning: {path.name} {what}; restored from checkpoints/{name}", flush=True)
                context.fence.write(path, content)
                return from_bytes(content)
        raise


def _model_in(state: Mapping[str, Any]) -> bytes:
    """Return the bytes of model.pt for a checkpoint's model; empty if it has none."""
    model = state.get("model")
    if not isinstance(model, dict) or not all(isinstance(value, Tensor) for value in model.values()):
        return b""
    return model_to_bytes(model)


def _train_record(context: Context) -> Record:
    path = context.folder.record("train")
    try:
        record = read_record(path, root=context.folder.root)
    except RecordError as error:
        trouble = passing_trouble(error.__cause__, path)
        raise trouble or BadEvidence(f"{error}. {_again(context)}") from error
    if record is None:
        raise BadEvidence(
            f"{path} is missing; stage train of this run should have created it. {_again(context)}"
        )
    if record.status != "succeeded":
        reason = f" ({record.error})" if record.error else ""
        raise BadEvidence(
            f"{path}: train has not succeeded, its status is {record.status}{reason}. {_again(context)}"
        )
    if record.config_hash != context.config.stage_hash("train"):
        raise BadEvidence(
            f"{path} records a training with other settings{_other_settings(context)}; "
            "use the settings of train, or another --run"
        )
    return record


def _digest(record: Record, file: Path, context: Context) -> FileDigest:
    try:
        return record.outputs[file.name]
    except KeyError:
        raise BadEvidence(
            f"{context.folder.record('train')} does not list {file.name} among its outputs"
        ) from None


def _other_settings(context: Context) -> str:
    """Return the keys that differ, if config.yaml is readable: ` (train.epochs: was 5, is 9)`."""
    try:
        before: dict[str, Any] = load_config(context.folder.config, root=context.folder.root).stage("train")
    except ConfigError:
        return ""
    changed = differences(before, context.config.stage("train"))
    return f" ({'; '.join(changed)})" if changed else ""


def _changed(file: Path, context: Context) -> str:
    return f"{file} is not the file that train.json of this run records. {_again(context)}"


def _again(context: Context) -> str:
    return (
        f"To restore it, delete the Jobs of run {context.folder.run} (its files stay) and start the "
        "run again: train then creates what is missing, from its newest checkpoint"
    )
