"""Check whether Kubernetes accepts a tree that a person wrote; an error names the path of what is wrong."""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from jobrelay.errors import BadInput
from jobrelay.kube.labels import CONFIG_FILE

#: Characters of a wrong value to show in a message.
_MOST: Final = 60
#: What was expected, by pydantic's error type.
_EXPECTED: Final = {
    "dict_type": "a mapping", "model_type": "a mapping", "list_type": "a list", "string_type": "text",
    "int_type": "a whole number",
}  # fmt: skip

_Mapping: TypeAlias = dict[str, Any]


def json_only(tree: Any, path: str) -> Any:
    """`tree` without empty keys, which mean nothing to Kubernetes. Raises BadInput for non-JSON values."""
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, str):
                raise BadInput(f"{path.rstrip('.')}: the key {key!r} is not text", "quote it")
        return {key: json_only(value, f"{path}{key}.") for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [json_only(value, f"{path}{index}.") for index, value in enumerate(tree)]
    number = isinstance(tree, int | float) and abs(tree) < 2**63  # excludes NaN and infinity
    if tree is None or number or isinstance(tree, str):
        return tree
    raise BadInput(
        f"{path.rstrip('.')}: {_written(tree)} is not a value that Kubernetes takes",
        "quote it, if it is text",
    )


def _written(tree: Any) -> str:
    """The value as JSON, which is valid YAML too; shortened if it is long."""
    text = json.dumps(tree, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def check_shape(tree: Any, shape: type[BaseModel], where: str) -> None:
    """Raise BadInput, with the path, where `tree` does not match `shape`."""
    try:
        shape.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"{where}: {path} is {_written(first['input'])}, and should be {_EXPECTED[first['type']]}"
        ) from error


class _Shape(BaseModel):
    """The fields that the launcher reads, where present; all others may hold anything."""

    model_config = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)


class _Named(_Shape):
    name: str = ""


class _Labelled(_Shape):
    labels: _Mapping = {}


class _Metadata(_Labelled):
    annotations: _Mapping = {}
    namespace: str = ""


class ObjectShape(_Shape):
    """The shape of an object of any kind."""

    metadata: _Metadata = _Metadata()


class KustomizationShape(_Shape):
    namespace: str = ""
    resources: list[str] = []
    config_map_generator: list[_Named] = []


class _Data(_Shape):
    config: str = Field(default="", alias=CONFIG_FILE)


class ConfigMapShape(_Shape):
    """The shape of the run's configuration."""

    data: _Data = _Data()


class _Resources(_Shape):
    requests: _Mapping = {}
    limits: _Mapping = {}


class _Container(_Named):
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[_Named] = []
    resources: _Resources = _Resources()


class _Claim(_Shape):
    claim_name: str = ""


class _Volume(_Named):
    persistent_volume_claim: _Claim = _Claim()
    config_map: _Named = _Named()
    empty_dir: _Mapping = {}


class _AntiAffinity(_Shape):
    preferred: list[_Mapping] = Field(default=[], alias="preferredDuringSchedulingIgnoredDuringExecution")


class _Affinity(_Shape):
    pod_affinity: _Mapping = {}
    pod_anti_affinity: _AntiAffinity = _AntiAffinity()


class _PodSpec(_Shape):
    containers: list[_Container] = []
    init_containers: list[_Container] = []
    volumes: list[_Volume] = []
    affinity: _Affinity = _Affinity()


class _PodTemplate(_Shape):
    metadata: _Labelled = _Labelled()
    spec: _PodSpec = _PodSpec()


class _JobSpec(_Shape):
    backoff_limit: int = 0
    template: _PodTemplate = _PodTemplate()


class JobShape(_Shape):
    spec: _JobSpec = _JobSpec()
