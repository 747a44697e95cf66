"""The configuration: what it accepts, what it refuses and how it says so, and what is part of a hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrelay_train.config.loading import ConfigError, load_config, validate
from jobrelay_train.config.placement import Placement
from jobrelay_train.config.quantity import quantity
from jobrelay_train.config.schema import STAGES, RunConfig

BASE = Path(__file__).parents[3] / "k8s" / "base" / "config.yaml"


def test_of_very_many_bad_keys_the_first_are_told_and_the_others_counted() -> None:
    with pytest.raises(ConfigError) as refused:
        validate({f"key{number}": 1 for number in range(1500)})
    *told, more = refused.value.problems
    assert [problem.split(":")[0] for problem in told] == [f"key{number}" for number in range(20)]
    assert more == "and 1,480 more keys that cannot be used"


def test_the_file_in_k8s_says_every_default_that_decides_a_result() -> None:
    written = yaml.safe_load(BASE.read_text())

    assert load_config(BASE) == RunConfig()
    defaults = RunConfig().result_config()
    del defaults["data"]["mirror"]  # it has no default
    assert written == defaults


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epoch=3", "train.epoch: unknown key; did you mean train.epochs?"),
        ("trian.epochs=3", "trian: unknown key; did you mean train?"),
        ("xyzzy=1", "xyzzy: unknown key; known here: seed, device, code, data, model, train, eval, infer"),
        ("train.epochs=0", "train.epochs: input should be greater than or equal to 1 (got 0)"),
        ("train.epochs=many", "train.epochs: input should be a valid integer (got 'many')"),
        ("train.epochs=1.5", "train.epochs: "),
        ("train.epochs=true", "train.epochs: "),
        ("train.learning_rate=nan", "train.learning_rate: "),
        ("train.learning_rate=0", "train.learning_rate: input should be greater than 0"),
        ("train.memory=2 GB", "train.memory: '2 GB' is not a Kubernetes quantity"),
        ("model.name=resnet", "model.name: input should be 'cnn', 'mnist-net', 'mnist-hogwild-net', "),
        ("data.mirror=ftp://x", "data.mirror: an address that starts with http"),
        ("eval.export=onnx", "eval.export: input should be 'none' or 'torch' (got 'onnx')"),
        ("data.name=blobs", "model cnn takes images, and data blobs has none: --set model.name=perceptron"),
        ("train.horizontal_flip=perhaps", "train.horizontal_flip: input should be 'auto', True or False"),
        ("infer.source=photos", "infer.source: test, or data/NAME is expected, for a folder"),
        ("infer.source=data/../../etc", "infer.source: test, or data/NAME"),
        ("train.autosize=perhaps", "train.autosize: input should be a valid boolean"),
        ("seed=-1", "seed: "),
        ("train=5", "train: a section with keys of its own is expected (got 5)"),
        ("seed.deep=5", "seed: "),
        ("train.epochs", "expected key=value"),
        ("=5", "expected key=value"),
        ("train.epochs=[1", "--set train.epochs"),
    ],
)
def test_what_cannot_be_used_is_refused_by_its_key(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, [override])

    assert told in str(raised.value)
    assert len(raised.value.problems) == 1


FOLDER = ("data.name=imagefolder", "data.folder=data/clothes")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (
            ["data.name=imagefolder"],
            "data: imagefolder needs its folder: put a folder on the volume as data/NAME, and set",
        ),
        (["data.folder=data/clothes"], "data: folder applies to imagefolder only, not to fashion-mnist-mini"),
        (["data.size=32"], "data: size applies to imagefolder only"),
        (["data.skip_limit=1"], "data: skip_limit applies to imagefolder only"),
        ([*FOLDER, "data.folder=clothes"], "data.folder: data/NAME is expected, for a folder"),
        ([*FOLDER, "data.folder=data/../x"], "data.folder: data/NAME is expected, for a folder"),
        ([*FOLDER, "data.size=8"], "data.size: input should be greater than or equal to 16"),
        ([*FOLDER, "data.size=4000"], "data.size: input should be less than or equal to 512"),
        ([*FOLDER, "model.name=mnist-hogwild-net"], "model mnist-hogwild-net takes grey images of 28 x 28"),
        ([*FOLDER, "model.name=resnet18", "data.size=32"], "data.size must be 33 or more, not 32"),
        (["model.name=resnet18"], "model resnet18 takes RGB images, fashion-mnist-mini has none"),
        (
            [*FOLDER, "model.weights=data/w/x.pth"],
            "model: weights are read for efficientnet_b0, mobilenet_v3_small",
        ),
        (["model.weights=data/w"], "model.weights: data/NAME/FILE is expected, for a file in a folder"),
        (["model.weights=data/w/../../x"], "model.weights: data/NAME/FILE"),
        (["model.weights=/etc/passwd"], "model.weights: data/NAME/FILE"),
        (["model.weights_sha256=abc"], "model.weights_sha256: 64 hexadecimal digits"),
        ([f"model.weights_sha256='{'0' * 64}'"], "model: weights_sha256 is set, but"),
        (
            [*FOLDER, "model.name=resnet18", "train.freeze=backbone"],
            "train.freeze: a backbone without model.weights",
        ),
    ],
)
def test_keys_that_do_not_fit_each_other_are_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, overrides)

    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith(told) or told in raised.value.problems[0]


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        (["data.size=96"], {"train", "eval", "infer"}),
        (["data.folder=data/others"], {"train", "eval", "infer"}),
        (["data.skip_limit=0"], set()),  # it only decides whether there is a result
        (["model.weights=data/w/x.pth"], {"train", "eval", "infer"}),
        (["model.weights=data/w/x.pth", "train.freeze=backbone"], {"train", "eval", "infer"}),
    ],
)
def test_a_stage_depends_on_its_folder_and_weights(overrides: list[str], changed: set[str]) -> None:
    folder = [*FOLDER, "model.name=resnet18", "data.size=64"]
    before, after = load_config(None, folder), load_config(None, [*folder, *overrides])

    assert {stage for stage in STAGES if before.stage_hash(stage) != after.stage_hash(stage)} == changed


def test_what_must_be_on_the_volume_depends_on_the_stages() -> None:
    config = load_config(
        None, [*FOLDER, "model.name=resnet18", "model.weights=data/w/x.pth", "infer.source=data/photos"]
    )

    assert config.on_the_volume(STAGES) == ["data/clothes", "data/w/x.pth", "data/photos"]
    assert config.on_the_volume(["eval"]) == ["data/clothes"]
    assert RunConfig().on_the_volume(STAGES) == []


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epochs=3", "epochs: unknown key; did you mean train.epochs?"),
        ("epoch=3", "epoch: unknown key; did you mean train.epochs?"),
        ("batch_size=3", "did you mean train.batch_size, eval.batch_size or infer.batch_size?"),
        ("train.seed=3", "train.seed: unknown key; did you mean seed?"),
        ("train.memory=1", "train.memory: 1 is less than 1 MiB"),
        ("train.memory=400m", "train.memory: 400m is less than 1 MiB"),
        ("train.memory=-2Gi", "train.memory: -2Gi is less than 1 MiB"),
        ("train.memory=lots", "train.memory: 'lots' is not a Kubernetes quantity"),
        ("train.cpu=-1", "train.cpu: -1 is negative; one CPU is 1 or 1000m"),
        ("train.epochs=010", "010 would be read as 8"),
        ("train.epochs=1:30", "1:30 would be read as 90"),
        ("train.learning_rate=1:30.5", "1:30.5 would be read as 90.5"),
        ("data.mirror=http://h/p #x", "what follows ' #' is a comment to YAML"),
        ("train=", "--set train=: train is a section; set its keys: train."),
        ("train.epochs=", "train.epochs: it has no value"),
        (
            "data.mirror=x",
            "data.mirror: an address that starts with http:// or https:// is expected, not 'x'",
        ),
        ("model.weights_sha256=abc", "model.weights_sha256: 64 hexadecimal digits are expected"),
    ],
)
def test_what_is_meant_is_told(override: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, [override])
    [problem] = raised.value.problems
    assert told in problem
    assert "pattern" not in problem


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.5Gi", 1.5 * 2**30), ("2e9", 2e9), ("2E9", 2e9), ("1e+9", 1e9), ("2.5e9", 2.5e9), ("1.Gi", 2**30),
        (".5G", 5e8), ("+1Gi", 2**30), ("1E", 1e18), ("1Ei", 2**60), ("1024Ki", 2**20),
        ("128974848000m", 128974848),
        ("010Mi", 10 * 2**20), ("2000000k", 2e9), ("1P", 1e15), ("1Pi", 2**50),
    ],
)  # fmt: skip
def test_a_quantity_is_what_kubernetes_reads(text: str, number: float) -> None:
    assert float(quantity(text)) == number
    assert load_config(None, [f"train.memory='{text}'"]).train.memory == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "+",
        "1 Gi",
        "1gi",
        "1KI",
        "1K",
        "1ki",
        "1e3Gi",
        "1e",
        "1e1.5",
        "Gi",
        "0x10",
        "1Gi ",
        "1,5Gi",
        "١",
    ],
)
def test_what_kubernetes_does_not_read_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantity(text)


@pytest.mark.parametrize("text", ["4096m", "0.5", "0.25", "2", "1e3m", "100u"])
def test_cpu_is_a_quantity(text: str) -> None:
    if text == "1e3m":
        with pytest.raises(ConfigError):
            load_config(None, [f"train.cpu={text}"])
    else:
        assert load_config(None, [f"train.cpu={text}"]).train.cpu == text


def test_a_folder_may_be_written_as_a_shell_completes_it() -> None:
    config = load_config(None, ["data.name=imagefolder", "data.folder=data/x/", "infer.source=data/y/"])
    assert (config.data.folder, config.infer.source) == ("data/x", "data/y")


def test_an_empty_section_is_as_the_default(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("train:\n#  epochs: 3\n")
    assert load_config(file) == RunConfig()
    assert load_config(file, ["train.epochs=4"]).train.epochs == 4


def test_a_quoted_comment_sign_is_no_comment() -> None:
    assert load_config(None, ['data.mirror="http://h/p#x"']).data.mirror == "http://h/p#x"
    assert load_config(None, ["data.mirror=http://h/p#x"]).data.mirror == "http://h/p#x"


def test_every_problem_has_a_line() -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(None, ["seed=-1", "train.epochs=0", "model.nam=cnn"])

    assert [line.partition(":")[0] for line in raised.value.problems] == ["seed", "model.nam", "train.epochs"]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("train.epochs=7", ("train", "epochs"), 7),
        ("train.learning_rate=1e-3", ("train", "learning_rate"), 0.001),
        ("train.learning_rate=1", ("train", "learning_rate"), 1.0),
        ("eval.cpu=2", ("eval", "cpu"), "2"),
        ("eval.cpu=500m", ("eval", "cpu"), "500m"),
        ("infer.memory=null", ("infer", "memory"), None),
        ("data.mirror=http://h/p?a=b", ("data", "mirror"), "http://h/p?a=b"),
    ],
)
def test_set_changes_one_key(override: str, path: tuple[str, str], value: object) -> None:
    config = load_config(None, [override])

    assert getattr(getattr(config, path[0]), path[1]) == value
    changed: Any = RunConfig().model_dump()
    changed[path[0]][path[1]] = value
    assert config.model_dump() == changed


def test_the_last_of_two_settings_counts(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("train: {epochs: 2, batch_size: 32}")

    config = load_config(file, ["train.epochs=3", "train.epochs=4"])

    assert (config.train.epochs, config.train.batch_size) == (4, 32)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_is_all_defaults(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)

    assert load_config(file) == RunConfig()


BOMB = "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"seed: 1\nseed: 2\n", "line 2: the key 'seed' appears twice"),
        (b"train:\n\tepochs: 2\n", "line 2: it starts with a tab; YAML is indented with spaces"),
        (b"seed: 010\n", "line 1: 010 would be read as 8"),
        (b"- 1\n", "a mapping of keys is expected, not a list"),
        (b"seed: 1\n---\nseed: 2\n", "holds 2 YAML documents"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"seed: !!python/object/apply:os.getpid []\n", "line 1"),
        (BOMB.encode(), "line 2: aliases (*name) are not accepted"),
        (b"[" * 5000, "config.yaml"),
        (b"#" * (1024 * 1024 + 1), "larger than"),
        (b"seed: 2026-02-31\n", "config.yaml"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as raised:
        load_config(file)

    assert told in str(raised.value)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^/absent\.yaml: No such file or directory$"):
        load_config(Path("/absent.yaml"))


@given(st.text())
def test_any_override_is_used_or_refused(text: str) -> None:
    try:
        assert isinstance(load_config(None, [text]), RunConfig)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 (both ends are right)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text() | st.sampled_from(list("{}[]&*!|>'\"%@`#-:? \n")).flatmap(lambda c: st.text().map(c.__add__))
)
def test_any_file_is_used_or_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        assert isinstance(load_config(file), RunConfig)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 (both ends are right)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda it: st.lists(it) | st.dictionaries(st.sampled_from(["train", "seed", "epochs", "x"]), it),
    )
)
def test_any_tree_is_used_or_refused(tree: Any) -> None:
    try:
        assert isinstance(validate({"train": tree, "seed": tree}), RunConfig)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 (both ends are right)


def test_the_resolved_file_gives_the_same_configuration(tmp_path: Path) -> None:
    config = load_config(None, ["train.epochs=9", "data.mirror=http://h", "seed=4294967295"])
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config.result_config()))

    assert load_config(file) == config


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", {"train", "eval", "infer"}),
        ("model.name=perceptron", {"train", "eval", "infer"}),
        ("train.epochs=6", {"train", "eval", "infer"}),
        ("eval.batch_size=10", {"eval", "infer"}),
        ("infer.samples=6", {"infer"}),
        ("data.mirror=http://h", set()),
        ("device=cpu", set()),
        ("train.memory=4Gi", set()),
        ("train.autosize=true", set()),
        ("eval.export=torch", {"eval", "infer"}),
        ("infer.samples=all", {"infer"}),
        ("infer.source=data/photos", {"infer"}),
        ("train.cpu=2", set()),
        ("train.timeout_seconds=5", set()),
        ("train.backoff_limit=5", set()),
    ],
)
def test_a_stage_depends_on_what_decides_its_result(override: str, changed: set[str]) -> None:
    before, after = RunConfig(), load_config(None, [override])

    assert {stage for stage in STAGES if before.stage_hash(stage) != after.stage_hash(stage)} == changed


def test_a_job_is_not_told_of_its_placement() -> None:
    result = load_config(None, ["train.memory=4Gi"]).result_config()

    assert not set(Placement.model_fields) & set(result["train"])
