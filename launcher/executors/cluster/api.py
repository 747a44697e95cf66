"""The Kubernetes API as plain dicts: the only import of the Kubernetes client.

The client library brings what is hard to write well: kubeconfig with all its ways to log in, TLS,
proxies, the WebSocket of exec. Its models and its watch are left alone: real servers send objects
that its models reject, and its watch reads on for ever on a connection that has died.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config import ConfigException
from kubernetes.stream import ws_client
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay
from websocket import (
    ABNF,
    WebSocket,
    WebSocketBadStatusException,
    WebSocketException,
    WebSocketTimeoutException,
)

from launcher.errors import ApiLost, BadInput, Exit, JobRelayError
from launcher.hints import Command, SameAgain

Object = dict[str, Any]
T = TypeVar("T")

#: Seconds: to connect; and between two reads, so that the next try begins within 30.
CONNECT: Final = 5.0
READ: Final = 29.0
#: Seconds without one good call after which the API is given up (rows 1 and 6 of docs/faults.md).
GIVE_UP: Final = 300.0
#: The same, for the very first call: nothing runs yet, and the address may simply be wrong.
FIRST_GIVE_UP: Final = 5.0

MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
FIELD_MANAGER: Final = "jobrelay"

#: What the context is called inside a Pod.
IN_CLUSTER: Final = "in-cluster"

STREAM_ENDED = (urllib3.exceptions.HTTPError, OSError)


class ApiError(JobRelayError):
    """The server answered, and the answer is no."""

    exit_code = Exit.BAD_INPUT

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = {}
        if not isinstance(answer, dict):  # not the API server's own, but a proxy's before it
            answer = {}
        details = answer.get("details")
        self.status = status
        self.reason = str(answer.get("reason") or status)
        self.message = str(answer.get("message") or body[:500].decode("utf-8", "replace"))
        self.details: Object = details if isinstance(details, dict) else {}
        self.retry_after = _seconds(headers.get("Retry-After"))
        super().__init__(f"{self.status} {self.reason}: {self.message}", Command("doctor"))


def _seconds(text: str | None) -> float | None:
    return min(float(text), 60.0) if text and text.isdigit() else None


class Api:
    """One context of a kubeconfig. Thread-safe.

    give_up: seconds without one good call after which it raises ApiLost.
    """

    def __init__(self, context: str | None, give_up: float = GIVE_UP) -> None:
        self._configuration, self.context, self.context_namespace = _load(context)
        self._pool = client.ApiClient(self._configuration).rest_client.pool_manager
        self._give_up = give_up
        #: seconds of silence after which a connection counts as dead
        self._read = min(READ, max(give_up, 1.0))
        self._last_good = 0.0
        self._lock = threading.Lock()

    @property
    def server(self) -> str:
        return str(self._configuration.host)

    def get(self, path: str, **query: str) -> Object:
        return self._retrying(lambda: self._json("GET", path, query))

    def create(self, path: str, body: Object) -> Object:
        """POST. When its reply was lost, the retry meets its own object as a 409, as any other."""
        return self._retrying(lambda: self._json("POST", path, {}, body))

    def patch(self, path: str, body: Object) -> Object:
        return self._retrying(lambda: self._json("PATCH", path, {}, body, MERGE))

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply, never forced."""
        query = {"fieldManager": FIELD_MANAGER}
        return self._retrying(lambda: self._json("PATCH", path, query, body, APPLY))

    def delete(self, path: str, uid: str | None = None, grace_seconds: int | None = None) -> bool:
        """DELETE in the background; only the object with that uid, if one is given.

        False if it was gone, or another one has its name.
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
        """A response to be read as it comes (a watch, a log). Raises ApiError, STREAM_ENDED."""
        response = self._request("GET", path, query, None, None)
        try:
            if response.status >= 400:
                raise ApiError(response.status, response.read(), response.headers)
            self.was_good()
            yield response
        finally:
            response.close()  # not back into the pool: it may stand in the middle of a body

    def execute(self, path: str, command: list[str], stdin: Iterator[bytes] | None = None) -> Execution:
        """Run a command in a running container. path: the Pod's."""
        query = [("command", part) for part in command]
        query += [("stdin", str(stdin is not None).lower()), ("stdout", "true"), ("stderr", "true")]
        url = f"{self.server}{path}/exec?{urlencode(query)}".replace("http", "ws", 1)
        headers = {key.lower(): value for key, value in self._headers().items()}
        headers["sec-websocket-protocol"] = ws_client.V4_CHANNEL_PROTOCOL
        name = path.rsplit("/", 1)[-1]
        try:
            socket = self._retrying(lambda: self._websocket(url, headers))
        except ApiError as error:
            what = f"exec in {name}: {error}"
            if error.status == 403:
                raise BadInput(what, Command("doctor")) from error
            raise ApiLost(what) from error
        return Execution(socket, stdin)

    def _websocket(self, url: str, headers: Mapping[str, str]) -> Any:
        """Raises ApiError, OSError."""
        try:
            return ws_client.create_websocket(self._configuration, url, headers)  # type: ignore[no-untyped-call]
        except WebSocketBadStatusException as error:
            raise ApiError(error.status_code, error.resp_body or b"", error.resp_headers or {}) from error
        except WebSocketException as error:
            raise ConnectionError(str(error)) from error

    def was_good(self) -> None:
        with self._lock:
            self._last_good = time.monotonic()

    def check_patience(self, error: Exception, since: float | None = None) -> None:
        """Raise ApiLost if the last good call is too long ago to go on hoping.

        since: time.monotonic() of the caller's own last good call, where others' do not help it.
        """
        with self._lock:
            last = self._last_good if since is None else since
        if last and time.monotonic() - last > self._give_up:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> ApiLost:
        return ApiLost(
            f"the API server {self.server} (context {self.context}) does not answer: {_root(error)}. "
            "The Jobs, if any, go on; run the same command again to re-attach",
            SameAgain(),
        )

    def not_accepted_any_more(self) -> ApiLost:
        """What a 401 is, once there was a good answer."""
        return ApiLost(
            f"the API server {self.server} no longer accepts the credentials of {self.context}. "
            "The Jobs go on; log in again, then run the same command again to re-attach",
            SameAgain(),
        )

    def _retrying(self, call: Callable[[], T]) -> T:
        """`call`, again with jitter while the API is down, busy or out of order."""
        patience = self._give_up if self._last_good else min(FIRST_GIVE_UP, self._give_up)
        retrying = Retrying(
            retry=retry_if_exception(_worth_another_try),
            stop=stop_after_delay(patience),
            wait=_pause,
            reraise=True,
        )
        try:
            result = retrying(call)
        except STREAM_ENDED as error:
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
        body: Object | None = None,
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
                f"{content[:60]!r}",
                "look at the server of that context, and at what is before it",
            )
        return answer

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        kind: str | None,
    ) -> Any:
        def send() -> Any:
            headers = self._headers()
            if body is not None:
                headers["Content-Type"] = kind or "application/json"
            return self._pool.request(
                method,
                f"{self.server}{path}" + (f"?{urlencode(query)}" if query else ""),
                body=json.dumps(body) if body is not None else None,
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT, read=self._read),
                retries=False,
                preload_content=False,
            )

        response = send()
        if response.status == 401 and self._last_good and self._log_in_again():
            response.close()
            response = send()
        return response

    def _log_in_again(self) -> bool:
        """Read the kubeconfig anew: somebody may have logged in, or a token been renewed (row 8)."""
        with self._lock:
            try:
                self._configuration, _, _ = _load(None if self.context == IN_CLUSTER else self.context)
            except BadInput:
                return False  # the 401 says more
            self._pool = client.ApiClient(self._configuration).rest_client.pool_manager
        return True

    def _headers(self) -> dict[str, str]:
        # asked anew for every call: an exec plugin's token expires, and the client renews it here
        headers = {"Accept": "application/json", "User-Agent": "jobrelay"}
        names = ("BearerToken", "authorization")  # of the client from 36 on, and before
        tokens = (self._configuration.get_api_key_with_prefix(name) for name in names)
        if token := next(filter(None, tokens), None):
            headers["Authorization"] = token
        elif self._configuration.username:
            headers["Authorization"] = self._configuration.get_basic_auth_token() or ""
        return headers


class _ImpatientSocket(WebSocket):
    """A WebSocket that waits so long for a byte and no longer, from the connection on."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.settimeout(READ / 2)


# create_websocket has no option for it
ws_client.WebSocket = _ImpatientSocket  # type: ignore[attr-defined]


class Execution:
    """A command that runs in a container: its stdout as chunks, then its exit code."""

    def __init__(self, socket: Any, stdin: Iterator[bytes] | None) -> None:
        self._socket = socket
        self._status: Object | None = None
        self.stderr = b""
        if stdin is not None:
            threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()

    def stdout(self) -> Iterator[bytes]:
        """Chunks of stdout as they come, until the command has ended. Raises ApiLost."""
        try:
            while self._status is None:
                opcode, frame = self._receive()
                if opcode == ABNF.OPCODE_CLOSE:
                    break
                if opcode not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or not frame.data:
                    continue
                channel, data = frame.data[0], bytes(frame.data[1:])
                if channel == ws_client.STDOUT_CHANNEL and data:
                    yield data
                elif channel == ws_client.STDERR_CHANNEL:
                    self.stderr = (self.stderr + data)[-65536:]
                elif channel == ws_client.ERROR_CHANNEL:
                    self._status = json.loads(data)
        except (WebSocketException, OSError) as error:
            raise ApiLost(
                f"the connection to the volume was cut: {error}; run the same command again", SameAgain()
            ) from error
        finally:
            self._socket.close(timeout=1)

    def _receive(self) -> tuple[int, Any]:
        """The next frame. A command may be silent for long, but whatever is there answers a ping."""
        try:
            return self._socket.recv_data_frame(True)  # type: ignore[no-any-return]
        except WebSocketTimeoutException:
            self._socket.ping()
            return self._socket.recv_data_frame(True)  # type: ignore[no-any-return]

    def finish(self) -> int:
        """The command's exit code, after all of stdout was read."""
        for _ in self.stdout():
            pass
        if self._status is None:
            raise ApiLost(
                "the connection to the volume ended without a status; run the same command again", SameAgain()
            )
        if self._status.get("status") == "Success":
            return 0
        causes = (self._status.get("details") or {}).get("causes") or ()
        for cause in causes:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise JobRelayError(f"the command could not be run beside the volume: {self._status.get('message')}")

    def _feed(self, stdin: Iterator[bytes]) -> None:
        try:
            for chunk in stdin:
                self._socket.send_binary(bytes([ws_client.STDIN_CHANNEL]) + chunk)
        except (WebSocketException, OSError):
            self._socket.abort()  # so that the reader of stdout does not wait for the rest, and tells why


def path_of(item: Object) -> str:
    """Where an object lives: its collection's path and its name."""
    return f"{collection_of(item)}/{quote(item['metadata']['name'])}"


def plural(kind: str) -> str:
    """The resource of a kind: NetworkPolicy → networkpolicies."""
    name = kind.lower()
    if name == "endpoints":
        return name
    if name.endswith("s"):
        return f"{name}es"
    return f"{name[:-1]}ies" if re.search("[^aeiou]y$", name) else f"{name}s"


def collection_of(item: Object) -> str:
    return collection(item["apiVersion"], plural(item["kind"]), item["metadata"].get("namespace"))


def collection(version: str, resource: str, namespace: str | None) -> str:
    """collection("batch/v1", "jobs", "a") → /apis/batch/v1/namespaces/a/jobs"""
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    inside = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{inside}/{resource}"


def _load(context: str | None) -> tuple[Any, str, str | None]:
    """Configuration, name and namespace of a context. Raises BadInput."""
    ways = "start one (make kind-up), name one with --context, or run without a cluster: --local"
    configuration = client.Configuration()
    try:
        contexts, current = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    except ConfigException as error:
        if context is None:
            with contextlib.suppress(ConfigException):
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                return configuration, IN_CLUSTER, None
        raise BadInput(f"no cluster: {error}", ways) from error
    except Exception as error:  # the loader lets YAML's and the file system's own errors through
        raise BadInput(f"the kubeconfig cannot be read: {error}", ways) from error
    names = [entry["name"] for entry in contexts]
    if context is not None and context not in names:
        raise BadInput(f"no context {context!r} in the kubeconfig", f"it has: {', '.join(names) or 'none'}")
    if context is None and not current:
        raise BadInput("no cluster: the kubeconfig has no current context", ways)
    chosen = next(entry for entry in contexts if entry["name"] == context) if context else current
    try:
        config.load_kube_config(context=chosen["name"], client_configuration=configuration)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise BadInput(f"context {chosen['name']} cannot be used: {error}", ways) from error
    if not str(configuration.host).startswith(("http://", "https://")):
        raise BadInput(
            f"context {chosen['name']} cannot be used: its cluster has no server with http(s)://", ways
        )
    return configuration, chosen["name"], (chosen.get("context") or {}).get("namespace")


def _worth_another_try(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        # several creates at once meet in the counter of a quota; nothing was made then
        quota = error.status == 409 and error.details.get("kind") == "resourcequotas"
        return quota or error.status == 429 or error.status >= 500
    if isinstance(error, urllib3.exceptions.SSLError) or isinstance(_root(error), ssl.SSLError):
        return False  # a wrong certificate stays wrong
    return isinstance(error, STREAM_ENDED)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ApiError) and error.retry_after is not None:
        return error.retry_after
    return float(min(0.1 * 2**state.attempt_number, 5.0) * random.uniform(0.5, 1.0))


def _root(error: BaseException) -> BaseException:
    reason = getattr(error, "reason", None)
    return _root(reason) if isinstance(reason, BaseException) else error
