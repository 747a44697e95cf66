"""What `render` prints, read by kubectl."""

from __future__ import annotations

import json

import pytest

from tests.support import Place
from tests.support.kubectl import Kubectl


@pytest.mark.parametrize("run", ["1e-3", "12e34", "08", "y", "n", "0x1f", "0o7", "22e5", "null", "on"])
def test_kubectl_takes_what_render_prints_whatever_the_run_is_called(
    place: Place, kubectl: Kubectl, run: str
) -> None:
    kubectl.make_namespace()
    printed = place.run("render", "--run", run).out
    namespace = f"name: {kubectl.namespace}"
    assert namespace in printed
    answer = kubectl("apply", "--dry-run=client", "-o", "json", "-f", "-", stdin=printed)
    jobs = [item for item in json.loads(answer)["items"] if item["kind"] == "Job"]
    assert [job["metadata"]["labels"]["jobrelay.dev/run"] for job in jobs] == [run] * 3
