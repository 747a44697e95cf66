"""The credentials of a request: who sends it, and as whom the server should act.

A request carries all the credentials that the kubeconfig defines, or it is not sent.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.executors.cluster.login.kubeconfig import Access, Entry
from jobrelay.executors.cluster.login.plugin import Plugin
from jobrelay.kube.objects import Object
from jobrelay_runner.text.redaction import keep_secret
from jobrelay_runner.volume.safe_read import read_named, why

#: Seconds before a token file is read again, since the kubelet or other programs renew it.
_TOKEN_FILE_SECONDS: Final = 60.0
_TOKEN_BYTES: Final = 1024 * 1024
#: Characters that a header's name may have (RFC 9110, token), without the percent sign.
_HEADER_NAME: Final = frozenset(
    "!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)
#: Providers that kubectl has dropped, and the plugins that replaced them.
_SUCCESSORS: Final = {"gcp": "gke-gcloud-auth-plugin", "azure": "kubelogin"}


@dataclass(frozen=True)
class Certificate:
    """A client certificate with its chain, and its private key, both as PEM."""

    chain: bytes
    key: bytes


@dataclass(frozen=True)
class Login:
    """The credentials to send. expires: seconds since the epoch, when they must be renewed."""

    authorization: str = ""
    certificate: Certificate | None = None
    expires: float | None = None


class Credentials:
    """The credentials of a context's user, renewed as they expire. Thread-safe."""

    def __init__(self, access: Access) -> None:
        """Choose how to log in. Raises BadInput."""
        self._user = access.user
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._obtain = _way_in(access)
        self.impersonation = _impersonation(access.user)

    def current(self) -> Login:
        """The credentials to send now; runs the plugin if its last answer has expired. Raises BadInput."""
        with self._lock:
            if self._login is None or _has_expired(self._login):
                self._login = self._obtain()
            return self._login


def _has_expired(login: Login) -> bool:
    return login.expires is not None and login.expires <= time.time()


def _way_in(access: Access) -> Callable[[], Login]:
    """How this user logs in, in kubectl's order of precedence. Raises BadInput."""
    user = access.user
    certificate = _certificate(user)
    if user.text("tokenFile"):
        return _TokenFile(user, certificate).read
    if user.text("token"):
        return _always(Login(f"Bearer {_token(user, user.text('token'), 'token')}", certificate))
    if user.text("username"):
        pair = f"{user.text('username')}:{user.text('password')}".encode()
        encoded = base64.b64encode(pair).decode()
        keep_secret(encoded)
        return _always(Login(f"Basic {encoded}", certificate))
    if "auth-provider" in user.fields and "exec" in user.fields:
        raise user.wrong("it has an auth-provider and an exec plugin, and only one can log in")
    if user.fields.get("exec") is not None:
        plugin = Plugin(user, access.cluster)
        return lambda: _of_plugin(plugin.run(), user, certificate)
    if user.fields.get("auth-provider") is not None:
        return _of_provider(user, certificate)
    return _always(Login(certificate=certificate))


def _always(login: Login) -> Callable[[], Login]:
    return lambda: login


def _certificate(user: Entry) -> Certificate | None:
    chain, key = user.content("client-certificate"), user.content("client-key")
    keep_secret(key.decode("ascii", "replace"))
    named = [
        name for name in ("client-certificate", "client-key") if {name, f"{name}-data"} & set(user.fields)
    ]
    if not named:
        return None
    if not chain or not key:
        lacking = "client-key" if chain else "client-certificate"
        raise user.wrong(f"its {lacking} is missing or empty")
    return Certificate(chain, key)


def _token(user: Entry, text: str, where: str) -> str:
    """A token fit for a header: editors and `echo` end a file with a line break."""
    token = text.strip()
    keep_secret(token)
    if not token:
        raise user.wrong(f"{where} is empty")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise user.wrong(f"{where} is not one token: it has a space or another odd character")
    return token


class _TokenFile:
    """A token in a file that another program renews."""

    def __init__(self, user: Entry, certificate: Certificate | None) -> None:
        self._user = user
        self._certificate = certificate
        # kubectl falls back on `token` while it cannot read the file
        self._last = _token(user, text, "token") if (text := user.text("token")) else ""

    def read(self) -> Login:
        path = self._user.path(self._user.text("tokenFile"))
        try:
            text = read_named(path, _TOKEN_BYTES).decode("utf-8")
            self._last = _token(self._user, text, f"tokenFile {path}")
        except (OSError, ValueError) as error:
            if not self._last:
                raise self._user.wrong(f"tokenFile {path} cannot be read: {why(error)}") from error
        except BadInput:
            if not self._last:
                raise
        return Login(f"Bearer {self._last}", self._certificate, time.time() + _TOKEN_FILE_SECONDS)


def _of_plugin(status: Object, user: Entry, certificate: Certificate | None) -> Login:
    token = _token(user, status["token"], "the plugin's token") if status["token"] else ""
    if status["chain"]:
        certificate = Certificate(status["chain"].encode(), status["key"].encode())
    return Login(f"Bearer {token}" if token else "", certificate, status["expires"])


def _of_provider(user: Entry, certificate: Certificate | None) -> Callable[[], Login]:
    """The legacy auth-provider login; of the providers, kubectl supports only oidc."""
    provider = Entry(user.context, f"{user.what}, auth-provider", user.tree("auth-provider"), user.file)
    name = provider.text("name")
    if name != "oidc":
        successor = _SUCCESSORS.get(name)
        raise provider.wrong(
            f"the launcher does not support {name!r}",
            f"kubectl dropped it too: install {successor}, and have the kubeconfig written for it"
            if successor
            else "log in another way, or choose another --context",
        )
    kept = Entry(user.context, provider.what, provider.tree("config"), user.file)
    token = _token(kept, kept.text("id-token"), "id-token")
    expires = _expiry_of_jwt(token)
    if expires is not None and expires <= time.time():
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires))
        raise kept.wrong(
            f"its id-token expired at {at}",
            f"`kubectl --context {user.context} version` renews it; then run the same command again",
        )
    # once it expires, the kubeconfig is read again, in case you used kubectl and it renewed the token
    return _always(Login(f"Bearer {token}", certificate))


def _expiry_of_jwt(token: str) -> float | None:
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return float(claims["exp"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # the server's answer explains more


def _impersonation(user: Entry) -> list[tuple[str, str]]:
    """The headers that request impersonation. Raises BadInput."""
    name, uid = user.text("as"), user.text("as-uid")
    groups, extra = user.fields.get("as-groups") or [], user.tree("as-user-extra")
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise user.wrong("as-groups is not a list of texts")
    if not name:
        if uid or groups or extra:
            raise user.wrong("it has as-uid, as-groups or as-user-extra, and no `as`")
        return []
    headers = [("Impersonate-User", name)]
    headers += [("Impersonate-Uid", uid)] if uid else []
    headers += [("Impersonate-Group", group) for group in groups]
    for key, values in extra.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise user.wrong(f"as-user-extra {key} is not a list of texts")
        headers += [(f"Impersonate-Extra-{_escaped(str(key))}", value) for value in values]
    if not all(value.isprintable() for _, value in headers):
        raise user.wrong("a name that it acts as has a line break or another odd character in it")
    return headers


def _escaped(key: str) -> str:
    """The key escaped for a header's name: example.com/team → example.com%2Fteam."""
    return "".join(
        character if character in _HEADER_NAME else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in key
    )
