"""k8s/base/rbac.yaml says what the launcher may do, and preflight what it asks for: the same."""

from __future__ import annotations

import yaml

from jobrelay.executors.cluster.preflight import RIGHTS, SERVICE_RIGHTS, SHARED_RIGHTS, Right
from tests.support import BASE


def test_row_59_the_role_has_every_right_that_is_needed_and_no_other() -> None:
    role = yaml.safe_load((BASE / "rbac.yaml").read_text())
    granted = [
        Right(verb, resource, group)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
    assert len(set(granted)) == len(granted)
    assert set(granted) == {*RIGHTS, *SERVICE_RIGHTS, *SHARED_RIGHTS}
    assert not any("*" in str(right) for right in granted)
