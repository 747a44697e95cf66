"""Check whether a plan can run as processes, before anything is created."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobrelay.errors import BadInput
from jobrelay.executors.local import configs
from jobrelay.executors.local.pod.process import process_of
from jobrelay.kube.objects import Pod
from jobrelay.kube.read import containers, is_built_in, main_container
from jobrelay.manifests import Plan
from jobrelay.resources import install_command, missing_for_training


def check_plan(plan: Plan, root: Path) -> None:
    """Raise BadInput for a Job that uses something processes cannot do."""
    jobs = plan.jobs.values()
    if any(is_built_in(main_container(job)) for job in jobs) and (missing := missing_for_training()):
        raise BadInput(
            f"--local runs the built-in programs with {sys.executable}, which lacks {', '.join(missing)}",
            install_command("train"),
        )
    config_maps = configs.given([*plan.shared, plan.config_map])
    with tempfile.TemporaryDirectory() as scratch:
        for job in jobs:
            spec = job["spec"]["template"]["spec"]
            pod: Pod = {"metadata": {"name": "check"}, "spec": spec}
            for container in containers(spec):
                process_of(container, pod, root, Path(scratch), config_maps)
            for container in spec.get("initContainers") or ():
                if container.get("restartPolicy") == "Always" and container.get("startupProbe"):
                    raise BadInput(
                        f"container {container['name']}: --local does not implement a sidecar's startupProbe",
                        "leave the probe out, or run it on a cluster",
                    )
