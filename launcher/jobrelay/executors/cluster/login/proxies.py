"""Choose the proxy for the API server by Go's rule (golang.org/x/net/http/httpproxy), as kubectl does.

The kubeconfig's proxy-url always applies. Else HTTPS_PROXY or HTTP_PROXY (upper or lower case) applies,
except for loopback and for what NO_PROXY lists: hosts and their subdomains, .domains, *.domains, addresses,
CIDRs, each except the last optionally with a port; or `*`.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3

from jobrelay_runner.text.redaction import keep_secret

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy, and the setting that names it: `proxy-url`, `HTTPS_PROXY` …"""

    url: str  # without credentials
    headers: Mapping[str, str]
    source: str

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


def proxy_for(server: str, proxy_url: str = "", environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy for `server`; None if there is none. proxy_url: the kubeconfig's.

    Raises ValueError for a proxy that cannot be used; its text names the proxy, without credentials.
    """
    target = urlsplit(server)
    if proxy_url:
        return _proxy(proxy_url, "proxy-url")
    variables = ("HTTPS_PROXY", "https_proxy") if target.scheme == "https" else ("HTTP_PROXY", "http_proxy")
    source = next((name for name in variables if environment.get(name)), None)
    if source is None:
        return None
    bypassed = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    if _is_bypassed(target.hostname or "", target.port or _PORTS[target.scheme], bypassed):
        return None
    return _proxy(environment[source], source)


def _proxy(url: str, source: str) -> Proxy:
    parts = _split(url if "://" in url else f"http://{url}")
    if parts is None or not parts.hostname:
        raise ValueError(f"the proxy of {source} is not a URL")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")
    if parts.scheme not in _PORTS:
        raise ValueError(
            f"the proxy {shown} ({source}) speaks {parts.scheme}, which is not supported: http and https are"
        )
    if parts.username is None:
        return Proxy(shown, {}, source)
    user, password = unquote(parts.username), unquote(parts.password or "")
    keep_secret(password, parts.password)
    headers = urllib3.util.make_headers(proxy_basic_auth=f"{user}:{password}")
    keep_secret(headers["proxy-authorization"].removeprefix("Basic "))
    return Proxy(shown, headers, source)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_bypassed(host: str, port: int, bypassed: str) -> bool:
    """Whether NO_PROXY covers the host: the negation of httpproxy's useProxy."""
    host = host.lower()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    return any(_matches(entry.strip().lower(), host, address, port) for entry in bypassed.split(","))


def _matches(entry: str, host: str, address: Address | None, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
    name, only = _host_and_port(entry)
    if only is not None and only != str(port):
        return False
    if (named := _address(name)) is not None:
        return named == address
    if not name:
        return False
    name = name.removeprefix("*") if name.startswith("*.") else name
    if name.startswith("."):
        return host.endswith(name)
    return host == name or host.endswith(f".{name}")


def _host_and_port(entry: str) -> tuple[str, str | None]:
    """Split host:port and [address]:port; anything else is a host."""
    if entry.startswith("["):
        inside, _, behind = entry[1:].partition("]")
        return inside, behind[1:] if behind.startswith(":") else None
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port or None
    return entry, None


def _address(text: str) -> Address | None:
    """Parse an address; an IPv4 address written as IPv6 counts as IPv4, as in Go."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found
