"""Log in with an exec plugin (client.authentication.k8s.io), which prints an ExecCredential.

Any other result is an error that names and quotes the plugin: without the credentials that the kubeconfig
defines, the request would be sent as another user.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from jobrelay.errors import BadInput
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.login.kubeconfig import Entry
from jobrelay.kube.objects import Object
from jobrelay_runner.text.redaction import keep_secret, redacted

_GROUP: Final = "client.authentication.k8s.io/"
_VERSIONS: Final = (f"{_GROUP}v1", f"{_GROUP}v1beta1")
_EXTENSION: Final = f"{_GROUP}exec"
_WORDS: Final = 2000  # the last characters of its stderr


class Plugin:
    """The exec plugin of a user. Raises BadInput if the kubeconfig does not define how to start it."""

    def __init__(self, user: Entry, cluster: Entry) -> None:
        self._user = user
        self._cluster = cluster
        self._settings = settings = Entry(user.context, f"{user.what}, exec", user.tree("exec"), user.file)
        self._command = settings.text("command")
        if not self._command:
            raise settings.wrong("it names no command")
        self._version = settings.text("apiVersion")
        if self._version not in _VERSIONS:
            raise settings.wrong(f"apiVersion {self._version!r} is not one of {', '.join(_VERSIONS)}")
        self._arguments = settings.fields.get("args") or []
        if not isinstance(self._arguments, list) or not all(isinstance(a, str) for a in self._arguments):
            raise settings.wrong("args is not a list of texts")
        self._variables = _variables(settings)
        self._mode = settings.text("interactiveMode") or "IfAvailable"

    def run(self) -> Object:
        """Run the plugin; returns the ExecCredential's `status`: a valid token, or certificate and key.

        Raises BadInput.
        """
        interactive = self._mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
        if self._mode == "Always" and not interactive:
            raise self._failed("it wants to ask for something, and stdin is not a terminal")
        code, output, words = self._outcome(interactive)
        if code:
            raise self._failed(f"it ended with exit code {code}", words)
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            # its output may be the token itself
            raise self._failed(f"what it printed ({len(output)} bytes) is not JSON", words) from None
        return self._status(answer, words)

    def _outcome(self, interactive: bool) -> tuple[int, bytes, str]:
        """Exit code, stdout, and the end of stderr, which a user at a terminal sees as it is written."""
        try:
            process = subprocess.Popen(
                [self._program(), *self._arguments],
                stdin=None if interactive else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self._variables, "KUBERNETES_EXEC_INFO": self._information(interactive)},
                start_new_session=not interactive,  # so that its child processes can be killed too
            )
        except (OSError, ValueError) as error:
            raise self._failed(f"it cannot be started: {error}") from error
        words: list[bytes] = []
        assert process.stdout
        assert process.stderr
        reader = threading.Thread(target=_pass_on, args=(process.stderr, words, interactive), daemon=True)
        reader.start()
        timer = threading.Timer(limits.PLUGIN_SECONDS, _end, (process, interactive))
        timer.start()
        try:
            with process.stdout as stdout:
                output = stdout.read()
            code = process.wait()
        except BaseException:  # Ctrl-C
            _end(process, interactive)
            process.wait()
            raise
        finally:
            late = not timer.is_alive()
            timer.cancel()
        reader.join(1)  # one of its child processes may keep stderr open
        stderr = b"".join(words).decode("utf-8", "replace").strip()[-_WORDS:]
        if late and code:
            raise self._failed(f"it did not answer within {limits.PLUGIN_SECONDS:.0f} s", stderr)
        return code, output, stderr

    def _program(self) -> str:
        """Its full path: relative to the kubeconfig if it has a folder, else searched on the PATH."""
        named = Path(self._command)
        path = self._user.path(self._command) if named.name != self._command else None
        found = shutil.which(str(path or self._command))
        if not found:
            there = path is not None and path.exists()
            where = (
                "it may not be executed" if there else "it does not exist" if path else "it is not installed"
            )
            raise self._failed(where)
        return found

    def _information(self, interactive: bool) -> str:
        spec: Object = {"interactive": interactive}
        if self._settings.flag("provideClusterInfo"):
            spec["cluster"] = _cluster_information(self._cluster)
        return json.dumps({"kind": "ExecCredential", "apiVersion": self._version, "spec": spec})

    def _status(self, answer: Any, words: str) -> Object:
        if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
            raise self._failed("what it printed is not an ExecCredential", words)
        version = answer.get("apiVersion")
        if version != self._version:
            raise self._failed(
                f"it speaks apiVersion {version}, and the kubeconfig says {self._version}", words
            )
        status = answer.get("status")
        if not isinstance(status, dict):
            raise self._failed("its ExecCredential has no status", words)
        token, chain, key = (status.get(name) for name in ("token", "clientCertificateData", "clientKeyData"))
        if not all(isinstance(value, str | None) for value in (token, chain, key)):
            raise self._failed("the credentials in its ExecCredential are not texts", words)
        keep_secret(token, key)
        if bool(chain) != bool(key):
            raise self._failed("its ExecCredential has a certificate or a key, and not both", words)
        if not token and not chain:
            raise self._failed("its ExecCredential has neither a token nor a certificate", words)
        expires = self._expiry(status.get("expirationTimestamp"), words)
        return {"token": token or "", "chain": chain or "", "key": key or "", "expires": expires}

    def _expiry(self, stamp: Any, words: str) -> float | None:
        """The expiry time in seconds since the epoch."""
        if stamp is None:
            return None
        try:
            expires = datetime.fromisoformat(str(stamp))
        except ValueError:
            raise self._failed(f"its expirationTimestamp is not a time: {stamp!r}", words) from None
        now = datetime.now(UTC)
        if expires.tzinfo is None or expires <= now:
            clock = now.isoformat(timespec="seconds")
            raise self._failed(f"its credentials expired at {stamp} (it is {clock} here)", words)
        return expires.timestamp()

    def _failed(self, problem: str, words: str = "") -> BadInput:
        quoted = "".join(f"\n    {line}" for line in words.splitlines() if line.strip())
        hint = self._settings.text("installHint").strip()
        return BadInput(
            f"context {self._user.context} logs in with the plugin {self._command}, which failed: {problem}"
            + (f"; it wrote:{quoted}" if quoted else ""),
            hint or f"run {self._command} by hand, log in again, or choose another --context",
        )


def _variables(settings: Entry) -> dict[str, str]:
    listed = settings.fields.get("env") or []
    if not isinstance(listed, list):
        raise settings.wrong("env is not a list")
    found = {}
    for item in listed:
        name, value = (item.get("name"), item.get("value")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            raise settings.wrong("an entry of env lacks a name or a value that is text")
        found[name] = value
    return found


def _cluster_information(cluster: Entry) -> Object:
    """The cluster information that a plugin receives if the kubeconfig sets provideClusterInfo."""
    information: Object = {"server": cluster.text("server")}
    for key in ("tls-server-name", "proxy-url"):
        if value := cluster.text(key):
            information[key] = value
    if cluster.flag("insecure-skip-tls-verify"):
        information["insecure-skip-tls-verify"] = True
    if authority := cluster.content("certificate-authority"):
        information["certificate-authority-data"] = base64.b64encode(authority).decode()
    extensions = cluster.fields.get("extensions")
    for extension in extensions if isinstance(extensions, list) else ():
        if isinstance(extension, dict) and extension.get("name") == _EXTENSION:
            information["config"] = extension.get("extension")
    return information


def _end(process: subprocess.Popen[bytes], interactive: bool) -> None:
    """Kill a plugin; if it runs in a session of its own, kill its child processes too."""
    with contextlib.suppress(ProcessLookupError):
        if interactive:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def _pass_on(stderr: IO[bytes], words: list[bytes], shown: bool) -> None:
    """Keep what a plugin writes to stderr; a user who must log in has to see it at once."""
    with stderr:
        for line in stderr:
            words.append(line)
            del words[:-100]
            if shown:
                sys.stderr.write(redacted(line.decode("utf-8", "replace")))
                sys.stderr.flush()
