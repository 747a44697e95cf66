"""The launcher's part in functions of the user's own: the code travels with the run."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

import jobrelay
from jobrelay import manifests
from jobrelay.errors import BadInput
from jobrelay.manifests import Plan
from jobrelay.pipelines.code import MOST_CODE
from jobrelay.runs.target import Target
from tests.support.own import write_code

OWN = ("model.name=mine.nets:small",)


def _plan(target: Target, *settings: str) -> Plan:
    return manifests.render(target.manifests, target.config(None, settings), "a")


def test_the_code_travels_in_the_config_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_code(tmp_path))  # the current folder, unless another one is named
    named = _plan(Target(local=True, code=tmp_path), *OWN)
    plan = _plan(Target(local=True), *OWN)

    assert plan.config_map == named.config_map
    archive = base64.b64decode(plan.config_map["binaryData"]["code.tar.gz"])
    assert archive[:2] == b"\x1f\x8b"
    assert len(json.loads(plan.config_map["data"]["config.yaml"])["code"]) == 64
    assert plan.uploads == {}


def test_code_without_a_key_that_names_it_does_not_travel(tmp_path: Path) -> None:
    assert "binaryData" not in _plan(Target(local=True)).config_map
    with pytest.raises(BadInput, match="no key names a function in it"):
        Target(local=True, code=write_code(tmp_path)).config(None, ())


def test_other_code_is_other_work(tmp_path: Path) -> None:
    write_code(tmp_path)
    one, again = (_plan(Target(local=True, code=tmp_path), *OWN).hash for _ in range(2))
    write_code(tmp_path, other="")
    assert one == again != _plan(Target(local=True, code=tmp_path), *OWN).hash


def test_large_code_goes_to_the_volume(tmp_path: Path) -> None:
    (write_code(tmp_path) / "weights").write_bytes(os.urandom(MOST_CODE + 1))
    plan = _plan(Target(local=True, code=tmp_path), *OWN)
    assert "binaryData" not in plan.config_map
    assert list(plan.uploads) == [
        f"code/{json.loads(plan.config_map['data']['config.yaml'])['code']}/code.tar.gz"
    ]


@pytest.mark.parametrize(
    ("setting", "reported"),
    [
        ("model.name=mine.net:small", "model.name: mine.net:small: the code has no mine/net.py"),
        ("model.name=mine/nets.py:small", "model.name: package.module:function is expected"),
        ("data.name=:bars", "data.name: package.module:function is expected"),
        ("train.loss=mean", "train.loss: package.module:function is expected"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, setting: str, reported: str) -> None:
    with pytest.raises(BadInput) as raised:
        Target(local=True, code=write_code(tmp_path)).config(None, [setting])
    assert reported in str(raised.value)


def test_a_library_of_the_image_may_have_the_function(tmp_path: Path) -> None:
    _plan(Target(local=True, code=write_code(tmp_path)), "model.name=timm.models:create")


def test_the_library_takes_the_folder_too(tmp_path: Path) -> None:
    relay = jobrelay.Relay(on=jobrelay.Local(tmp_path / "v"), code=write_code(tmp_path / "code"))
    config_map = next(each for each in relay.render("a", set={"model.name": "mine.nets:small"}) if
                      each["kind"] == "ConfigMap")  # fmt: skip
    assert "code.tar.gz" in config_map["binaryData"]
