"""TLS with the API server: who is believed, and what is shown, without a key that lies about."""

from __future__ import annotations

import base64
import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import BadInput, Exit
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.login import connection
from tests.support import PATIENCE, REPOSITORY
from tests.support.apiserver import Server, kubeconfig, ok, refusal, serving
from tests.support.tls import Pki

JOBS = ok({"kind": "JobList", "items": []})


def data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def point(file: Path, server: Server, pki: Pki, user: dict[str, Any], **cluster: Any) -> None:
    """A kubeconfig for a server with TLS."""
    fields = {"server": server.url, "certificate-authority-data": data(pki.file("authority.crt")), **cluster}
    fields = {key: value for key, value in fields.items() if value is not None}
    kubeconfig(file, "", clusters=[{"name": "c", "cluster": fields}], users=[{"name": "u", "user": user}])


def certificate(pki: Pki) -> dict[str, str]:
    return {
        "client-certificate-data": data(pki.file("client.crt")),
        "client-key-data": data(pki.file("client.key")),
    }


@pytest.mark.parametrize("memfd", [True, False], ids=["memory", "unlinked"])
@pytest.mark.parametrize("given", ["data", "files"])
def test_a_certificate_logs_in_everywhere(
    kubeconfig_file: Path, pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, memfd: bool
) -> None:
    if not memfd:  # as on macOS
        monkeypatch.delattr(os, "memfd_create", raising=False)
    files = {
        "client-certificate": os.path.relpath(pki.file("client.crt"), tmp_path),
        "client-key": os.path.relpath(pki.file("client.key"), tmp_path),
    }
    with serving(
        ok({}), refusal(403, "Forbidden", "no"), tls=pki.server(asks_for_certificate=True)
    ) as server:
        point(kubeconfig_file, server, pki, certificate(pki) if given == "data" else files)
        api = Api(None)
        api.get("/x")
        with pytest.raises(BadInput, match="403"):
            api.execute("/api/v1/namespaces/a/pods/p", ["true"])
    assert len(server.requests) == 2


@pytest.mark.parametrize("memfd", [True, False], ids=["memory", "unlinked"])
def test_a_launcher_that_is_killed_leaves_no_key(
    kubeconfig_file: Path, pki: Pki, tmp_path: Path, memfd: bool
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serving(ok({}), tls=pki.server(asks_for_certificate=True)) as server:
        point(kubeconfig_file, server, pki, certificate(pki))
        program = f"""
import os, signal, sys
sys.path.insert(0, {str(REPOSITORY)!r})
if not {memfd}:
    del os.memfd_create
from jobrelay.executors.cluster.api import Api
Api(None).get("/x")
os.kill(os.getpid(), signal.SIGKILL)
"""
        environment = {**os.environ, "TMPDIR": str(temporary)}
        done = subprocess.run([sys.executable, "-c", program], env=environment, timeout=PATIENCE, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(server.requests) == 1
    assert list(temporary.iterdir()) == []


def test_a_plugin_may_log_in_with_a_certificate(kubeconfig_file: Path, pki: Pki, tmp_path: Path) -> None:
    program = f"""#!{sys.executable}
import json
chain = open({str(pki.file("client.crt"))!r}).read()
key = open({str(pki.file("client.key"))!r}).read()
status = {{"clientCertificateData": chain, "clientKeyData": key}}
version = "client.authentication.k8s.io/v1beta1"
print(json.dumps({{"apiVersion": version, "kind": "ExecCredential", "status": status}}))
"""
    (tmp_path / "log-in").write_text(program)
    (tmp_path / "log-in").chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "./log-in"}}
    answers = (ok({}), refusal(403, "Forbidden", "no"))
    with serving(*answers, tls=pki.server(asks_for_certificate=True)) as server:
        point(kubeconfig_file, server, pki, user)
        api = Api(None)
        api.get("/x")
        with pytest.raises(BadInput, match="403"):
            api.execute("/api/v1/namespaces/a/pods/p", ["true"])
    assert len(server.requests) == 2


def test_a_certificate_that_is_none(kubeconfig_file: Path, pki: Pki) -> None:
    with serving(JOBS, tls=pki.server()) as server:
        for changes in (
            {"client-certificate-data": "bm9uZQ=="},
            {"client-key-data": "bm9uZQ=="},
            {"client-key-data": data(pki.file("server.key"))},
        ):
            point(kubeconfig_file, server, pki, {**certificate(pki), **changes})
            with pytest.raises(BadInput, match=r"user u .*: its client certificate and key cannot be used"):
                Api(None).get("/x")
    assert server.requests == []


def test_a_key_with_a_passphrase_is_not_asked_about(kubeconfig_file: Path, pki: Pki, tmp_path: Path) -> None:
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "ec",
        "-in",
        str(pki.file("client.key")),
        "-aes256",
        "-passout",
        "pass:abcd",
        "-out",
    ]
    subprocess.run([*command, str(locked)], check=True, capture_output=True)
    with serving(JOBS, tls=pki.server()) as server:
        point(kubeconfig_file, server, pki, {**certificate(pki), "client-key-data": data(locked)})
        with pytest.raises(BadInput, match="the key is encrypted"):
            Api(None).get("/x")


# --- who is believed ---


@pytest.mark.parametrize(
    ("authority", "cluster", "said"),
    [
        ("client.crt", {}, "is not trusted"),
        (None, {}, "is not trusted"),
        ("authority.crt", {"tls-server-name": "other.test"}, "Hostname mismatch"),
    ],
    ids=["wrong", "the-machines", "other-name"],
)
def test_a_server_that_is_not_believed_is_bad_input(
    kubeconfig_file: Path, pki: Pki, capsys: pytest.CaptureFixture[str],
    authority: str | None, cluster: dict[str, Any], said: str,
) -> None:  # fmt: skip
    with serving(JOBS, tls=pki.server()) as server:
        believed = data(pki.file(authority)) if authority else None
        point(
            kubeconfig_file,
            server,
            pki,
            {"token": "t"},
            **{"certificate-authority-data": believed},
            **cluster,
        )
        assert cli.main(["list"]) == Exit.BAD_INPUT
    err = capsys.readouterr().err
    assert said in err
    assert f"{server.url} (context test)" in err
    assert f"cluster c in {kubeconfig_file}" in err
    assert server.requests == []


def test_a_server_that_speaks_no_tls(
    kubeconfig_file: Path, pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(JOBS) as server:
        server.url = server.url.replace("http:", "https:")
        point(kubeconfig_file, server, pki, {"token": "t"})
        assert cli.main(["list"]) == Exit.BAD_INPUT
    assert "no TLS with the API server" in capsys.readouterr().err


def test_a_server_that_wants_a_certificate(
    kubeconfig_file: Path, pki: Pki, capsys: pytest.CaptureFixture[str]
) -> None:
    context = pki.server(asks_for_certificate=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # which says so within the handshake
    with serving(JOBS, tls=context) as server:
        point(kubeconfig_file, server, pki, {"token": "t"})
        assert cli.main(["list"]) == Exit.BAD_INPUT
    assert "no TLS with the API server" in capsys.readouterr().err


def test_the_servers_own_certificate_may_be_believed(kubeconfig_file: Path, pki: Pki) -> None:
    with serving(ok({}), tls=pki.server()) as server:
        own = data(pki.file("server.crt"))
        point(kubeconfig_file, server, pki, {"token": "t"}, **{"certificate-authority-data": own})
        assert Api(None).get("/x") == {}


def test_a_server_of_another_name(kubeconfig_file: Path, pki: Pki) -> None:
    with serving(ok({}), refusal(403, "Forbidden", "no"), tls=pki.server()) as server:
        server.url = server.url.replace("127.0.0.1", "localhost")  # which its certificate does not say
        point(kubeconfig_file, server, pki, {"token": "t"}, **{"tls-server-name": "api.test"})
        api = Api(None)
        api.get("/x")
        with pytest.raises(BadInput, match="403"):
            api.execute("/api/v1/namespaces/a/pods/p", ["true"])
    assert len(server.requests) == 2


def test_a_certificate_that_nobody_checks_is_one_warning(
    kubeconfig_file: Path, pki: Pki, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_warned", set())
    with serving(JOBS, tls=pki.server()) as server:
        insecure = {"certificate-authority-data": None, "insecure-skip-tls-verify": True}
        point(kubeconfig_file, server, pki, {"token": "t"}, **insecure)
        assert cli.main(["list"]) == Exit.SUCCEEDED
        assert cli.main(["list"]) == Exit.SUCCEEDED
    err = capsys.readouterr().err
    assert err == (f"warning: the certificate of {server.url} is not checked (insecure-skip-tls-verify)\n")
