"""When a proxy is asked for the API server: by one rule, Go's, for requests and for exec alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3

from jobrelay.cli import main as cli
from jobrelay.errors import BadInput, Exit
from jobrelay.executors.cluster import limits
from jobrelay.executors.cluster.api import Api
from jobrelay.executors.cluster.login.proxies import proxy_for
from tests.support.apiserver import kubeconfig, ok, refusal, serving
from tests.support.tls import Pki, proxying

NO_PROXY = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, "
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64, :80, [], only.io:80"
)


@pytest.mark.parametrize(
    ("host", "asked"),
    [  # the table of golang.org/x/net/http/httpproxy's own tests, and some
        ("localhost", False),
        ("127.0.0.1", False),
        ("127.0.0.2", False),
        ("[::1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("[::2]", True),
        ("192.168.1.1", False),
        ("192.168.1.2", True),
        ("192.168.1.3", False),
        ("192.168.1.4", True),
        ("10.0.0.2", False),
        ("10.0.0.4", True),
        ("[2001:db8::52:0:1]", False),
        ("[2001:db8::52:0:2]", True),
        ("[2001:db8::52:0:3]", False),
        ("[2002:db8:a::123]", False),
        ("[fe80::424b:c8be:1643:a1b6]", True),
        ("barbaz.net", True),
        ("www.barbaz.net", False),
        ("foobar.com", False),
        ("FOOBAR.com", False),
        ("www.foobar.com", False),
        ("foofoobar.com", True),
        ("baz.com", True),
        ("localhost.net", True),
        ("local.localhost", True),
        ("barbarbaz.net", True),
        ("wildcard.io", True),
        ("nested.wildcard.io", False),
        ("awildcard.io", True),
        ("only.io", False),
        ("only.io:81", True),
    ],
)
def test_gos_table(host: str, asked: bool) -> None:
    environment = {"HTTP_PROXY": "proxy", "NO_PROXY": NO_PROXY}
    proxy = proxy_for(f"http://{host}", environment=environment)
    assert (proxy is not None) is asked


@pytest.mark.parametrize(
    ("environment", "server", "url", "source"),
    [
        ({"HTTPS_PROXY": "http://p:3128"}, "https://h", "http://p:3128", "HTTPS_PROXY"),
        ({"https_proxy": "http://p:3128"}, "https://h", "http://p:3128", "https_proxy"),
        ({"HTTPS_PROXY": "p:3128"}, "https://h", "http://p:3128", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "http://u", "https_proxy": "http://l"}, "https://h", "http://u", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": "https://p"}, "https://h", "https://p", "HTTPS_PROXY"),
        ({"http_proxy": "http://p"}, "http://h", "http://p", "http_proxy"),
        ({"HTTP_PROXY": "http://p"}, "https://h", None, ""),
        ({"ALL_PROXY": "http://p"}, "https://h", None, ""),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "*"}, "https://h", None, ""),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a, h:6443"}, "https://h:6443", None, ""),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, "https://h", "http://[::1]:3128", "HTTPS_PROXY"),
        ({"HTTPS_PROXY": ""}, "https://h", None, ""),
    ],
)
def test_which_variable_counts(
    environment: dict[str, str], server: str, url: str | None, source: str
) -> None:
    proxy = proxy_for(server, environment=environment)
    assert (proxy and proxy.url, proxy.source if proxy else "") == (url, source)


def test_the_kubeconfigs_proxy_is_always_asked() -> None:
    environment = {"HTTPS_PROXY": "http://other", "NO_PROXY": "*"}
    proxy = proxy_for("https://127.0.0.1", "http://ann:pass%40word-7@p:1", environment)
    assert proxy
    assert str(proxy) == "http://p:1 (proxy-url)"
    assert proxy.headers == {"proxy-authorization": "Basic YW5uOnBhc3NAd29yZC03"}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FIRST_GIVE_UP_SECONDS", 0.05)


def ask_in_every_way(api: Api) -> None:
    api.get("/x")
    with api.open("/watch", {"watch": "true"}):
        pass
    with pytest.raises(BadInput, match="403"):
        api.execute("/api/v1/namespaces/a/pods/p", ["true"])


ANSWERS = (ok({}), ok({}), refusal(403, "Forbidden", "no"))


def test_requests_watches_and_exec_ask_the_same_proxy(
    kubeconfig_file: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(*ANSWERS, tls=pki.server()) as server:
        port = urlsplit(server.url).port
        with proxying(to=("127.0.0.1", port or 0)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://ann:pass-word-7@"))
            monkeypatch.setenv("NO_PROXY", "other, 10.0.0.0/8")
            cluster = {
                "server": "https://api.test:6443",
                "certificate-authority": str(pki.file("authority.crt")),
            }
            kubeconfig(kubeconfig_file, "", clusters=[{"name": "c", "cluster": cluster}])
            ask_in_every_way(Api(None))
    assert len(server.requests) == 3
    assert set(proxy.asked) == {("CONNECT api.test:6443 HTTP/1.1", "Basic YW5uOnBhc3Mtd29yZC03")} or set(
        proxy.asked
    ) == {("CONNECT api.test:6443 HTTP/1.0", "Basic YW5uOnBhc3Mtd29yZC03")}


@pytest.mark.parametrize("bypassed", ["api.test:6443", " .test , x", "*", "192.0.2.0/24"])
def test_requests_watches_and_exec_bypass_a_proxy_alike(
    kubeconfig_file: Path, monkeypatch: pytest.MonkeyPatch, bypassed: str
) -> None:
    # whoever is asked in place of the server's own address is named by the error of whichever call
    asked = []
    with proxying() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", bypassed)
        with serving(*ANSWERS) as server:
            port = urlsplit(server.url).port
            name = "192.0.2.1" if "/" in bypassed else "api.test"
            real = urllib3.util.connection.create_connection

            def resolved(address: tuple[str, int], *rest: Any, **options: Any) -> Any:
                asked.append(address)
                return real(("127.0.0.1", port), *rest, **options)

            monkeypatch.setattr("urllib3.util.connection.create_connection", resolved)
            kubeconfig(kubeconfig_file, f"http://{name}:6443")
            ask_in_every_way(Api(None))
    assert proxy.asked == []
    assert set(asked) == {(name, 6443)}
    assert len(server.requests) == 3


def test_loopback_is_never_asked_of_a_proxy(kubeconfig_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(*ANSWERS) as server, proxying(status="502 Bad Gateway") as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        kubeconfig(kubeconfig_file, server.url)
        ask_in_every_way(Api(None))
    assert proxy.asked == []


def test_plain_http_through_a_proxy_keeps_headers_of_one_name_apart(kubeconfig_file: Path) -> None:
    with serving(*ANSWERS) as server, proxying() as proxy:
        user = {"token": "t", "as": "ann", "as-groups": ["a", "b"]}
        cluster = {"server": server.url, "proxy-url": proxy.url}
        kubeconfig(
            kubeconfig_file,
            "",
            clusters=[{"name": "c", "cluster": cluster}],
            users=[{"name": "u", "user": user}],
        )
        ask_in_every_way(Api(None))
    for request in server.requests:
        assert [value for name, value in request.pairs if name == "Impersonate-Group"] == ["a", "b"]
    assert len(server.requests) == 3
    assert {line.split()[0] for line, _ in proxy.asked} == {"GET", "CONNECT"}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_error_names_the_proxy_that_was_asked(
    kubeconfig_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scheme: str
) -> None:
    with proxying(status="502 Bad Gateway") as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy.url.replace("://", "://ann:pass-word-7@"))
        kubeconfig(kubeconfig_file, f"{scheme}://api.test:6443")
        assert cli.main(["list"]) == Exit.API_LOST
    err = capsys.readouterr().err
    assert f"by the proxy {proxy.url} ({scheme.upper()}_PROXY)" in err
    assert "pass-word-7" not in err
    assert proxy.asked
