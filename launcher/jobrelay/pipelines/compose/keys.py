"""Every key of a compose file: honoured, ignored with a note, or refused."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.model import Notes, Service
from jobrelay.pipelines.compose.text.yamlfile import as_text

_TOP: Final = (
    "name",
    "version",
    "services",
    "volumes",
    "networks",
    "secrets",
    "configs",
    "include",
    "models",
)

#: Read elsewhere in this package.
HONOURED: Final = frozenset(
    """
    annotations attach build command configs cpus depends_on deploy devices develop entrypoint env_file
    environment extends gpus image init ipc links mem_limit mem_reservation profiles restart runtime secrets
    shm_size scale stop_grace_period tmpfs user volumes working_dir
""".split()  # noqa: SIM905
)

#: A stage is a process that nobody connects to, on a machine that the cluster chooses.
_IGNORED: Final = frozenset(
    """
    blkio_config cgroup cgroup_parent container_name cpu_count cpu_percent cpu_period cpu_quota
    cpu_rt_period cpu_rt_runtime cpu_shares cpuset dns dns_opt dns_search domainname expose external_links
    extra_hosts healthcheck hostname isolation label_file labels log_driver log_opt logging mac_address
    mem_swappiness memswap_limit network_mode networks oom_kill_disable oom_score_adj pids_limit platform
    ports post_start pre_stop pull_policy pull_refresh_after read_only security_opt stdin_open stop_signal
    storage_opt tty ulimits uts
""".split()  # noqa: SIM905
)

#: Those that people would miss get a reason.
_WHY_IGNORED: Final = {
    "read_only": "read_only: the container's own files are writable",
    "ulimits": "ulimits: a Pod has those of its node",
    "extra_hosts": "extra_hosts: a stage cannot reach servers of this machine",
}

#: They change what a program can do or see, and a Pod of this launcher has no counterpart.
_REFUSED: Final = {
    "privileged": "a stage has no rights over its node",
    "cap_add": "a stage gets no further capabilities",
    "cap_drop": "a stage has the capabilities of the cluster's policy",
    "pid": "a stage sees its own processes only",
    "cgroup_ns": "a stage has a cgroup namespace of its own",
    "userns_mode": "user namespaces are the cluster's choice",
    "group_add": "further groups are not supported",
    "sysctls": "kernel parameters are the cluster's choice",
    "volumes_from": "name the volumes in the service itself, or use a YAML anchor",
    "device_cgroup_rules": "a stage gets no devices besides GPUs",
    "credential_spec": "it is for Windows",
    "models": "a model runner is a part of Docker",
    "provider": "a provider is a part of Docker",
    "use_api_socket": "a stage has no container engine",
}
_HARMLESS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "cap_drop": lambda _: True,  # fewer rights than here: what works with them works with more
    "pid": lambda value: value in ("", None),
    "cgroup_ns": lambda value: value == "private",
    "userns_mode": lambda value: value in ("", "host"),
}

_VERSION: Final = re.compile(r"[1-3](\.\d+)?")


def check_top(tree: dict[str, Any], file: Path) -> None:
    """Raises BadInput for unknown top-level keys, a version that does not exist, and a file of version 1."""
    known = (key for key in tree if not key.startswith("x-"))
    unknown = [key for key in known if key not in _TOP]
    if "services" not in tree and any(
        isinstance(tree[key], dict) and tree[key].keys() & {"image", "build"} for key in unknown
    ):
        raise BadInput(
            f"{file}: a compose file of version 1, without the key services",
            "put the key services: in front, and indent what follows",
        )
    if unknown:
        raise BadInput(f"{file}: unknown key {unknown[0]}", _nearest(unknown[0], _TOP))
    version = tree.get("version")
    if version is not None and not _VERSION.fullmatch(as_text(version).strip()):
        raise BadInput(f"{file}: version {as_text(version)!r} is none of compose", "the key can be deleted")


def check(service: Service, notes: Notes) -> None:
    """Note what is ignored. Raises BadInput for a key that is unknown, or that cannot be honoured."""
    for key, value in service.config.items():
        if key.startswith("x-") or key in HONOURED or value is None:
            continue
        if key in _IGNORED:
            if value not in (False, [], {}):
                notes.ignore(_WHY_IGNORED.get(key, key), service.name)
        elif key in _REFUSED:
            harmless = _HARMLESS.get(key)
            if value not in (False, [], {}) and not (harmless and harmless(value)):
                raise service.refuse(key, _REFUSED[key], "delete the key if the stage works without it")
        else:
            raise service.refuse(key, "unknown key", _nearest(key, [*HONOURED, *_IGNORED, *_REFUSED]))


def _nearest(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "own keys start with x-"
