"""Every request is sent with the credentials that the kubeconfig promises, or there is no request."""

from __future__ import annotations

import base64
import json
import stat
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobrelay.cli import main as cli
from jobrelay.errors import ApiLost, BadInput, Exit
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.login import credentials as module
from jobrelay.executors.cluster.login import kubeconfig as places
from jobrelay.executors.cluster.login.credentials import Credentials
from jobrelay.executors.cluster.login.kubeconfig import load
from tests.support.apiserver import Answer, Server, kubeconfig, ok, refusal, serving

Object = dict[str, Any]
Log = Callable[..., Server]

TOKEN = "tok-4711.abcdefghijklmnop"
JOBS = ok({"kind": "JobList", "items": []})


@pytest.fixture
def user(kubeconfig_file: Path) -> Iterator[Log]:
    """A server, and a kubeconfig for it whose user has these fields."""
    managers = []

    def start(fields: Object, *answers: Answer) -> Server:
        managers.append(serving(*(answers or (JOBS,))))
        server = managers[-1].__enter__()
        kubeconfig(kubeconfig_file, server.url, users=[{"name": "u", "user": fields}])
        return server

    yield start
    for manager in managers:
        manager.__exit__(None, None, None)


def listed(capsys: pytest.CaptureFixture[str], code: Exit = Exit.SUCCEEDED, *options: str) -> str:
    """What `list` writes to stderr."""
    assert cli.main(["list", *options]) == code
    out, err = capsys.readouterr()
    assert TOKEN not in out + err
    return err


# --- tokens ---


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " \n\n"], ids=repr)
@pytest.mark.parametrize("field", ["token", "tokenFile"])
def test_a_token_that_ends_in_a_line_break(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, end: str
) -> None:
    (tmp_path / "token").write_text(TOKEN + end, newline="")
    server = user({"token": TOKEN + end} if field == "token" else {"tokenFile": "token"})
    listed(capsys)
    assert {r.headers["Authorization"] for r in server.requests} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("field", ["token", "tokenFile"])
@pytest.mark.parametrize("verbose", [(), ("-v",)], ids=["plain", "verbose"])
def test_a_token_that_is_none_is_not_printed(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, verbose: tuple[str, ...]
) -> None:
    text = f"{TOKEN}\n{TOKEN}"
    (tmp_path / "token").write_text(text)
    server = user({"token": text} if field == "token" else {"tokenFile": "token"})
    err = listed(capsys, Exit.BAD_INPUT, *verbose)
    assert "is not one token" in err
    assert server.requests == []


def test_a_token_in_an_error_of_any_kind_is_not_printed(
    user: Log, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"Invalid header value b'Bearer {TOKEN}\\n'")

    user({"token": TOKEN})
    monkeypatch.setattr("urllib3.PoolManager.urlopen", broken)
    err = listed(capsys, Exit.FAILED, "-v")
    assert "Traceback" in err
    assert "Bearer ***" in err


@pytest.mark.parametrize(
    ("write", "said"),
    [(None, "No such file"), ("", "is empty"), ("\n", "is empty"), (b"\xff\xfe", "cannot be read")],
    ids=["missing", "empty", "blank", "not-text"],
)
def test_a_token_file_that_holds_no_token(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], write: str | bytes | None, said: str
) -> None:
    if write is not None:
        (tmp_path / "token").write_bytes(write.encode() if isinstance(write, str) else write)
    server = user({"tokenFile": "token"})
    err = listed(capsys, Exit.BAD_INPUT)
    assert said in err
    assert str(tmp_path / "token") in err
    assert server.requests == []


def test_a_token_file_is_read_again(user: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOKEN_FILE_SECONDS", 0)
    (tmp_path / "token").write_text("first")
    server = user({"tokenFile": "token"}, ok({}))
    api = Api(None)
    api.get("/x")
    (tmp_path / "token").write_text("second\n")
    api.get("/x")
    (tmp_path / "token").unlink()  # whoever renews it may be about to
    api.get("/x")
    assert [r.headers["Authorization"] for r in server.requests] == [
        "Bearer first", "Bearer second", "Bearer second",
    ]  # fmt: skip


def test_the_token_of_a_pod_ends_in_a_line_break(
    kubeconfig_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "ca.crt").write_text("a certificate")
    monkeypatch.setattr(places, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = load(None)
    assert (access.context, access.server) == ("in-cluster", "https://[fd00::1]:443")
    assert Credentials(access).current().authorization == f"Bearer {TOKEN}"


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_pod_without_a_service_account_says_how_to_give_it_one(
    kubeconfig_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    for name in {"token", "ca.crt"} - {missing}:
        (tmp_path / name).write_text("something")
    monkeypatch.setattr(places, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert "automountServiceAccountToken: true" in listed(capsys, Exit.BAD_INPUT)


def test_a_name_and_a_password_are_not_printed(
    user: Log, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    user({"username": "ann", "password": "pass-word-7"})
    pair = base64.b64encode(b"ann:pass-word-7").decode()

    def broken(*_: object, **__: object) -> None:
        raise ValueError(f"pass-word-7 {pair}")

    monkeypatch.setattr("urllib3.PoolManager.urlopen", broken)
    assert "ValueError: *** ***" in listed(capsys, Exit.FAILED)


# --- certificates and files that are missing ---


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"client-certificate": "none.crt", "client-key": "none.key"}, "none.crt cannot be read"),
        (
            {"client-certificate-data": "!", "client-key-data": "eA=="},
            "client-certificate-data is not base64",
        ),
        ({"client-certificate-data": "eA=="}, "client-key is missing"),
        ({"client-key-data": "eA=="}, "client-certificate is missing"),
        ({"auth-provider": {"name": "gcp", "config": {}}}, "gke-gcloud-auth-plugin"),
        ({"auth-provider": {"name": "azure"}}, "kubelogin"),
        ({"auth-provider": {"name": "mine"}}, "the launcher does not support 'mine'"),
        ({"auth-provider": {"name": "oidc", "config": {}}}, "id-token is empty"),
        ({"auth-provider": {"name": "oidc"}, "exec": {"command": "x"}}, "only one can log in"),
        ({"as-groups": ["g"]}, "no `as`"),
        ({"as": "ann", "as-groups": "g"}, "as-groups is not a list"),
        ({"as": "ann", "as-user-extra": {"a": "b"}}, "as-user-extra a is not a list"),
        ({"as": "ann\nAuthorization: x"}, "line break"),
        ({"token": 17}, "token is not a text"),
        ({"exec": {"command": "x"}}, "apiVersion '' is not one of"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, "is not one of"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}, "it names no command"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_sent_is_not_left_out(
    user: Log, capsys: pytest.CaptureFixture[str], fields: Object, said: str
) -> None:
    server = user(fields)
    err = listed(capsys, Exit.BAD_INPUT)
    assert said in err
    assert "context test" in err
    assert server.requests == []


def test_a_user_that_is_not_there(user: Log, kubeconfig_file: Path, capsys: Any) -> None:
    server = user({})
    kubeconfig(kubeconfig_file, server.url, users=[])
    assert "user 'u' is not in the kubeconfig" in listed(capsys, Exit.BAD_INPUT)
    assert server.requests == []


def jwt(**claims: Any) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])


def test_an_oidc_token_is_sent_while_it_is_good(user: Log, capsys: pytest.CaptureFixture[str]) -> None:
    good, old = jwt(exp=time.time() + 600), jwt(exp=1700000000)
    server = user({"auth-provider": {"name": "oidc", "config": {"id-token": good}}})
    listed(capsys)
    assert server.requests[0].headers["Authorization"] == f"Bearer {good}"
    server = user({"auth-provider": {"name": "oidc", "config": {"id-token": old}}})
    err = listed(capsys, Exit.BAD_INPUT)
    assert "its id-token expired at 2023-11-14T22:13:20Z" in err
    assert "kubectl --context test version" in err
    assert server.requests == []


# --- acting as somebody else ---

ANN = {
    "token": TOKEN,
    "as": "ann",
    "as-uid": "17",
    "as-groups": ["team", "über"],
    "as-user-extra": {"example.com/scope": ["a", "b"]},
}
AS_ANN = [
    ("Authorization", f"Bearer {TOKEN}"),
    ("Impersonate-User", "ann"),
    ("Impersonate-Uid", "17"),
    ("Impersonate-Group", "team"),
    ("Impersonate-Group", "über"),
    ("Impersonate-Extra-example.com%2Fscope", "a"),
    ("Impersonate-Extra-example.com%2Fscope", "b"),
]


def test_requests_watches_and_exec_act_as_the_kubeconfig_says(user: Log) -> None:
    server = user(ANN, ok({}), ok({}), refusal(403, "Forbidden", "no"))
    api = Api(None)
    api.create("/x", {})
    with api.open("/watch", {"watch": "true"}):
        pass
    with pytest.raises(BadInput):
        api.execute("/api/v1/namespaces/a/pods/p", ["true"])
    assert len(server.requests) == 3
    for request in server.requests:
        # http.server decodes as Latin-1 what was sent as UTF-8
        sent = [(name, value.encode("latin-1").decode()) for name, value in request.pairs]
        assert [pair for pair in sent if pair[0].startswith(("Authorization", "Impersonate"))] == AS_ANN


# --- exec plugins ---


def plugin(folder: Path, program: str, **settings: Any) -> Object:
    """A user with a plugin that runs `program`, in Python."""
    path = folder / "log-in"
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(program)}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {"apiVersion": V1, "command": "./log-in", "installHint": "brew install log-in", **settings}
    }


V1 = "client.authentication.k8s.io/v1"
GOOD = {"apiVersion": V1, "kind": "ExecCredential", "status": {"token": TOKEN}}


def prints(answer: Any) -> str:
    return f"print({json.dumps(answer)!r})"


def with_status(**status: Any) -> str:
    return prints({**GOOD, "status": status})


FAULTS = {
    "exit": ("import sys; sys.exit('no network, and no cached token')",
             ["exit code 1", "no network, and no cached token"]),
    "nonsense": (f"print('{TOKEN}')", ["is not JSON"]),
    "silent": ("", ["(0 bytes) is not JSON"]),
    "other-json": ("print([1])", ["is not an ExecCredential"]),
    "other-kind": (prints({**GOOD, "kind": "Pod"}), ["is not an ExecCredential"]),
    "other-version": (prints({**GOOD, "apiVersion": "client.authentication.k8s.io/v1beta1"}),
                      ["speaks apiVersion client.authentication.k8s.io/v1beta1"]),
    "no-status": (prints({**GOOD, "status": None}), ["has no status"]),
    "no-token": (with_status(), ["neither a token nor a certificate"]),
    "no-key": (with_status(clientCertificateData="x"), ["and not both"]),
    "number": (with_status(token=1), ["are not texts"]),
    "lines": (with_status(token=f"{TOKEN}\n{TOKEN}"), ["is not one token"]),
    "expired": (with_status(token=TOKEN, expirationTimestamp="2020-01-01T00:00:00Z"),
                ["expired at 2020-01-01T00:00:00Z"]),
    "no-time": (with_status(token=TOKEN, expirationTimestamp="soon"), ["is not a time: 'soon'"]),
}  # fmt: skip


@pytest.mark.parametrize(("program", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_a_plugin_that_fails_is_named_and_quoted(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, said: list[str]
) -> None:
    server = user(plugin(tmp_path, program))
    err = listed(capsys, Exit.BAD_INPUT)
    assert all(each in err for each in said), err
    if "one token" not in err:
        assert "the plugin ./log-in" in err
        assert "try: brew install log-in" in err
    assert server.requests == []
    assert "ERROR:root" not in err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-plugin", "it is not installed"),
        ("./none", "it does not exist"),
        ("./kubeconfig", "executed"),
    ],
)
def test_a_plugin_that_cannot_be_started(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, said: str
) -> None:
    server = user({"exec": {"apiVersion": V1, "command": command, "installHint": "brew install log-in"}})
    err = listed(capsys, Exit.BAD_INPUT)
    assert said in err
    assert f"the plugin {command}" in err
    assert "try: brew install log-in" in err
    assert server.requests == []


def test_a_plugin_that_never_answers(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PLUGIN_SECONDS", 0.5)
    # and what it has started holds its output open
    user(plugin(tmp_path, "import subprocess; subprocess.run(['sleep', '600'])"))
    assert "it did not answer within" in listed(capsys, Exit.BAD_INPUT)


def test_a_plugin_is_told_of_the_cluster_and_not_of_the_terminal(user: Log, tmp_path: Path) -> None:
    program = f"""
    import json, os, sys
    told = [os.environ["KUBERNETES_EXEC_INFO"], os.environ["A"], sys.argv[1:]]
    open("told.json", "w").write(json.dumps(told))
    print({json.dumps(GOOD)!r})
    """
    environment = [{"name": "A", "value": "b"}]
    server = user(plugin(tmp_path, program, args=["-x"], env=environment, provideClusterInfo=True), ok({}))
    Api(None).get("/x")
    information, variable, arguments = json.loads((tmp_path / "told.json").read_text())
    assert (variable, arguments) == ("b", ["-x"])
    assert json.loads(information) == {
        "kind": "ExecCredential",
        "apiVersion": V1,
        "spec": {"interactive": False, "cluster": {"server": server.url}},
    }
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


#: Counts its calls in `calls`; the token of each is good for a second, unless `broken` is there.
COUNTING = """
import json, pathlib, sys
from datetime import UTC, datetime, timedelta
calls = pathlib.Path("calls")
count = int(calls.read_text()) + 1 if calls.exists() else 1
calls.write_text(str(count))
if pathlib.Path("broken").exists():
    sys.exit("the identity provider is away")
expires = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
status = {"token": f"token-{count}", "expirationTimestamp": expires}
answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
print(json.dumps(answer))
"""


def test_a_plugin_is_asked_again_when_its_token_has_expired(user: Log, tmp_path: Path) -> None:
    server = user(plugin(tmp_path, COUNTING), ok({}))
    api = Api(None)
    deadline = time.monotonic() + 60
    while len({r.headers["Authorization"] for r in server.requests}) < 3 and time.monotonic() < deadline:
        api.get("/x")
        time.sleep(0.05)
    sent = [r.headers["Authorization"] for r in server.requests]
    assert sorted(set(sent)) == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]
    assert len(sent) > 3  # it is not asked for every request


def test_a_plugin_is_asked_again_when_its_token_is_refused(user: Log, tmp_path: Path) -> None:
    lasting = COUNTING.replace("seconds=1", "hours=1")
    server = user(plugin(tmp_path, lasting), ok({}), refusal(401, "Unauthorized", "no"), ok({}))
    api = Api(None)
    api.get("/x")
    api.get("/x")
    sent = [r.headers["Authorization"] for r in server.requests]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_exec_logs_in_again_too(user: Log, tmp_path: Path) -> None:
    lasting = COUNTING.replace("seconds=1", "hours=1")
    refused, forbidden = refusal(401, "Unauthorized", "no"), refusal(403, "Forbidden", "no")
    server = user(plugin(tmp_path, lasting), ok({}), refused, forbidden)
    api = Api(None)
    api.get("/x")
    with pytest.raises(BadInput, match="403"):
        api.execute("/api/v1/namespaces/a/pods/p", ["true"])
    assert [r.headers["Authorization"] for r in server.requests][1:] == ["Bearer token-1", "Bearer token-2"]


def test_a_plugin_that_fails_in_the_middle_of_a_run_is_waited_for(
    user: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = user(plugin(tmp_path, COUNTING), ok({}))
    api = Api(None, 600)
    api.get("/x")
    asked = len(server.requests)
    (tmp_path / "broken").touch()
    expire(api)
    naps: list[float] = []

    class Naps:
        @staticmethod
        def sleep(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                (tmp_path / "broken").unlink()

    monkeypatch.setattr(limits, "time", Naps)
    api.get("/x")
    assert len(naps) == 3
    assert len(server.requests) == asked + 1

    (tmp_path / "broken").touch()
    expire(api)
    monkeypatch.setattr(api, "_give_up", 0)
    with pytest.raises(ApiLost, match="the identity provider is away") as error:
        api.get("/x")
    assert "run the same command again" in error.value.what
    assert len(server.requests) == asked + 1


def expire(api: Api) -> None:
    credentials = api._connection._credentials
    assert credentials._login
    credentials._login = module.Login(expires=1.0)


def test_who_must_be_asked_and_cannot_be(
    user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user(plugin(tmp_path, prints(GOOD), interactiveMode="Always"))
    assert "stdin is not a terminal" in listed(capsys, Exit.BAD_INPUT)


def test_a_plugin_tells_a_good_time(user: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    server = user(plugin(tmp_path, with_status(token=TOKEN, expirationTimestamp=later)))
    listed(capsys)
    assert server.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"
