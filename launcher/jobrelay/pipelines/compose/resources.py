"""CPU, memory, shared memory, GPUs, retries and grace period of a stage."""

from __future__ import annotations

import re
from typing import Any, Final

from jobrelay.pipelines.compose.model import Notes, Service
from jobrelay.pipelines.compose.text.yamlfile import as_text

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?", re.IGNORECASE)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|h|m|s)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
#: For `ipc: host`, where a program sees the memory of the whole machine.
_HOST_SHM: Final = "8Gi"
#: For `restart: on-failure`, which has no end with Docker.
_RETRIES: Final = 3


def of_service(service: Service, notes: Notes) -> dict[str, Any]:
    """The fields of a StageDefinition that say what a stage may use. Raises BadInput."""
    resources = _resources(service)
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    cpu = _first(limits.get("cpus"), service.get("cpus"), reservations.get("cpus"))
    memory = _first(
        limits.get("memory"),
        service.get("mem_limit"),
        reservations.get("memory"),
        service.get("mem_reservation"),
    )
    fields: dict[str, Any] = {}
    if cpu is not None and (text := _cpus(service, cpu)) != "0":
        fields["cpu"] = text
    if memory is not None and (text := _size(service, "memory", memory)) != "0":
        fields["memory"] = text
    if (shm := _shm(service, notes)) is not None:
        fields["shm"] = shm
    if gpus := _gpus(service, reservations.get("devices"), notes):
        fields["gpus"] = gpus
    if (grace := service.get("stop_grace_period")) is not None:
        fields["grace_seconds"] = _seconds(service, grace)
    if retries := _retries(service, notes):
        fields["retries"] = retries
    return fields


def _resources(service: Service) -> dict[str, Any]:
    deploy = service.table("deploy")
    replicas = _first(deploy.get("replicas"), service.get("scale"))
    if as_text(replicas) not in ("", "0", "1"):
        raise service.refuse("deploy", f"{as_text(replicas)} replicas: a stage runs once", "delete replicas")
    resources = deploy.get("resources") or {}
    if not isinstance(resources, dict) or not all(isinstance(v, dict | None) for v in resources.values()):
        raise service.refuse("deploy", "resources must hold limits and reservations")
    return resources


def _first(*values: Any) -> Any:
    return next((value for value in values if value not in (None, "")), None)


def _cpus(service: Service, value: Any) -> str:
    text = as_text(value).strip()
    if not re.fullmatch(r"\d+(\.\d+)?", text):
        raise service.refuse("cpus", f"{text!r} is not a number of CPUs")
    number = float(text)
    return f"{number:.3f}".rstrip("0").rstrip(".")


def _size(service: Service, key: str, value: Any) -> str:
    """Docker's sizes as a quantity: units are powers of 1024, in any case, with or without b."""
    match = _SIZE.fullmatch(as_text(value).strip())
    if match is None:
        raise service.refuse(key, f"{as_text(value)!r} is not a size, such as 512m or 2g")
    size = int(float(match[1]) * 1024 ** ("kmgtp".index(match[2].lower()) + 1 if match[2] else 0))
    for power, unit in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{unit}"
    return str(size)


def _shm(service: Service, notes: Notes) -> str | None:
    ipc = as_text(service.get("ipc"))
    if ipc and ipc not in ("host", "private", "none", "shareable"):
        raise service.refuse("ipc", f"{ipc}: stages run one after the other and share no memory")
    if (size := service.get("shm_size")) is not None:
        return _size(service, "shm_size", size)
    if ipc == "host":
        notes.add(
            f"{service.name}: ipc: host becomes {_HOST_SHM} of shared memory; shm_size sets another size"
        )
        return _HOST_SHM
    return None


def _gpus(service: Service, reserved: Any, notes: Notes) -> int:
    counts: list[int | None] = [_reservation(service, entry) for entry in reserved or []]
    if (gpus := service.get("gpus")) is not None:
        entries = gpus if isinstance(gpus, list) else [{"count": gpus}]
        counts += [_reservation(service, {"capabilities": ["gpu"], **entry}) for entry in entries]
    for device in service.items("devices"):
        name = as_text(device).partition(":")[0]
        if name.startswith("nvidia.com/gpu="):
            counts += [None] if name.endswith("=all") else [1]
            continue
        if not name.startswith("/dev/nvidia"):
            raise service.refuse("devices", f"{name}: a stage gets no devices besides GPUs")
        counts += [1] if re.fullmatch(r"/dev/nvidia\d+", name) else []
    runtime = as_text(service.get("runtime"))
    if runtime not in ("", "nvidia", "runc"):
        raise service.refuse("runtime", f"{runtime}: the cluster chooses the runtime")
    if runtime == "nvidia" and not counts:
        counts = [None]
    if None in counts:
        notes.add(f"{service.name}: all GPUs of the machine are asked for: it gets 1; count: N asks for more")
    return sum(count or 1 for count in counts)


def _reservation(service: Service, entry: Any) -> int | None:
    """How many GPUs; None: all of the machine."""
    if not isinstance(entry, dict):
        raise service.refuse("deploy", "a device must be a mapping")
    driver = as_text(entry.get("driver"))
    kinds = {as_text(kind) for kind in entry.get("capabilities") or []}
    if driver not in ("", "nvidia") or not kinds & {"gpu", "nvidia"}:
        what = driver if driver not in ("", "nvidia") else ", ".join(sorted(kinds)) or "without capabilities"
        raise service.refuse("deploy", f"the device {what} is not an NVIDIA GPU")
    if entry.get("device_ids"):
        return len(entry["device_ids"])
    count = as_text(entry.get("count", "all"))
    if count in ("all", "-1", ""):
        return None
    if not count.isdigit():
        raise service.refuse("deploy", f"{count!r} is not a number of GPUs")
    return int(count)


def _seconds(service: Service, value: Any) -> int:
    text = as_text(value).strip()
    if text.isdigit():
        return int(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise service.refuse("stop_grace_period", f"{text!r} is not a duration, such as 1m30s")
    return round(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def _retries(service: Service, notes: Notes) -> int:
    restart = as_text(service.get("restart"))
    policy = service.table("deploy").get("restart_policy") or {}
    name, _, count = restart.partition(":")
    if restart and name not in ("no", "false", "never", "always", "unless-stopped", "on-failure"):
        raise service.refuse("restart", f"{restart!r} is none of no, on-failure[:N], always, unless-stopped")
    if name == "on-failure" or (not restart and policy.get("condition") == "on-failure"):
        count = count or as_text(policy.get("max_attempts"))
        if not count:
            notes.add(f"{service.name}: restart: on-failure has no end with Docker: {_RETRIES} retries")
        elif not count.isdigit():
            raise service.refuse("restart", f"{count!r} is not a number of retries")
        return int(count or _RETRIES)
    if name in ("always", "unless-stopped"):
        notes.add(f"{service.name}: restart: {name} is ignored, a stage ends with its program")
    return 0
