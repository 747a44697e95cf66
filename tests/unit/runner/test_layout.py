"""What the names of files say of classes and parts, without looking into one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay_runner.volume.layout import Layout, LayoutError, describe, lay_out, warnings
from jobrelay_runner.volume.parts import division


def files(folders: Iterable[str], count: int = 3) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(count)]


def parts_of(layout: Layout) -> dict[str, str]:
    """The part of the files in each folder, as they lie."""
    return {name.rpartition("/")[0]: place.part for name, place in layout.places.items()}


def divided(*parts: str) -> list[str]:
    return files(f"{part}/{kind}" for part in parts for kind in ("cat", "dog"))


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("train", "validation", "test"), ("train", "val", "test")),
        (("train", "test"), ("train", "test")),
        (("train", "valid"), ("train", "test")),  # else nothing would be tested
        (("Training", "Testing"), ("train", "test")),
        (("TRAIN", "Valid", "Test"), ("train", "val", "test")),
        (("train", "dev"), ("train", "test")),
        (("train", "dev", "test"), ("train", "val", "test")),
        (("train", "eval"), ("train", "test")),
        (("seg_train", "seg_test"), ("train", "test")),
        (("training_set", "test_set"), ("train", "test")),
        (("Training Data", "Validation Data"), ("train", "test")),
        (("trainset", "testset"), ("train", "test")),
        (("train2017", "val2017"), ("train", "test")),
        (("asl_alphabet_train", "asl_alphabet_test"), ("train", "test")),
        (("train-images", "test-images"), ("train", "test")),
        (("seg_train/seg_train", "seg_test/seg_test"), ("train", "test")),
        (("train/train", "test"), ("train", "test")),
        (("chest_xray/train", "chest_xray/val", "chest_xray/test"), ("train", "val", "test")),
        (("a/b/training", "a/b/holdout"), ("train", "test")),
    ],
)
def test_folders_that_divide_are_no_classes(folders: tuple[str, ...], expected: tuple[str, ...]) -> None:
    layout = lay_out([*divided(*folders), "read.me"], seed=0)

    assert layout.class_names == ("cat", "dog")
    wanted = dict(zip(folders, expected, strict=True))
    assert parts_of(layout) == {f"{f}/{kind}": part for f, part in wanted.items() for kind in ("cat", "dog")}
    assert layout.skipped == {"read.me": "it is in no class's folder"}
    assert warnings(layout, layout.places) == []


@pytest.mark.parametrize(
    "classes",
    [
        ("train station", "test tube"),
        ("train", "bus", "car"),  # a vehicle
        ("good", "bad"),
        ("set", "match"),
        ("développement", "testament"),
    ],
)
def test_classes_stay_classes(classes: tuple[str, ...]) -> None:
    assert lay_out(files(classes), seed=0).class_names == tuple(sorted(classes))


@given(st.lists(st.text(min_size=1)))
def test_any_names_divide_or_do_not(names: list[str]) -> None:
    roles = division(names)
    assert roles is None or "train" in roles.values()


def test_pictures_without_classes_are_left_out_and_named() -> None:
    loose = files(["seg_pred/seg_pred"], count=2)
    layout = lay_out([*divided("seg_train/seg_train", "seg_test/seg_test"), *loose], seed=0)

    assert layout.left_out == {"seg_pred": 2}
    assert not layout.skipped
    assert describe(layout, layout.places).splitlines() == [
        "2 classes: cat 6, dog 6",
        "divided by its folders: seg_test/ (test), seg_train/ (train)",
        "seg_pred/ is left out, with 2 files in no class's folder",
    ]


def test_where_the_test_pictures_have_no_classes_the_seed_divides_what_is_to_train_on() -> None:
    names = files((f"train/{kind}" for kind in ("cat", "dog")), count=200)
    layout = lay_out([*names, *files(["test"], count=7)], seed=0)

    assert layout.class_names == ("cat", "dog")
    assert {place.part for place in layout.places.values()} == {"train", "val", "test"}
    assert (layout.division, layout.left_out) == ({}, {"test": 7})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.png", "b.png"], "has no folders of classes"),
        (files(["dress"]), "has only one class, dress; .* one folder for each class"),
        (divided("train"), "has only one class, train, which holds the folders cat/, dog/: if these are"),
        (
            divided("archive"),
            "has only one class, archive, which holds the folders cat/, dog/.* put archive/",
        ),
        (divided("train", "test", "extra"), "divided into test/, train/, and has extra/ next to them"),
        (divided("train_a", "test_b"), "looks divided, since test_b/, train_a/ hold folders of their own"),
        (divided("train", "rest"), "looks divided, since train/ hold.* not all of rest/, train/ are named"),
        (divided("val", "test"), "looks divided"),
        (files(f"{kind}/{part}" for kind in "ab" for part in ("train", "test")), "divided inside each class"),
        (files(["train/cat", "test/cat"]), "has only one class, cat, in test/, train/"),
        (files(["train", "test"]), "has no folders of classes in train/"),
    ],
)
def test_what_is_no_data_set_is_refused_with_a_way_out(names: list[str], reason: str) -> None:
    with pytest.raises(LayoutError, match=reason):
        lay_out(names, seed=0)


def test_two_spellings_of_a_class_are_one() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Röcke") for form in ("NFC", "NFD"))
    layout = lay_out(files([composed, decomposed, "dress"]), seed=0)

    assert layout.class_names == (composed, "dress")
    same = [layout.places[f"{name}/1.png"] for name in (composed, decomposed)]
    assert same[0] == same[1]


def test_what_looks_wrong_is_pointed_out() -> None:
    names = [*files(["cat/2019", "dog/2020", "Dog/2020"]), *files(["cow/2020"], count=300)]
    layout = lay_out(names, seed=0)

    assert warnings(layout, names) == [
        "every file lies one folder deeper than its class, such as Dog/2020/0.png: if those folders are "
        "the classes, remove the folders around them",
        "Dog 3, cat 3, dog 3, and the largest class has 300",
        "classes Dog/, dog/ differ only in case or spaces",
    ]
    assert warnings(lay_out(files(["cat", "dog"]), seed=0), files(["cat", "dog"])) == []


def test_a_thousand_classes_are_a_bounded_line() -> None:
    classes = [f"n{number:08}" for number in range(1000)]
    names = files(classes, count=2)
    (line,) = describe(lay_out(names, seed=0), names).splitlines()

    assert line.startswith("1,000 classes: n00000000 2, n00000001 2, ")
    assert line.endswith("n00000019 2 and 980 more, of 2 to 2 files each")
    assert len(line) < 400


def test_a_name_that_would_break_the_line_is_escaped() -> None:
    names = files(["a\nb", "c"])
    assert describe(lay_out(names, seed=0), names) == "2 classes: 'a\\nb' 3, c 3"
