"""No bad input ends in a traceback: whatever stands in a file, `render` uses it or says why not."""

from __future__ import annotations

import contextlib
import io
import resource
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jobrelay.cli import main as cli
from tests.support import BASE

KEYS = st.sampled_from(
    ["apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations", "spec", "template",
     "containers", "initContainers", "volumes", "image", "command", "args", "env", "restartPolicy",
     "backoffLimit", "persistentVolumeClaim", "claimName", "configMap", "resources", "limits", "memory",
     "train", "epochs", "seed", "data", "model", "jobrelay.dev/run", "app.kubernetes.io/component"]
)  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(),
    st.binary(max_size=8),
    st.sampled_from(["Job", "batch/v1", "Never", "train", "1e400", "${HOME}", "../..", "\x1b[2J", "a" * 300]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)
MANY = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def rendered(*arguments: str) -> tuple[int, str]:
    """`render`, its exit code and what it said; a traceback fails the test."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = cli.main(["render", "--run", "a", *arguments])
    assert code in (0, 2), said.getvalue()
    assert "Traceback" not in said.getvalue()
    if code == 2:
        assert said.getvalue().strip()
        assert "\x1b" not in said.getvalue()
    return code, said.getvalue()


def base_with(folder: Path, name: str, text: str | bytes) -> Path:
    """k8s/base, one of whose files is another."""
    folder.mkdir(exist_ok=True)
    for path in BASE.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return folder


@pytest.mark.parametrize("name", ["job-train.yaml", "kustomization.yaml", "config.yaml", "namespace.yaml"])
def test_row_58_any_tree_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    @MANY
    @given(TREES)
    def any_tree(tree: Any) -> None:
        rendered("-k", str(base_with(tmp_path / "m", name, yaml.safe_dump(tree))))

    any_tree()


@pytest.mark.parametrize("name", ["job-eval.yaml", "config.yaml"])
def test_row_58_any_bytes_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    @MANY
    @example(b"\xff\xfe")
    @example(b"a: &x [1]\nb: *x")
    @example(b"!!python/object/apply:os.system ['true']")
    @example(b"--- a\n--- b\n")
    @example(b"? [a]\n: b")
    @example(b"%YAML 9.9\n---\n")
    @example(b"\x00")
    @given(st.binary(max_size=200))
    def any_bytes(content: bytes) -> None:
        rendered("-k", str(base_with(tmp_path / "m", name, content)))

    any_bytes()


@MANY
@given(
    path=st.lists(KEYS, min_size=1, max_size=4), value=LEAVES,
    words=st.lists(st.sampled_from(["--set", "--image", "-n", "--timeout", "--config"]), max_size=2),
    text=st.text(max_size=20),
)  # fmt: skip
def test_any_arguments(path: list[str], value: Any, words: list[str], text: str) -> None:
    extra = [part for word in words for part in (word, text.replace("\x00", ""))]
    rendered("--set", f"{'.'.join(path)}={value}".replace("\x00", ""), *extra)


BOMBS = {
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)),
    "deep": "[" * 100_000,
    "deep-map": "{a: " * 50_000,
    "huge": "a: " + "x" * (1024 * 1024),
    "many-keys": "".join(f"k{i}: 1\n" for i in range(60_000)),
    "long-number": "seed: " + "9" * 100_000,
    "sexagesimal": "seed: " + ":".join(["59"] * 10_000),
    "merge": "a: &a {b: 1}\nc:\n  <<: *a\n",
    "tag": "!!python/object/apply:os.system ['true']",
    "tag-new": "!!python/object/new:type [x, [], {}]",
    "binary": "seed: !!binary " + "A" * 400_000,
    "set": "!!set {" + ", ".join(f"k{i}" for i in range(20_000)) + "}",
    "recursive": "&a [*a]",
    "recursive-key": "? &a [*a]\n: 1",
    "documents": "---\n" * 100_000,
    "timestamp": "seed: 9999-99-99T99:99:99Z",
    "inf": "train: {learning_rate: .inf}",
    "nan": "train: {learning_rate: .nan}",
    "null-byte": "seed: \0",
    "quotes": '"' * 500_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("name", ["config.yaml", "job-train.yaml"])
def test_row_58_bombs_take_no_time_and_no_memory(tmp_path: Path, name: str, text: str) -> None:
    folder = base_with(tmp_path / "m", name, text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    code, _ = rendered("-k", str(folder))
    assert code == (0 if name == "config.yaml" and not text.strip("-\n") else 2)  # empty: all defaults
    assert time.process_time() - begun < 3  # 1 s and less on a machine that is not busy
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 200 * 1024  # KiB
