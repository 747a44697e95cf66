"""The Kubernetes API as plain dicts; waits for a server that is temporarily unreachable.

`login` decides how to reach it, and as which user. There is no model of its objects, since real servers
send what models reject.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

from websocket import WebSocketBadStatusException, WebSocketException

from jobrelay.errors import ApiLost, BadInput
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api.errors import (
    STREAM_ENDED,
    ApiError,
    NoLogin,
    root_of,
    tls_refusal,
    worth_another_try,
)
from jobrelay.executors.cluster.api.execution import Execution
from jobrelay.executors.cluster.login.connection import Connection
from jobrelay.executors.cluster.login.kubeconfig import IN_CLUSTER
from jobrelay.hints import Command, SameAgain
from jobrelay.kube.objects import Object

T = TypeVar("T")

MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
FIELD_MANAGER: Final = "jobrelay"


class Api:
    """One context of a kubeconfig. Thread-safe.

    give_up: seconds without a successful call before it raises ApiLost. None: as in `limits`, where the
    first call has a shorter limit.
    """

    def __init__(self, context: str | None, give_up: float | None = None) -> None:
        self._first_give_up = give_up
        give_up = limits.GIVE_UP_SECONDS if give_up is None else give_up
        self._connection = Connection(context)
        self.context = self._connection.access.context
        self.context_namespace = self._connection.access.namespace
        self._give_up = give_up
        #: seconds of silence after which a connection counts as dead
        self._read = min(limits.READ_SECONDS, max(give_up, 1.0))
        self._last_good = 0.0
        self._lock = threading.Lock()

    @property
    def server(self) -> str:
        return self._connection.server

    def get(self, path: str, **query: str) -> Any:
        return self._retrying(lambda: self._json("GET", path, query))

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """Create an object (POST). If the reply is lost, the retry gets a 409 for its own object."""
        return self._retrying(lambda: self._json("POST", path, {}, body))

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._retrying(lambda: self._json("PATCH", path, {}, body, MERGE))

    def apply(self, path: str, body: Mapping[str, Any]) -> Any:
        """Apply an object server-side, never by force."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._retrying(lambda: self._json("PATCH", path, query, body, APPLY))

    def delete(self, path: str, uid: str | None = None, grace_seconds: int | None = None) -> bool:
        """Delete an object in the background; with `uid`, only the object that has it.

        Returns False if it was already gone, or another object has its name.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        try:
            self._retrying(lambda: self._json("DELETE", path, {}, body))
        except ApiError as error:
            if error.status in (404, 409):
                return False
            raise
        return True

    @contextlib.contextmanager
    def open(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        """A response to read as it arrives (a watch, a log). Raises ApiError, STREAM_ENDED."""
        response = self._request("GET", path, query, None, None)
        try:
            if response.status >= 400:
                raise ApiError(response.status, response.read(), response.headers)
            self.was_good()
            yield response
        finally:
            response.close()  # do not return it to the pool: its body may be half read

    def execute(self, path: str, command: list[str], stdin: Iterator[bytes] | None = None) -> Execution:
        """Run a command in a running container. path: of the Pod."""
        query = [("command", part) for part in command]
        query += [("stdin", str(stdin is not None).lower()), ("stdout", "true"), ("stderr", "true")]
        name = path.rsplit("/", 1)[-1]
        try:
            socket = self._retrying(lambda: self._exec_socket(f"{path}/exec?{urlencode(query)}"))
        except ApiError as error:
            what = f"exec in {name}: {error}"
            if error.status == 403:
                raise BadInput(what, Command("doctor")) from error
            raise ApiLost(what) from error
        return Execution(socket, stdin)

    def _exec_socket(self, path: str, again: bool = True) -> Any:
        """Open an exec WebSocket. Raises ApiError, BadInput, STREAM_ENDED.

        again: after a 401, log in again and retry once.
        """
        used = self._connection
        try:
            return self._sent(lambda connection: connection.exec_socket(path, limits.READ_SECONDS / 2))
        except WebSocketBadStatusException as error:
            if error.status_code == 401 and again and self._last_good and self._log_in_again(used):
                return self._exec_socket(path, again=False)
            raise ApiError(error.status_code, error.resp_body or b"", error.resp_headers or {}) from error
        except WebSocketException as error:
            raise ConnectionError(str(error)) from error

    def was_good(self) -> None:
        with self._lock:
            self._last_good = time.monotonic()

    def check_patience(self, error: Exception, since: float | None = None) -> None:
        """Raise ApiLost if the last successful call is too long ago.

        since: time.monotonic() of the caller's own last success, where others' calls do not count.
        """
        with self._lock:
            last = self._last_good if since is None else since
        if last and time.monotonic() - last > self._give_up:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> ApiLost:
        root = root_of(error)
        if isinstance(root, NoLogin):
            what = f"the API server {self.server} can no longer be used: {root}"
        else:
            what = f"the API server {self._who} does not answer: {root}"
        return ApiLost(
            f"{what}. The Jobs, if any, continue; run the same command again to re-attach", SameAgain()
        )

    def _no_tls(self, error: ssl.SSLError) -> BadInput:
        """The error for a failed handshake before any successful call."""
        cluster = self._connection.access.cluster
        if isinstance(error, ssl.SSLCertVerificationError):
            return BadInput(
                f"the certificate of the API server {self._who} is not trusted: {error.verify_message}",
                f"compare certificate-authority and server of {cluster.what} in {cluster.file}",
            )
        reason = (error.reason or str(error)).lower().replace("_", " ")
        return BadInput(
            f"no TLS with the API server {self._who}: {reason}",
            f"compare {cluster.what} and {self._connection.access.user.what} in {cluster.file}",
        )

    @property
    def _who(self) -> str:
        proxy = self._connection.proxy
        return f"{self.server} (context {self.context}{f', by the proxy {proxy}' if proxy else ''})"

    def not_accepted_any_more(self) -> ApiLost:
        """The error for a 401 after successful calls."""
        return ApiLost(
            f"the API server {self.server} no longer accepts the credentials of {self.context}. "
            "The Jobs continue; log in again, then run the same command again to re-attach",
            SameAgain(),
        )

    def _retrying(self, call: Callable[[], T]) -> T:
        """Run `call`; retry with jitter while the API is down, busy or failing."""
        first = limits.FIRST_GIVE_UP_SECONDS if self._first_give_up is None else self._first_give_up
        patience = self._give_up if self._last_good else first
        try:
            result = _retried(call, patience)
        except STREAM_ENDED as error:
            if not self._last_good and (refusal := tls_refusal(error)):
                raise self._no_tls(refusal) from error
            raise self._lost(error) from error
        except ApiError as error:
            if error.status >= 500 or error.status == 429:
                raise self._lost(error) from error
            if error.status == 401 and self._last_good:
                raise self.not_accepted_any_more() from error
            if error.status == 401:
                raise BadInput(
                    f"the API server {self.server} does not accept the credentials of context {self.context}",
                    "log in again, or choose another --context",
                ) from error
            raise
        self.was_good()
        return result

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        kind: str | None = None,
    ) -> Object:
        response = self._request(method, path, query, body, kind)
        content = response.read()
        response.release_conn()
        if response.status >= 400:
            raise ApiError(response.status, content, response.headers)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ApiLost(
                f"{self.server} (context {self.context}) answers, but not as a Kubernetes API server does: "
                f"{content[:60].decode('utf-8', 'replace')!r}",
                "check the server of that context, and any proxy before it",
            )
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        kind: str | None,
    ) -> Any:
        text = json.dumps(body) if body is not None else None
        full = path + (f"?{urlencode(query)}" if query else "")

        def send(connection: Connection) -> Any:
            return connection.request(method, full, text, kind or "application/json", self._read)

        used = self._connection
        response = self._sent(send)
        if response.status == 401 and self._last_good and self._log_in_again(used):
            response.close()
            response = self._sent(send)
        return response

    def _sent(self, send: Callable[[Connection], T]) -> T:
        """Run `send`; if a login fails in the middle of a run, raise NoLogin, which is retried."""
        try:
            return send(self._connection)
        except BadInput as error:
            if not self._last_good:
                raise
            raise NoLogin(error.what) from error

    def _log_in_again(self, used: Connection) -> bool:
        """Read the kubeconfig again: the user may have logged in, or a token been renewed (row 8)."""
        with self._lock:
            if self._connection is used:  # else another thread already did
                try:
                    self._connection = Connection(None if self.context == IN_CLUSTER else self.context)
                except BadInput:
                    return False  # the 401 explains more
        return True


def collection(version: str, resource: str, namespace: str | None) -> str:
    """The path of a collection: ("batch/v1", "jobs", "a") → /apis/batch/v1/namespaces/a/jobs."""
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{inside}/{resource}"


def _retried(call: Callable[[], T], seconds: float) -> T:
    """Run `call`; retry while that may help. After `seconds`, raise the last error."""
    end = time.monotonic() + seconds
    backoff = limits.Backoff()
    while True:
        try:
            return call()
        except Exception as error:
            if not worth_another_try(error) or time.monotonic() >= end:
                raise
            backoff.wait(error.retry_after if isinstance(error, ApiError) else None)
