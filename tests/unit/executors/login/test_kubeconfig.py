"""Which cluster a kubeconfig names: as kubectl reads it, from one file or several."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.login.connection import Connection
from jobrelay.executors.cluster.login.kubeconfig import load
from tests.support.apiserver import kubeconfig

Object = dict[str, Any]


def files(monkeypatch: pytest.MonkeyPatch, folder: Path, **trees: Object | str) -> None:
    """KUBECONFIG with files of these names and contents, in this order."""
    for name, tree in trees.items():
        (folder / name).write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(str(folder / name) for name in trees))


def tree(context: str, server: str, token: str = "t", **others: Any) -> Object:
    return {
        "current-context": context,
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "u"}}],
        **others,
    }


@pytest.mark.parametrize("current", [None, "", "gone", 7], ids=repr)
def test_a_context_that_is_named_needs_no_current_one(kubeconfig_file: Path, current: object) -> None:
    kubeconfig(kubeconfig_file, "http://x", **{"current-context": current})
    access = load("test")
    assert (access.context, access.server, access.namespace) == ("test", "http://x", "mine")


def test_of_several_files_the_first_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # what `kubectl config view` says of the same files
    other = {"name": "one", "context": {"cluster": "c", "user": "zz"}}
    second = tree("two", "http://second")
    second["contexts"].append(other)
    files(monkeypatch, tmp_path, a=tree("one", "http://first"), b=second, empty="", comment="# nothing\n")
    assert load(None).context == "one"
    for name in ("one", "two"):
        access = load(name)
        assert (access.server, access.user.what, access.user.fields) == (
            "http://first", "user u", {"token": "t"},
        )  # fmt: skip


def test_empty_and_missing_files_say_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(monkeypatch, tmp_path, empty="", good=tree("one", "http://x"))
    monkeypatch.setenv(
        "KUBECONFIG", f"{tmp_path / 'missing'}{os.pathsep}{os.environ['KUBECONFIG']}{os.pathsep}"
    )
    assert load(None).server == "http://x"


def test_a_stale_current_context_of_the_first_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(monkeypatch, tmp_path, a={"current-context": "gone"}, b=tree("one", "http://x"))
    assert load("one").server == "http://x"
    with pytest.raises(BadInput, match=r"current context 'gone' is not one of its contexts \(one\)"):
        load(None)


def test_paths_are_relative_to_their_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "token").write_text("abc")
    users = [{"name": "u", "user": {"tokenFile": "token"}}]
    (tmp_path / "there" / "b").write_text(yaml.safe_dump({"users": users}))
    first = tree("one", "http://x")
    del first["users"]
    (tmp_path / "a").write_text(yaml.safe_dump(first))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(["a", "there/b"]))
    assert load(None).user.path("token") == tmp_path / "there" / "token"


def test_it_is_looked_for_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config", "http://x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert load(None).server == "http://x"
    for nothing in ("", os.pathsep):
        monkeypatch.setenv("KUBECONFIG", nothing)
        assert load(None).server == "http://x"


def test_a_context_without_a_user_is_nobody(kubeconfig_file: Path) -> None:
    kubeconfig(kubeconfig_file, "http://x", contexts=[{"name": "test", "context": {"cluster": "c"}}])
    assert load(None).user.fields == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"clusters": [{"name": "c", "cluster": {"server": "http://a"}}] * 2}, "two clusters called c"),
        ({"users": {"u": {}}}, "users is not a list"),
        ({"contexts": [{"context": {}}]}, "one of its contexts lacks a name"),
        ({"users": [{"name": "u", "user": "ann"}]}, "one of its users lacks a name or a user"),
    ],
    ids=["twice", "mapping", "nameless", "text"],
)
def test_a_file_that_is_wrong_is_named(kubeconfig_file: Path, changes: Object, said: str) -> None:
    kubeconfig(kubeconfig_file, "http://x", **changes)
    with pytest.raises(BadInput, match=said) as error:
        load(None)
    assert str(kubeconfig_file) in error.value.what


def test_a_file_that_is_no_yaml_is_not_quoted(kubeconfig_file: Path) -> None:
    kubeconfig_file.write_text("users:\n- name: u\n  user: {token: secret-4711: x\n")
    with pytest.raises(BadInput, match=r"line \d+, column \d+") as error:
        load(None)
    assert "secret-4711" not in error.value.what
    assert error.value.__suppress_context__


def test_a_file_that_may_not_be_read(kubeconfig_file: Path) -> None:
    kubeconfig(kubeconfig_file, "http://x")
    kubeconfig_file.chmod(0)
    if os.access(kubeconfig_file, os.R_OK):
        pytest.skip("needs another user than root")
    with pytest.raises(BadInput, match="Permission denied"):
        load(None)


CA = {"server": "https://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({**CA, "certificate-authority-data": "not base64!"}, "certificate-authority-data is not base64"),
        ({**CA, "certificate-authority-data": "bm8gY2VydGlmaWNhdGU="}, "is not a certificate"),
        ({**CA, "certificate-authority": "none.crt"}, "certificate-authority .* cannot be read"),
        ({**CA, "certificate-authority": ""}, "certificate-authority is empty"),
        ({**CA, "insecure-skip-tls-verify": "yes"}, "neither true nor false"),
        ({**CA, "proxy-url": "socks5://127.0.0.1:1080"}, "speaks socks5, which is not supported"),
        ({**CA, "proxy-url": "socks5://ann:pass-word-7@h:1080"}, "socks5"),
        ({**CA, "proxy-url": "ftp://h"}, "speaks ftp"),
        ({**CA, "proxy-url": "http://h:port"}, "is not a URL"),
        ({"server": "http://h", "proxy-url": "https://h"}, "cannot be asked by the proxy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_cluster_that_is_wrong_is_bad_input(kubeconfig_file: Path, cluster: Object, said: str) -> None:
    kubeconfig(kubeconfig_file, "", clusters=[{"name": "c", "cluster": cluster}])
    with pytest.raises(BadInput, match=said) as error:
        Connection(None)
    assert "cluster c" in error.value.what
    assert "pass-word-7" not in error.value.what
    assert stat.S_ISREG(kubeconfig_file.stat().st_mode)
