from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.dockerfile import ignored as dockerignore
from jobrelay.pipelines.compose.dockerfile import image as dockerfile
from jobrelay.pipelines.compose.dockerfile.image import ImageConfig
from jobrelay.pipelines.compose.dockerfile.lines import instructions
from jobrelay.pipelines.definition import Build

from .conftest import Folder


def parse(folder: Folder, text: str, target: str | None = None, **arguments: str) -> ImageConfig:
    path = folder.write("Dockerfile", text)
    return dockerfile.read(Build(folder.path, path, target, arguments))


def placed(image: ImageConfig, folder: Folder) -> dict[str, str]:
    return {target: str(path.relative_to(folder.path)) for path, target in image.copies}


def test_a_whole_dockerfile(folder: Folder) -> None:
    for name in ("train.py", "src/a.py", "conf/x.yaml", ".hidden", "notes.md", "requirements.txt"):
        folder.write(name)
    folder.write(".dockerignore", "# no docs\n*.md\n**/*.pyc\n.git\n")
    image = parse(folder, """
        # syntax=docker/dockerfile:1
        ARG BASE=3.11
        FROM --platform=linux/amd64 python:${BASE}-slim AS deps
        ARG APP=/srv/app
        ENV PYTHONPATH="$APP/src" OMP_NUM_THREADS=2 \\
            # a comment between
            NAME='$APP x'
        ENV OLD style of $OMP_NUM_THREADS
        WORKDIR $APP
        COPY requirements.txt .
        RUN --mount=type=cache,target=/root/.cache pip install -r requirements.txt \\
          && mkdir -p data /results "$APP/logs" {a,b} && cd /tmp && mkdir t
        RUN <<EOF
        COPY nothing /here
        EOF

        FROM deps
        WORKDIR code
        COPY --chown=1000:1000 ["src", "conf", "./"]
        COPY train.py src/a.py /srv/app/code/
        COPY train.py main.py
        COPY *.md .hidd?n /docs/
        USER 1000:${NO:-1000}
        EXPOSE 80
        ENTRYPOINT ["python", "-u"]
        CMD train.py --lr 0.1
        """, BASE="3.12")  # fmt: skip
    assert image.base == "python:3.12-slim"
    assert image.workdir == "/srv/app/code"
    assert image.env == {
        "PYTHONPATH": "/srv/app/src", "OMP_NUM_THREADS": "2", "NAME": "$APP x", "OLD": "style of 2",
    }  # fmt: skip
    assert image.user == "1000:1000"
    assert image.entrypoint == ("python", "-u")
    assert image.command == ("/bin/sh", "-c", "train.py --lr 0.1")
    assert placed(image, folder) == {
        "/srv/app/requirements.txt": "requirements.txt",
        "/srv/app/code": "conf",  # after src, both into the same folder
        "/srv/app/code/train.py": "train.py",
        "/srv/app/code/a.py": "src/a.py",
        "/srv/app/code/main.py": "train.py",
        "/docs/.hidden": ".hidden",
    }
    assert {"/srv/app", "/srv/app/data", "/results", "/srv/app/logs", "/tmp/t"} <= set(image.folders)
    assert image.unplaced == ("COPY *.md",)


def test_targets_and_inheritance(folder: Folder) -> None:
    text = """
        FROM a AS one
        WORKDIR /one
        CMD ["x"]
        FROM one AS Two
        ENTRYPOINT ["y"]
        FROM scratch
        """
    assert parse(folder, text, "two").entrypoint == ("y",)
    assert parse(folder, text, "two").command is None  # an entrypoint takes the base's command away
    assert parse(folder, text, "two").working_directory == "/one"
    assert parse(folder, text, "0").command == ("x",)
    assert parse(folder, text).base == "scratch"
    with pytest.raises(BadInput, match="there is no target three"):
        parse(folder, text, "three")


def test_copies_between_stages(folder: Folder) -> None:
    folder.write("src/a.py")
    folder.write("src/sub/b.py")
    image = parse(
        folder,
        """
        FROM python:3.12 AS build
        WORKDIR /build
        COPY src src
        RUN make
        FROM python:3.12
        COPY --from=build /build/src/sub/b.py /app/
        COPY --from=build /build /all
        COPY --from=build /build/src /only
        COPY --from=build /build/src/sub /inner
        COPY --from=build /usr/local/lib /lib
        COPY --from=nginx:1 /etc/nginx /n
        ADD https://example.com/x.tar.gz /x/
        """,
    )
    assert placed(image, folder) == {
        "/app/b.py": "src/sub/b.py", "/all/src": "src", "/only": "src", "/inner": "src/sub",
    }  # fmt: skip
    assert image.unplaced == (
        "COPY --from=build /usr/local/lib /lib",
        "COPY --from=nginx:1 /etc/nginx /n",
        "ADD https://example.com/x.tar.gz",
    )


def test_a_file_goes_into_a_folder_that_exists(folder: Folder) -> None:
    folder.write("train.py")
    image = parse(folder, "FROM a\nWORKDIR /app\nCOPY train.py /app\nCOPY train.py /other\n")
    assert placed(image, folder) == {"/app/train.py": "train.py", "/other": "train.py"}


@pytest.mark.parametrize(
    ("text", "workdir"),
    [("FROM pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime", "/workspace"), ("FROM python", "/"),
     ("FROM a:5000/b\nWORKDIR x", "/x"), ("FROM pytorch/pytorch\nWORKDIR x", "/workspace/x")],
)  # fmt: skip
def test_the_working_directory_of_the_base(folder: Folder, text: str, workdir: str) -> None:
    assert parse(folder, text).working_directory == workdir


def test_the_escape_character_and_the_shell(folder: Folder) -> None:
    image = parse(folder, '# escape=`\nFROM a\nSHELL ["bash", "-lc"]\nCMD python `\n  train.py C:\\x\n')
    assert image.command == ("bash", "-lc", "python   train.py C:\\x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no FROM"),
        ("RUN x\nFROM a", "line 1: RUN stands before FROM"),
        ("FROM a b", "not FROM IMAGE"),
        ("FROM a\nCOPY x", "line 2: COPY needs a source and a target"),
    ],
)
def test_bad_dockerfiles(folder: Folder, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse(folder, text)


def test_a_command_that_is_no_json_goes_through_the_shell(folder: Folder) -> None:
    assert parse(folder, "FROM a\nCMD ['python', 'x']").command == ("/bin/sh", "-c", "['python', 'x']")
    assert parse(folder, "FROM a\nENTRYPOINT []").entrypoint == ()


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*.md", "a.md", True), ("*.md", "sub/a.md", False), ("**/*.md", "sub/deep/a.md", True),
        ("data", "data/x/y", True), ("/data/", "data/x", True), ("data", "other/data", False),
        ("*\n!train.py", "train.py", False), ("*\n!train.py", "eval.py", True), ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True), ("*/tmp?", "x/tmp1", True), ("[ab].py", "b.py", True),
        ("data\n!data/keep", "data/keep/x", False), ("data\n!data/keep\ndata/keep/x", "data/keep/x", True),
        ("# data\n\n", "# data", False), (".", "x", False),
    ],
)  # fmt: skip
def test_dockerignore(patterns: str, path: str, ignored: bool) -> None:
    assert dockerignore.parse(patterns)(path) is ignored


def test_what_an_ignore_file_leaves_of_a_folder(tmp_path: Path) -> None:
    for name in ("keep/a", "mixed/a.md", "mixed/b.py", "out/x/y", "out/x/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    kept = list(dockerignore.parse("**/*.md\nout\n!out/x/z").kept(tmp_path, "."))
    assert kept == ["keep", "mixed/b.py", "out/x/z"]
    assert list(dockerignore.parse("").kept(tmp_path, ".")) == ["."]


@given(st.text(alphabet="FROM a\n\\#RUN<EOF\"'$x{}[]`=", max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert all(instruction.line >= 1 for instruction in instructions(text))
