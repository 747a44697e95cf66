"""What becomes of an API server's answers, and of a kubeconfig, on the way to the user."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websocket import ABNF, WebSocketConnectionClosedException, WebSocketTimeoutException

from jobrelay.cli import main as cli
from jobrelay.errors import ApiLost, BadInput, Conflict, Exit, JobRelayError
from jobrelay.executors.cluster import limits, submitting
from jobrelay.executors.cluster.api import Api, ApiError, Execution, collection
from jobrelay.executors.cluster.executor import ClusterExecutor
from jobrelay.hints import SameAgain
from tests.support.apiserver import Answer, Server, kubeconfig, ok, refusal, serving

Connect = Callable[..., tuple[Api, Server]]


@dataclass
class Naps:
    """Sleeps that take no time."""

    seconds: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture(autouse=True)
def no_cluster_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kubeconfig is looked for; and no other way to a cluster."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    for name in ("KUBERNETES_SERVICE_HOST", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> Naps:
    naps = Naps()
    monkeypatch.setattr(limits, "time", naps)
    return naps


@pytest.fixture
def connect(no_cluster_of_mine: Path, naps: Naps) -> Iterator[Connect]:
    """An Api, and the server that it speaks to."""
    open_servers = []

    def start(*answers: Answer) -> tuple[Api, Server]:
        manager = serving(*answers)
        server = manager.__enter__()
        open_servers.append(manager)
        kubeconfig(no_cluster_of_mine, server.url)
        return Api(None), server

    yield start
    for manager in open_servers:
        manager.__exit__(None, None, None)


NOT_FOUND = refusal(404, "NotFound", 'jobs.batch "a-train" not found')
FORBIDDEN = refusal(403, "Forbidden", 'jobs.batch is forbidden: User "u" cannot list resource "jobs"')
UNAUTHORIZED = refusal(401, "Unauthorized", "Unauthorized")
BUSY = refusal(429, "TooManyRequests", "try again later", Retry_After="7")
DOWN = refusal(503, "ServiceUnavailable", "etcd is not there")
CUT = Answer(200, b'{"a": "' + b"x" * 1000, cut=100)


# --- answers -------------------------------------------------------------------------------------


def test_a_good_answer(connect: Connect) -> None:
    api, server = connect(ok({"items": []}))
    assert api.get("/api/v1/pods", labelSelector="a=b,c", fieldSelector="x!=y") == {"items": []}
    (request,) = server.requests
    assert request.path == "/api/v1/pods?labelSelector=a%3Db%2Cc&fieldSelector=x%21%3Dy"
    assert request.headers["Authorization"] == "Bearer secret"
    assert (api.context, api.context_namespace, api.server) == ("test", "mine", server.url)


@pytest.mark.parametrize(
    ("answer", "status", "reason", "message"),
    [
        (NOT_FOUND, 404, "NotFound", '"a-train" not found'),
        (FORBIDDEN, 403, "Forbidden", "cannot list"),
        (refusal(409, "AlreadyExists", "it is there"), 409, "AlreadyExists", "it is there"),
        (Answer(404, b"404 page not found\n"), 404, "404", "404 page not found"),
        (Answer(422, b"\xff\xfe" * 1000), 422, "422", "\ufffd"),
        (Answer(400, b'["a list"]'), 400, "400", "a list"),
        (Answer(400, b'"text"'), 400, "400", "text"),
        (Answer(400, b'{"reason": null, "message": null, "details": null}'), 400, "400", ""),
        (Answer(400, b""), 400, "400", ""),
    ],
    ids=["404", "403", "409", "plain", "bytes", "list", "text", "nulls", "empty"],
)
def test_a_refusal_says_why(connect: Connect, answer: Answer, status: int, reason: str, message: str) -> None:
    api, _ = connect(answer)
    with pytest.raises(ApiError) as error:
        api.get("/x")
    assert (error.value.status, error.value.reason) == (status, reason)
    assert message in error.value.message
    assert len(error.value.message) < 1000


@given(
    st.integers(400, 599), st.binary(max_size=60) | st.sampled_from([b"[]", b"null", b'{"details": 5}', b"1"])
)
def test_any_refusal_can_be_told(status: int, body: bytes) -> None:
    error = ApiError(status, body, {})
    assert str(status) in str(error)
    assert isinstance(error.details, dict)


@pytest.mark.parametrize(
    "answers",
    [[DOWN, DOWN], [BUSY], [CUT], [CUT, DOWN, BUSY], [Answer(500, b"")], [Answer(504, b"gateway")]],
    ids=["row-6-503", "row-5-429", "row-2-cut", "all", "500", "504"],
)
def test_what_passes_is_tried_again(connect: Connect, answers: list[Answer]) -> None:
    api, server = connect(*answers, ok({"good": True}))
    assert api.get("/x") == {"good": True}
    assert len(server.requests) == len(answers) + 1


@pytest.mark.parametrize(
    ("after", "seconds"), [("7", 7), ("0", 0), ("3600", 60), ("soon", None), ("-1", None), ("", None)]
)
def test_row_5_retry_after_is_obeyed(connect: Connect, naps: Naps, after: str, seconds: float | None) -> None:
    api, _ = connect(refusal(429, "TooManyRequests", "later", Retry_After=after), ok({}))
    api.get("/x")
    (slept,) = naps.seconds
    assert slept == seconds if seconds is not None else 0 < slept < 1


def test_pauses_grow_and_have_jitter(connect: Connect, naps: Naps) -> None:
    api, _ = connect(*[DOWN] * 9, ok({}))
    api.get("/x")
    assert len(set(naps.seconds)) == 9
    assert naps.seconds[0] < 0.2 < max(naps.seconds) <= 5


def test_row_6_an_api_that_stays_down_is_lost(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.05)
    api, server = connect(DOWN)
    with pytest.raises(ApiLost, match="etcd is not there") as error:
        api.get("/x")
    assert f"{server.url} (context test)" in error.value.what
    assert "run the same command again" in error.value.what
    assert error.value.hint == SameAgain()
    assert error.value.exit_code == Exit.API_LOST


def test_row_5_an_api_that_stays_busy_is_lost(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.05)
    api, _ = connect(BUSY)
    with pytest.raises(ApiLost, match="try again later"):
        api.get("/x")


def test_a_name_and_a_password(connect: Connect, no_cluster_of_mine: Path) -> None:
    _, server = connect(ok({}))
    users = [{"name": "u", "user": {"username": "ann", "password": "x"}}]
    kubeconfig(no_cluster_of_mine, server.url, users=users)
    Api(None).get("/x")
    assert server.requests[0].headers["Authorization"] == "Basic YW5uOng="


def test_once_it_has_answered_it_is_waited_for_longer(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.0)
    api, _ = connect(ok({}), DOWN, DOWN, ok({"back": True}))
    api.get("/x")
    assert api.get("/x") == {"back": True}


def test_the_time_that_was_asked_for_holds_for_the_first_answer_too(
    connect: Connect, naps: Naps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.0)
    _, server = connect(DOWN, DOWN, ok({"kind": "JobList", "items": []}))
    assert cli.main(["list", "--api-timeout", "600"]) == Exit.SUCCEEDED
    assert len(naps.seconds) == 2
    server.answers = [DOWN]
    assert cli.main(["list"]) == Exit.API_LOST
    assert len(naps.seconds) == 2


def test_nobody_listens(connect: Connect, monkeypatch: pytest.MonkeyPatch, no_cluster_of_mine: Path) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.05)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        kubeconfig(no_cluster_of_mine, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(ApiLost, match="refused"):
            Api(None).get("/x")


@pytest.mark.parametrize("body", [b"<html>log in first</html>", b"", b"[]", b"null"], ids=repr)
def test_something_else_answers_there(connect: Connect, body: bytes) -> None:
    api, server = connect(Answer(200, body))
    with pytest.raises(ApiLost, match="not as a Kubernetes API server does") as error:
        api.get("/x")
    assert server.url in error.value.what


def test_row_8_credentials_that_are_refused(connect: Connect) -> None:
    api, _ = connect(UNAUTHORIZED, ok({}), UNAUTHORIZED)
    with pytest.raises(BadInput, match="does not accept the credentials of context test"):
        api.get("/x")
    api.get("/x")
    with pytest.raises(ApiLost, match="no longer accepts the credentials") as error:
        api.get("/x")
    assert "run the same command again" in error.value.what
    assert error.value.hint == SameAgain()


# --- what is sent --------------------------------------------------------------------------------

JOB = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a-train", "namespace": "ns"}}


def test_row_7_the_reply_to_a_create_is_lost(connect: Connect) -> None:
    api, server = connect(CUT, refusal(409, "AlreadyExists", 'jobs.batch "a-train" already exists'))
    with pytest.raises(ApiError) as error:
        api.create("/apis/batch/v1/namespaces/ns/jobs", JOB)
    assert error.value.reason == "AlreadyExists"
    assert [request.body for request in server.requests] == [JOB, JOB]


def test_how_objects_are_changed(connect: Connect) -> None:
    api, server = connect(ok({}))
    api.patch("/p", {"a": 1})
    api.apply("/p", {"b": 2})
    patch, apply = server.requests
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert apply.headers["Content-Type"] == "application/apply-patch+yaml"
    assert apply.path == "/p?fieldManager=jobrelay"
    assert "force" not in apply.path


@pytest.mark.parametrize(
    ("answer", "gone"),
    [(ok({}), True), (NOT_FOUND, False), (refusal(409, "Conflict", "the UID in the precondition"), False)],
    ids=["there", "gone", "row-47-another-one"],
)
def test_only_the_object_that_is_meant_is_deleted(connect: Connect, answer: Answer, gone: bool) -> None:
    api, server = connect(answer)
    assert api.delete("/p", uid="u-1", grace_seconds=0) is gone
    body = server.requests[0].body
    assert body["preconditions"] == {"uid": "u-1"}
    assert (body["propagationPolicy"], body["gracePeriodSeconds"]) == ("Background", 0)


def test_a_delete_that_is_forbidden_is_told(connect: Connect) -> None:
    api, _ = connect(FORBIDDEN)
    with pytest.raises(ApiError, match="Forbidden"):
        api.delete("/p")


def test_where_all_of_a_kind_live() -> None:
    assert collection("v1", "pods", None) == "/api/v1/pods"


# --- streams -------------------------------------------------------------------------------------


def test_a_stream_is_read_as_it_comes_and_refusals_are_told(connect: Connect) -> None:
    api, _ = connect(Answer(200, b"one\ntwo\n"), NOT_FOUND)
    with api.open("/log", {"follow": "true"}) as response:
        assert response.read() == b"one\ntwo\n"
    with pytest.raises(ApiError, match="NotFound"), api.open("/log", {}):
        pass


def test_patience_with_streams_ends_when_nothing_else_answers(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, _ = connect(ok({}))
    error = ConnectionResetError("reset by peer")
    api.check_patience(error)  # it has never answered: whoever asked first was told already
    api.get("/x")
    api.check_patience(error)
    monkeypatch.setattr(api, "_give_up", -1)
    with pytest.raises(ApiLost, match="reset by peer"):
        api.check_patience(error)


class Socket:
    """A WebSocket that has a script: frames, or what to raise."""

    def __init__(self, *script: tuple[int, bytes] | Exception) -> None:
        self.script = list(script)
        self.closed = False
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1

    def recv_data_frame(self, control: bool) -> tuple[int, Any]:
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step[0], SimpleNamespace(data=step[1])

    def close(self, timeout: float) -> None:
        self.closed = True


def frame(channel: int, data: bytes) -> tuple[int, bytes]:
    return ABNF.OPCODE_BINARY, bytes([channel]) + data


def status(**tree: Any) -> tuple[int, bytes]:
    return frame(3, json.dumps({"metadata": {}, **tree}).encode())


SUCCESS = status(status="Success")
EXIT_7 = status(
    status="Failure", reason="NonZeroExitCode", message="command terminated with non-zero exit code",
    details={"causes": [{"reason": "ExitCode", "message": "7"}]},
)  # fmt: skip
NO_COMMAND = status(status="Failure", reason="InternalError", message='exec: "python": not found in $PATH')


SILENCE = WebSocketTimeoutException("silence")


def test_a_command_that_is_refused(connect: Connect) -> None:
    api, server = connect(refusal(403, "Forbidden", "no exec for you"))
    with pytest.raises(BadInput, match=r"exec in reader: .*403"):
        api.execute("/api/v1/namespaces/ns/pods/reader", ["echo", "a b"], None)
    (request,) = server.requests
    assert request.path.startswith(
        "/api/v1/namespaces/ns/pods/reader/exec?command=echo&command=a+b&stdin=false"
    )


def test_what_a_command_prints_and_how_it_ends() -> None:
    socket = Socket(
        (ABNF.OPCODE_PING, b""), frame(1, b""), frame(1, b"out"), frame(2, b"err"), frame(1, b"put"), EXIT_7
    )
    execution = Execution(socket, None)
    assert list(execution.stdout()) == [b"out", b"put"]
    assert execution.finish() == 7
    assert (execution.stderr, socket.closed) == (b"err", True)
    assert Execution(Socket(frame(1, b"x"), SUCCESS), None).finish() == 0


def test_row_1_a_command_that_is_silent_for_long() -> None:
    socket = Socket(SILENCE, (ABNF.OPCODE_PONG, b""), SILENCE, frame(1, b"at last"), SUCCESS)
    execution = Execution(socket, None)
    assert list(execution.stdout()) == [b"at last"]
    assert (execution.finish(), socket.pings) == (0, 2)


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        ([NO_COMMAND], JobRelayError, "not found in"),
        ([frame(1, b"x"), (ABNF.OPCODE_CLOSE, b"")], ApiLost, "without a status"),
        ([frame(1, b"x"), WebSocketConnectionClosedException("gone")], ApiLost, "was cut: gone"),
        ([ConnectionResetError("reset")], ApiLost, "was cut: reset"),
        ([SILENCE, SILENCE], ApiLost, "was cut: silence"),
    ],
    ids=["no-command", "closed", "cut", "reset", "row-1-half-open"],
)
def test_a_command_whose_end_is_not_known(script: list[Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Execution(Socket(*script), None).finish()


# --- the kubeconfig ------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `list` says when it ends as bad input."""
    assert cli.main(["list", *arguments]) == Exit.BAD_INPUT
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_no_kubeconfig_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    err = told(capsys)
    assert err.startswith("error: no cluster: ")
    assert "--context" in err
    assert "--local" in err


KUBECONFIGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_text(""), "cluster"),
    "not-yaml": (lambda path: path.write_text("{"), "cannot be read"),
    "not-utf-8": (lambda path: path.write_bytes(b"\xff\x00"), "cannot be read"),
    "a-list": (lambda path: path.write_text("[]"), "cluster"),
    "a-folder": (lambda path: path.mkdir(), "cannot be read"),
    "no-current": (lambda path: kubeconfig(path, "http://x", **{"current-context": ""}), "no cluster"),
    "unknown-current": (lambda path: kubeconfig(path, "http://x", **{"current-context": "y"}), "no cluster"),
    "no-contexts": (lambda path: kubeconfig(path, "http://x", contexts=[]), "no cluster"),
    "no-such-cluster": (lambda path: kubeconfig(path, "http://x", clusters=[]), "'c' is not in the"),
    "no-scheme": (lambda path: kubeconfig(path, "10.0.0.1:6443"), "no server with http(s)://"),
    "no-server": (lambda path: kubeconfig(path, "http://x", clusters=[{"name": "c", "cluster": {}}]),
                  "server"),
    "no-such-certificate": (
        lambda path: kubeconfig(path, "https://x", clusters=[
            {"name": "c", "cluster": {"server": "https://x", "certificate-authority": "/none"}}]),
        "context test cannot be used"),
}  # fmt: skip


@pytest.mark.parametrize(("write", "said"), KUBECONFIGS.values(), ids=KUBECONFIGS.keys())
def test_a_kubeconfig_that_cannot_be_used(
    write: Callable[[Path], object], said: str, no_cluster_of_mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(no_cluster_of_mine)
    err = told(capsys)
    assert said in err
    assert "name one with --context, or run without a cluster: --local" in err


def test_a_context_that_is_not_there(no_cluster_of_mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubeconfig(no_cluster_of_mine, "http://x")
    err = told(capsys, "--context", "other")
    assert "no context 'other' in the kubeconfig" in err
    assert "it has: test" in err


def test_a_context_asked_for_without_a_kubeconfig(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no cluster: " in told(capsys, "--context", "other")


_trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=4) | st.sampled_from(["test", "c"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["name", "cluster", "user", "context", "server"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
_keys = st.sampled_from(["current-context", "clusters", "users", "contexts", "apiVersion"])


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(_keys, _trees, max_size=2) | _trees, st.sampled_from([None, "test"]))
def test_any_tree_in_a_kubeconfig_is_used_or_bad_input(
    no_cluster_of_mine: Path, tree: Any, context: str | None
) -> None:
    kubeconfig(no_cluster_of_mine, "http://127.0.0.1:9")
    if isinstance(tree, dict):
        kubeconfig(no_cluster_of_mine, "http://127.0.0.1:9", **tree)
    else:
        no_cluster_of_mine.write_text(yaml.safe_dump(tree))
    try:
        Api(context)
    except BadInput as error:
        assert error.hint  # noqa: PT017 - it may also be good


# --- from the command line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([UNAUTHORIZED], Exit.BAD_INPUT, "does not accept the credentials of context test"),
        ([FORBIDDEN], Exit.BAD_INPUT, 'cannot be listed: jobs.batch is forbidden: User "u" cannot list'),
        ([DOWN], Exit.API_LOST, "does not answer"),
        ([Answer(200, b"<html>")], Exit.API_LOST, "not as a Kubernetes API server does"),
        ([ok({"kind": "JobList", "items": []})], Exit.SUCCEEDED, ""),
        ([ok({"kind": "JobList", "items": None})], Exit.SUCCEEDED, ""),
    ],
    ids=["401", "row-9-403", "row-6-503", "html", "empty", "null"],
)
def test_list_against_a_server(
    connect: Connect, answers: list[Answer], code: Exit, said: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.05)
    connect(*answers)
    assert cli.main(["list", "-o", "name"]) == code
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_what_the_api_server_refuses_is_an_error_that_people_can_read() -> None:
    error = ApiError(403, b'{"reason": "Forbidden", "message": "jobs.batch is forbidden"}', {})
    assert isinstance(error, JobRelayError)
    assert (error.exit_code, error.what) == (Exit.BAD_INPUT, "403 Forbidden: jobs.batch is forbidden")


def test_row_17_creates_that_meet_in_the_counter_of_a_quota_are_made_again(connect: Connect) -> None:
    message = 'Operation cannot be fulfilled on resourcequotas "q": the object has been modified'
    conflict = {"kind": "Status", "reason": "Conflict", "message": message, "code": 409,
                "details": {"name": "q", "kind": "resourcequotas"}}  # fmt: skip
    api, server = connect(Answer(409, json.dumps(conflict).encode()), ok({"made": True}))
    assert api.create("/api/v1/namespaces/a/pods", {}) == {"made": True}
    assert len(server.requests) == 2


def test_row_48_jobs_that_another_launcher_has_let_expire(connect: Connect) -> None:
    jobs = {"kind": "JobList", "items": [{"metadata": {"name": "a-train", "creationTimestamp": ""}}]}
    api, server = connect(ok(jobs), refusal(404, "NotFound", 'jobs.batch "a-train" not found'))
    executor = ClusterExecutor.__new__(ClusterExecutor)
    executor.api, executor.namespace = api, "a"
    assert executor.expire("a", 0)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("kept", "removed"), [({"ttlSecondsAfterFinished": 20}, True), ({}, False)])
def test_row_39_a_server_that_keeps_a_time_to_live_acts_upon_it(
    connect: Connect, kept: dict[str, int], removed: bool
) -> None:
    """A feature gate decides before 1.21, and not the version: without it the field is dropped."""
    job = {"metadata": {"name": "a-train", "creationTimestamp": ""}, "spec": kept}
    api, _ = connect(ok({"kind": "JobList", "items": [job]}), ok(job))
    executor = ClusterExecutor.__new__(ClusterExecutor)
    executor.api, executor.namespace = api, "a"
    assert executor.expire("a", 20) is removed


def test_row_13_a_job_that_is_there_and_is_not_there_in_turn(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DELETION_SECONDS", 1.0)
    conflict = refusal(409, "AlreadyExists", 'jobs.batch "a-train" already exists')
    api, server = connect(*[conflict, NOT_FOUND] * 300, ok({}))
    with pytest.raises(Conflict, match="by turns that it exists and that it does not"):
        submitting.submit(api, JOB)
    assert len(server.requests) < 40


def test_row_13_a_job_that_goes_meanwhile_is_created_at_once(connect: Connect) -> None:
    conflict = refusal(409, "AlreadyExists", 'jobs.batch "a-train" already exists')
    api, server = connect(conflict, NOT_FOUND, ok(JOB))
    assert submitting.submit(api, JOB).how == "created"
    assert [request.method for request in server.requests] == ["POST", "GET", "POST"]
