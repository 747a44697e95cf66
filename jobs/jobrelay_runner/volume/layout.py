"""The classes of a folder of images, and the part of each file, by the names of the files alone.

    CLASS/FILE               divided by the seed: of every class about 8 in 10 to train, 1 to validate
                             with during the training, 1 to test
    train/CLASS/FILE         divided already: train, test and, if present, val, under any usual name
                             (jobrelay_runner.volume.parts); without a test part, val is tested
    seg_train/seg_train/CLASS/FILE, NAME/train/CLASS/FILE   the same, one folder deeper

A file's part depends only on its name and the seed: an additional photograph never moves another one from the
test images to the training images. Names are compared in Unicode's composed form (NFC): a Mac writes `é` as
two characters, other systems as one, and both are the same class.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Final, Tuple

from jobrelay_runner.volume.parts import Part, Role, division, named

#: Division by the seed: training up to the first fraction, validation up to the second, then test.
_TRAIN: Final = 0.8
_VAL: Final = 0.9
#: How many folders a data set may be wrapped in: NAME/train/CLASS/FILE.
_WRAPPERS: Final = 3
#: Most names that a log line lists.
_MOST_NAMED: Final = 20
#: A class that is smaller than the largest by this factor gets a warning.
_RARE: Final = 100
_IN_NO_CLASS: Final = "it is in no class's folder"
_WANTED: Final = "; put the images into one folder for each class: CLASS/FILE"

Path = Tuple[str, ...]


class LayoutError(ValueError):
    """The file names do not form a data set; the message says why, and what to do."""


@dataclass(frozen=True)
class Place:
    """The part and class of a file."""

    part: Part
    class_name: str


@dataclass(frozen=True)
class Layout:
    """The layout of a data set: a place for every file in a class, and in `skipped` why a file has none.

    division: the folders that divide the data set, with their parts; empty if the seed divides it. left_out:
    folders of pictures outside all classes, with how many each holds. deeper: one of the files, if all of
    them lie in a folder inside the folder of their class.
    """

    places: Mapping[str, Place]
    class_names: tuple[str, ...]
    skipped: Mapping[str, str]
    division: Mapping[str, Part] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    deeper: str | None = None


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form, in which two spellings of one name are equal."""
    return unicodedata.normalize("NFC", name)


def shown(name: str) -> str:
    """Return a name as it can be printed on one log line, whatever it contains."""
    return name if name.isprintable() else ascii(name)


def lay_out(names: Iterable[str], seed: int) -> Layout:
    """Derive the layout from the names of the files, relative to their folder. Raises LayoutError."""
    paths = {name: tuple(nfc(name).split("/")) for name in names}
    wrapped, wrapper = paths, ""
    for _ in range(_WRAPPERS):
        top = _folders(wrapped.values())
        if roles := division(top):
            beside = dict.fromkeys(paths.keys() - wrapped.keys(), _IN_NO_CLASS)
            layout = _divided(wrapped, roles, seed, wrapper)
            return replace(layout, skipped={**layout.skipped, **beside})
        if len(top) != 1:
            break
        (only,) = top
        wrapped = {name: path[1:] for name, path in wrapped.items() if path[0] == only and len(path) > 1}
        wrapper = f"{wrapper}{only}/"
    return _by_class(paths, seed)


def _by_class(paths: Mapping[str, Path], seed: int) -> Layout:
    top = _folders(paths.values())
    _refuse_doubtful(paths, top)
    places, skipped = {}, {}
    for name, path in paths.items():
        if len(path) < 2:
            skipped[name] = _IN_NO_CLASS
        else:
            places[name] = Place(part_of(nfc(name), seed), path[0])
    if len(top) == 1:
        (only,) = top
        inside = _folders(path[1:] for path in paths.values())
        way_out = f", which holds the folders {listed(inside)}: if these are the classes, put {shown(only)}/"
        raise LayoutError(f"has only one class, {shown(only)}" + (way_out if inside else _WANTED))
    if not places:
        raise LayoutError(f"has no folders of classes{_WANTED}")
    return Layout(places, tuple(sorted(top)), skipped, deeper=_deeper(paths, dict.fromkeys(places, 1)))


def _refuse_doubtful(paths: Mapping[str, Path], top: set[str]) -> None:
    """Raise LayoutError for parts whose names do not match: they would be taken for classes."""
    flat = {path[0] for path in paths.values() if len(path) == 2}
    doubtful = {folder for folder in top if named(folder) and folder not in flat}
    if doubtful and len(top) > 1 and (len(top) <= 4 or len(doubtful) > 1):
        raise LayoutError(
            f"looks divided, since {listed(doubtful)} hold folders of their own, but not all of "
            f"{listed(top)} are named for a part; name them train/, val/ and test/"
        )
    inside = defaultdict(set)
    for path in paths.values():
        inside[path[0]].add(path[1] if len(path) > 2 else "")
    folders = set().union(*(inside[folder] for folder in top)) if top else set()
    if "" not in folders and (roles := division(folders)) and len(roles) == len(folders):
        first = min(top)
        raise LayoutError(
            f"is divided inside each class, as {shown(first)}/{shown(min(folders))}/; "
            "the parts come first: train/CLASS/FILE, test/CLASS/FILE"
        )


def _divided(paths: Mapping[str, Path], roles: Mapping[str, Role], seed: int, wrapper: str) -> Layout:
    if others := _folders(paths.values()) - roles.keys():
        raise LayoutError(
            f"is divided into {listed(roles)}, and has {listed(others)} next to them; "
            "move these into them, or elsewhere"
        )
    inside = {folder: _unwrapped(paths, folder) for folder in roles}
    labelled = {
        folder: role
        for folder, role in roles.items()
        if role != "unlabelled" and any(len(path) > 1 for path in inside[folder].values())
    }
    parts = set(labelled.values())
    if "train" not in parts:
        raise LayoutError(
            f"has no folders of classes in {listed(f for f, r in roles.items() if r == 'train')}"
        )
    tested = "test" if "test" in parts else "val"
    division: dict[str, Part] = {}
    places, skipped, depth = {}, {}, {}
    for folder, role in labelled.items():
        part: Part = "test" if role == tested else "val" if role == "val" else "train"
        if parts != {"train"}:
            division[f"{wrapper}{folder}"] = part
        for name, path in inside[folder].items():
            if len(path) < 2:
                skipped[name] = _IN_NO_CLASS
                continue
            places[name] = Place(part if parts != {"train"} else part_of(nfc(name), seed), path[0])
            depth[name] = len(paths[name]) - len(path) + 1
    in_parts = set().union(*(inside[folder] for folder in roles))
    skipped |= {name: _IN_NO_CLASS for name in paths if name not in in_parts}
    class_names = tuple(sorted({place.class_name for place in places.values()}))
    if len(class_names) < 2:
        raise LayoutError(f"has only one class, {shown(class_names[0])}, in {listed(labelled)}{_WANTED}")
    left_out = {f"{wrapper}{folder}": len(inside[folder]) for folder in roles.keys() - labelled.keys()}
    return Layout(places, class_names, skipped, division, left_out, _deeper(paths, depth))


def _unwrapped(paths: Mapping[str, Path], folder: str) -> dict[str, Path]:
    """Return a part's files without the part's name, and without a folder of the same name inside it."""
    inside = {name: path[1:] for name, path in paths.items() if path[0] == folder and len(path) > 1}
    folders = _folders(inside.values())
    if len(folders) != 1:
        return inside
    (only,) = folders
    outer, inner = named(folder), named(only)
    if outer is None or inner is None or inner.role != outer.role:
        return inside
    return {name: path[1:] if len(path) > 1 else path for name, path in inside.items()}


def _folders(paths: Iterable[Path]) -> set[str]:
    return {path[0] for path in paths if len(path) > 1}


def _deeper(paths: Mapping[str, Path], depth: Mapping[str, int]) -> str | None:
    """Return the first file if every file lies in a folder inside the folder of its class.

    depth: how many parts of its path lead to its class, the class's own name included.
    """
    if all(len(paths[name]) > above + 1 for name, above in depth.items()):
        return min(depth, default=None)
    return None


def part_of(name: str, seed: int) -> Part:
    """Return the part of the file of this name, in a folder that is not divided already."""
    hashed = hashlib.sha256(f"{seed}/{name}".encode(errors="replace")).digest()
    drawn = int.from_bytes(hashed[:8], "big") / 2**64
    return "train" if drawn < _TRAIN else "val" if drawn < _VAL else "test"


def warnings(layout: Layout, names: Iterable[str]) -> list[str]:
    """Return what looks wrong with a layout of which the files `names` are used, one sentence each."""
    found = []
    classes = layout.class_names
    if len(classes) == 2 and any(named(name) for name in classes):
        found.append(
            f"the only two classes are {listed(classes)}: if they are parts of the data, "
            "make folders of classes in each"
        )
    if layout.deeper:
        found.append(
            f"every file lies one folder deeper than its class, such as {shown(layout.deeper)}: "
            "if those folders are the classes, remove the folders around them"
        )
    counts = count(layout, names)
    most = max(counts.values(), default=0)
    if rare := [name for name in classes if counts[name] * _RARE <= most]:
        found.append(f"{_some(rare, counts)}, and the largest class has {most:,}")
    found += [f"classes {listed(alike)} differ only in case or spaces" for alike in _look_alikes(classes)]
    return found


def _look_alikes(class_names: Sequence[str]) -> list[list[str]]:
    groups = defaultdict(list)
    for name in class_names:
        groups["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    return [alike for alike in groups.values() if len(alike) > 1]


def count(layout: Layout, names: Iterable[str]) -> Counter[str]:
    """Return how many of the files `names` each class has."""
    return Counter(layout.places[name].class_name for name in names)


def describe(layout: Layout, names: Iterable[str]) -> str:
    """Describe the classes and their file counts, the division, and what is left out; one line each."""
    counts = count(layout, names)
    lines = [f"{len(layout.class_names):,} classes: {_some(layout.class_names, counts)}"]
    if layout.division:
        parts = sorted(layout.division.items())
        lines.append("divided by its folders: " + ", ".join(f"{shown(f)}/ ({part})" for f, part in parts))
    lines += [
        f"{shown(folder)}/ is left out, with {files(number)} in no class's folder"
        for folder, number in sorted(layout.left_out.items())
    ]
    return "\n".join(lines)


def _some(class_names: Sequence[str], counts: Mapping[str, int]) -> str:
    first = ", ".join(f"{shown(name)} {counts[name]:,}" for name in islice(class_names, _MOST_NAMED))
    rest = [counts[name] for name in class_names[_MOST_NAMED:]]
    return first + (f" and {len(rest):,} more, of {min(rest):,} to {max(rest):,} files each" if rest else "")


def files(number: int) -> str:
    """Return `1 file`, `2 files`."""
    return f"{number:,} file" + ("" if number == 1 else "s")


def listed(folders: Iterable[str]) -> str:
    """List the names of folders on one line, at most 20."""
    names = sorted(folders)
    more = len(names) - _MOST_NAMED
    first = ", ".join(f"{shown(name)}/" for name in names[:_MOST_NAMED])
    return first + (f" and {more:,} more" if more > 0 else "")
