"""The page of a run of any programs: what its stages wrote, and that none of it is obeyed."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from jobrelay.report import run as of_run
from jobrelay.report.page import render
from jobrelay.report.programs import documents, images
from jobrelay.report.programs.part import ProgramsPart
from tests.support.pages import png, write_programs, write_run
from tests.unit.report.test_report import HOSTILE, Elements

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(1)</script></svg>'
HISTORY = "".join(
    json.dumps({"step": step, "train": {"loss": 2 / (step + 1)}, "val": {"loss": 2.5 / (step + 1)}}) + "\n"
    for step in range(10)
)


def part_of(folder: Path) -> ProgramsPart:
    part = of_run.gather(folder, "a")
    assert part.programs
    assert not part.problems
    return part.programs


def elements_of(folder: Path) -> Elements:
    return Elements(render("run.html", run=of_run.gather(folder, "a")))


def text_of(folder: Path) -> str:
    return re.sub(r"\s+", " ", elements_of(folder).text)


def test_the_page_has_all_its_parts(tmp_path: Path) -> None:
    folder = write_programs(
        tmp_path / "a",
        {
            "prepare": {"data.csv": "id,label\n1,2\n3,4\n"},
            "train": {"history.jsonl": HISTORY, "samples/e1.png": png(), "curve.svg": SVG},
            "test": {"results.json": '{"acc": 0.931, "by": {"cat": 0.9}}', "history.jsonl": HISTORY},
        },
        logs={"train": "Traceback (most recent call last):\n  x\nValueError: no plot\n"},
        means={"params.lr": "0.01", "code": "c" * 64, "git": "d" * 40, "git_dirty": "true", "image": "p:1"},
        metrics={"train": {"step": 9, "loss": 0.2}, "test": {"acc": 0.931}},
    )
    elements = elements_of(folder)
    ids = [attributes["id"] for tag, attributes in elements.tags if tag == "h2" and "id" in attributes]
    assert ids == [
        "notes", "stages", "metrics", "curves", "pictures", "documents", "record", "resources", "files",
        "logs",
    ]  # fmt: skip
    targets = {attributes["href"] for tag, attributes in elements.tags if tag == "a"}
    assert targets == {"#main", *(f"#{each}" for each in ids[1:])}
    text = re.sub(r"\s+", " ", elements.text)
    for said in (
        "acc 0.931 test", "train: a Python traceback (its log, line 1): ValueError: no plot",
        "history.jsonl of test", "samples/e1.png of train", "by.cat0.9", "python train.py",
        "with uncommitted changes", "lr0.01",
        "1 new file, 1 file changed", "p:1", "loss0.2", "all as recorded", "test changed it",
    ):  # fmt: skip
        assert said in text
    assert "by what means" not in text


def test_a_built_in_run_has_none_of_it(tmp_path: Path) -> None:
    assert of_run.gather(write_run(tmp_path / "a"), "a").programs is None


def test_a_stage_that_wrote_nothing_is_pointed_out(tmp_path: Path) -> None:
    log = "bye\ntrain: succeeded, but wrote nothing\n"
    folder = write_programs(tmp_path / "a", {"train": {}}, logs={"train": log})
    part = of_run.gather(folder, "a")
    assert part.tone == "good"
    assert [(note.stage, note.text) for note in part.notes] == [("train", "wrote nothing")]
    assert part_of(folder).facts[0].wrote_nothing
    assert "Exit code 0, but … train: wrote nothing" in text_of(folder)


def test_a_stage_that_did_its_work_is_not(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "a", {"train": {"model.pt": "x"}})
    assert of_run.gather(folder, "a").notes == ()
    assert "Exit code 0" not in text_of(folder)


def test_of_this_machine_the_image_is_not_shown(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "a", {"train": {"x": "1"}}, means={"image": "python:3.12"})
    outcome = {"run": "a", "place": "this machine, volume /v", "stages": []}
    (folder / "report.json").write_text(json.dumps(outcome))
    assert "python:3.12" not in text_of(folder)


def test_a_file_is_shown_once_with_the_stage_that_wrote_it_last(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "a", {"train": {"h.jsonl": HISTORY}, "more": {"h.jsonl": HISTORY}})
    assert [(file.stage, file.name) for file in part_of(folder).histories.files] == [("more", "h.jsonl")]


# --- pictures ---


def test_pictures_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "a.png": png(), "b.jpg": b"\xff\xd8\xff\xe0rest", "c.gif": b"GIF89arest",
        "d.webp": b"RIFF1234WEBPrest",
        "e.svg": SVG, "f.png": SVG, "g.svg": "<html><script>alert(1)</script></html>", "h.png": "no picture",
        "i.jpg": png(),
    }  # fmt: skip
    gallery = part_of(write_programs(tmp_path / "a", {"train": files})).gallery
    kinds = {picture.name: picture.address.partition(";")[0] for picture in gallery.pictures}
    assert kinds == {
        "a.png": "data:image/png", "b.jpg": "data:image/jpeg", "c.gif": "data:image/gif",
        "d.webp": "data:image/webp", "e.svg": "data:image/svg+xml", "i.jpg": "data:image/png",
    }  # fmt: skip
    assert gallery.left_out == ("3 files not here, or no picture",)


def test_an_svg_is_an_image_and_no_part_of_the_page(tmp_path: Path) -> None:
    elements = elements_of(write_programs(tmp_path / "a", {"train": {"x.svg": SVG}}))
    assert "script" not in [tag for tag, _ in elements.tags]
    sources = [str(attributes["src"]) for tag, attributes in elements.tags if tag == "img"]
    assert [source.startswith("data:image/svg+xml;base64,") for source in sources] == [True]


def test_of_many_pictures_each_folder_shows_some_and_its_last(tmp_path: Path) -> None:
    many: dict[str, str | bytes] = {f"s/e{number}.png": png(8, 8) for number in range(200)}
    folder = write_programs(tmp_path / "a", {"train": many, "test": {"roc.png": png(8, 8)}})
    gallery = part_of(folder).gallery
    names = [picture.name for picture in gallery.pictures]
    assert len(names) <= images._MOST
    assert {"s/e0.png", "s/e199.png", "roc.png"} <= set(names)
    assert names[:-1] == sorted(names[:-1], key=lambda name: int(name[3:-4]))
    assert re.fullmatch(r"\d+ more pictures in the folder of the run", gallery.left_out[0])


def test_large_pictures_are_left_out(tmp_path: Path) -> None:
    large = png() + bytes(images._MOST_BYTES)
    gallery = part_of(write_programs(tmp_path / "a", {"train": {"x.png": large, "y.png": png()}})).gallery
    assert [picture.name for picture in gallery.pictures] == ["y.png"]
    assert gallery.left_out == ("1 picture too large for this page",)


# --- JSON ---


def document(folder: Path, content: str) -> documents.Document:
    return part_of(write_programs(folder / "a", {"train": {"x.json": content}})).documents.files[0]


def test_a_small_object_is_a_table_of_keys_and_values(tmp_path: Path) -> None:
    tree = {"a": 1, "b": {"c": [1, 2.5], "d": None}, "e": True, "f": "x\ny", "g": {}, "h": [], "i": 1e-9}
    assert document(tmp_path, json.dumps(tree)).pairs == (
        ("a", "1"), ("b.c", "1, 2.5"), ("b.d", "null"), ("e", "true"), ("f", "x y"), ("g", "{}"), ("h", "[]"),
        ("i", "1e-09"),
    )  # fmt: skip


def test_a_list_of_equal_objects_is_a_table(tmp_path: Path) -> None:
    found = document(tmp_path, '[{"id": 1, "p": 0.5}, {"id": 2, "p": 0.25}]')
    assert found.table == (("id", "p"), ("1", "0.5"), ("2", "0.25"))


@pytest.mark.parametrize(
    "tree",
    [[1, 2], [{"a": 1}, {"b": 1}], {"a": [[1]]}, {str(number): number for number in range(100)}, "x", [], {}],
)
def test_anything_else_is_text(tmp_path: Path, tree: Any) -> None:
    found = document(tmp_path, json.dumps(tree))
    assert (found.pairs, found.table, found.problem) == ((), (), "")
    assert json.loads(found.text) == tree


def test_large_ones_are_cut(tmp_path: Path) -> None:
    found = document(tmp_path, json.dumps(list(range(10_000))))
    assert found.is_cut
    assert len(found.text) <= documents._MOST_TEXT
    too_large = document(tmp_path / "b", json.dumps("x" * documents._MOST_BYTES))
    assert "is larger than" in too_large.problem


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "1" * 5000, '{"a": NaN} x', "\x00"])
def test_what_is_not_json_is_told(tmp_path: Path, content: str) -> None:
    assert document(tmp_path, content).problem == "is not JSON"
    assert "Not shown: it is not JSON." in text_of(tmp_path / "a")


# --- files that others wrote ---


def hostile_run(folder: Path, beside: str) -> Path:
    """beside: in every text that a stage may choose."""
    history = "".join(json.dumps({"step": n, f"loss{beside}": n, f"acc{beside}": n}) + "\n" for n in range(5))
    name = re.sub("[\x00/]", "", beside)[:90]
    return write_programs(
        folder,
        {
            "train": {
                "h.jsonl": history, f"p{name}.png": png(), "x.json": json.dumps({f"k{beside}": f"v{beside}"}),
                "y.json": json.dumps([{f"k{beside}": f"v{beside}"}]), "z.json": json.dumps([[f"v{beside}"]]),
            },
            "publish": {},
        },
        logs={"train": f"Traceback (most recent call last):\nValueError: {beside}\n"},
        means={"command": f"echo {beside}", "params.y": beside, f"params.{beside}": "1", "git": beside,
               "image": f"i{beside}", "code": beside or "c"},
        metrics={"train": {f"loss{beside}": 1.0}},
    )  # fmt: skip


def test_what_is_shown_is_text_and_nothing_else(tmp_path: Path) -> None:
    plain = elements_of(hostile_run(tmp_path / "plain", "x"))
    page = render("run.html", run=of_run.gather(hostile_run(tmp_path / "a", HOSTILE), "a"))
    hostile = Elements(page)
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [list(attributes) for _, attributes in hostile.tags] == [list(names) for _, names in plain.tags]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", page)
    page.encode()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "gone"])
def test_only_regular_files_of_the_run_are_read(tmp_path: Path, kind: str) -> None:
    files: dict[str, str | bytes] = {"h.jsonl": HISTORY, "x.png": png(), "x.json": '{"secret": 1}'}
    folder = write_programs(tmp_path / "a", {"train": files})
    for name in files:
        path = folder / "workspace" / name
        (tmp_path / name).write_bytes(path.read_bytes())
        path.unlink()
        if kind == "link":
            path.symlink_to(tmp_path / name)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
    part = part_of(folder)
    assert (part.histories.files, part.gallery.pictures) == ((), ())
    assert "secret" not in text_of(folder)


def test_a_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = write_programs(tmp_path / "a", {"train": {"out/x.json": '{"secret": 1}'}})
    (folder / "workspace/out").rename(tmp_path / "elsewhere")
    (folder / "workspace/out").symlink_to(tmp_path / "elsewhere")
    assert "secret" not in text_of(folder)


def test_the_page_stays_small_and_quick(tmp_path: Path) -> None:
    rows = "".join(
        json.dumps({"step": step, **{f"m{column}": step for column in range(30)}}) + "\n"
        for step in range(3000)
    )
    tables = {f"h{number}.jsonl": rows for number in range(40)}
    trees = {f"t{number}.json": json.dumps(list(range(20_000))) for number in range(60)}
    pictures = {f"p{number}.png": png(8, 8) + bytes(400_000) for number in range(60)}
    folder = write_programs(tmp_path / "a", {"train": {**tables, **trees, **pictures}})
    started = time.perf_counter()
    page = render("run.html", run=of_run.gather(folder, "a"))
    assert len(page) < 12_000_000
    assert time.perf_counter() - started < 30
