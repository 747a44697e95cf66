"""No credential is in what is shown or kept, whatever raised the text that it stands in."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.console import Console, libraries_heard, print_json, print_table, show_traceback
from jobrelay.errors import JobRelayError
from jobrelay.report.page import template
from jobrelay_runner.errors import BadInput as StageBadInput
from jobrelay_runner.text.redaction import keep_secret, redacted, redacted_tree

KNOWN = "kb4-known.Value/of+a token".replace(" ", "-")
PAIR = base64.b64encode(b"ann:pass-word-7").decode()
JWT = "eyJhbGciOiJSUzI1NiIs.eyJpc3MiOiJrdWJlcm5l.c2lnbmF0dXJl"
SHAPES = {
    "header": (f"Invalid header value b'Bearer {JWT}\\n'", JWT),
    "opaque-bearer": ("Authorization: Bearer abcdefghij-0", "abcdefghij-0"),
    "short-bearer": ("{'Authorization': 'Bearer x'}", "Bearer x'"),
    "basic": (f"headers {{'authorization': 'Basic {PAIR}'}}", PAIR),
    "proxy": (f"Proxy-Authorization: Basic {PAIR}", PAIR),
    "url": ("GET https://ann:pass-word-7@mirror.example/data failed", "pass-word-7"),
    "url-with-at": ("http://ann:p@ss@mirror.example/data", "p@ss"),
    "token-in-url": ("clone https://ghp_abc123@github.example/x", "ghp_abc123"),
    "database": ("postgresql://ann:pass-word-7@db:5432/x", "pass-word-7"),
    "query": ("https://h/x?access_token=abcd1234&b=1", "abcd1234"),
    "json": ('{"token": "abcd1234", "a": 1}', "abcd1234"),
    "yaml": ("client-key-data: LS0tLS1CRUdJTiBFQyBQUklWQVRF", "LS0tLS1CRUdJTiBFQyBQUklWQVRF"),
    "jwt": (f"cannot decode {JWT}", JWT),
    "pem": ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\nrest", "MHcCAQEE"),
    "cut-pem": ("-----BEGIN PRIVATE KEY-----\nMHcCAQEE", "MHcCAQEE"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "secret"), SHAPES.values(), ids=SHAPES.keys())
def test_credentials_are_known_by_their_shape(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in redacted(text)
    assert "***" in redacted(text)


@pytest.mark.parametrize(
    "text",
    [
        "the bearer token of context test is not accepted",
        "basic authentication is not enabled",
        "token: it has expired",
        "authorization: nodes are not allowed",
        "https://127.0.0.1:6443/api/v1/pods?labelSelector=a%3Db&watch=true",
        "docker-pullable://busybox@sha256:0123456789abcdef",
        "docker-pullable://registry.example:5000/busybox:1.36@sha256:0123456789abcdef",
        "Job a-train, Pod a-train-x7k2p: OOMKilled (limit 2Gi, peak 2.0Gi)",
        "ask ann@example.org",
        'MountVolume.SetUp failed: secret "registry-token" not found',
        "--set train.memory=4Gi",
        "train │ epoch 1/5  loss 1.1908  acc 0.7197  1.4 s",
    ],
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


@given(st.text(min_size=8).filter(lambda text: len(text.strip()) >= 8))
def test_a_known_value_is_taken_out_however_it_is_quoted(value: str) -> None:
    keep_secret(value)
    value = value.strip()
    for quoted in (value, repr(value), json.dumps(value)):
        assert value not in redacted(f"before {quoted} after") or value in "before *** after"


def every_way_out(text: str) -> dict[str, Callable[[], object]]:
    """What shows or keeps a text that an exception has brought."""

    def broken() -> None:
        raise RuntimeError(text)

    def in_a_thread() -> None:
        thread = threading.Thread(target=broken)
        thread.start()
        thread.join()

    def raised() -> None:
        try:
            broken()
        except RuntimeError as error:
            show_traceback(error)

    return {
        "say": lambda: Console().say(text),
        "wait": lambda: Console().waiting("train", f"pending: {text}"),
        "error": lambda: Console().error(JobRelayError(text, text)),
        "table": lambda: print_table(["a"], [[text]]),
        "json": lambda: print_json({"a": [{"b": text}]}),
        "traceback": raised,
        "thread": in_a_thread,
        "logger": lambda: logging.getLogger("urllib3").error("failed: %s", text),
        "warning": lambda: logging.getLogger("jobrelay.x").warning("%s", text),
        "warnings": lambda: warnings.warn(text, stacklevel=1),
    }


@pytest.mark.parametrize("way", every_way_out("").keys())
@pytest.mark.filterwarnings("default")
def test_no_way_out_shows_a_credential(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep_secret(KNOWN)
    text = f"Bearer {KNOWN}; https://ann:pass-word-7@h/"
    with libraries_heard(verbose=True):
        every_way_out(text)[way]()
    out, err = capsys.readouterr()
    assert "***" in out + err
    assert KNOWN not in out + err
    assert "pass-word-7" not in out + err


def test_libraries_are_quiet_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with libraries_heard():
        logging.getLogger("urllib3").warning("Connection pool is full")
        logging.getLogger("jobrelay.x").warning("one thing")
    assert capsys.readouterr().err == "warning: one thing\n"
    with libraries_heard(quiet=True):
        logging.getLogger("jobrelay.x").warning("one thing")
    assert capsys.readouterr().err == ""


def test_errors_and_what_is_kept_hold_no_credential() -> None:
    url = "cannot download mnist: https://ann:pass-word-7@h/ refused"
    assert "pass-word-7" not in JobRelayError(url).what + str(JobRelayError(url)) + str(StageBadInput(url))
    assert "pass-word-7" not in json.dumps(redacted_tree({"a": [url, {"b": (url, 1, None)}]}))
    assert redacted_tree({"a": 1.5, "b": None, "c": True}) == {"a": 1.5, "b": None, "c": True}


def test_a_page_shows_no_credential() -> None:
    page = template("run.html").environment.from_string("<p>{{ text }}</p>{{ style }}")
    shown = page.render(text="https://ann:pass-word-7@h/<b>")
    assert "pass-word-7" not in shown
    assert "https://***@h/&lt;b&gt;" in shown


def test_a_spinner_shows_no_credential() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stderr = Terminal()
    console = Console(stderr=stderr)
    console.waiting("train", "pending: https://ann:pass-word-7@h/")
    console.running()
    assert "pass-word-7" not in stderr.getvalue()
