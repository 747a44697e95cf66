"""From a folder of YAML to what is sent: one run's names, image, room and configuration."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobrelay import manifests
from jobrelay.errors import BadInput, Exit
from jobrelay.kube.labels import ANNOTATION_HASH, LABEL_PLAN, LABEL_RUN
from jobrelay.kube.read import main_container
from jobrelay.manifests import Manifests, Plan, Reader
from jobrelay_runner.stages import Stage
from jobrelay_train.config.loading import resolve
from jobrelay_train.config.schema import STAGES, RunConfig
from tests.support import BASE, pod_spec, write_manifests
from tests.support import objects as o

Object = dict[str, Any]

needs_kubectl = pytest.mark.skipif(not shutil.which("kubectl"), reason="an overlay is rendered by kubectl")


def rendered(*overrides: str, run: str = "a", **options: Any) -> Plan:
    return manifests.render(o.base(), resolve(o.base().config, overrides), run, **options)


def environment(container: Object) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def all_containers(job: Object) -> list[Object]:
    return [*pod_spec(job).get("initContainers", []), *pod_spec(job)["containers"]]


# --- what is in the box --------------------------------------------------------------------------


def test_the_base_holds_a_whole_run() -> None:
    base = o.base()
    assert base.namespace == "jobrelay"
    assert list(base.jobs) == list(STAGES)
    assert o.names(base.shared)[0] == "Namespace jobrelay"
    assert "PersistentVolumeClaim jobrelay" in o.names(base.shared)
    assert resolve(base.config) == RunConfig()  # its config.yaml says every default


def test_a_run_has_names_labels_and_a_configuration_of_its_own() -> None:
    plan = rendered("train.epochs=9", run="mnist-a", namespace="team-x")

    assert [job["metadata"]["name"] for job in plan.jobs.values()] == [
        "mnist-a-train",
        "mnist-a-eval",
        "mnist-a-infer",
    ]
    config_name = plan.config_map["metadata"]["name"]
    assert re.fullmatch(r"mnist-a-config-[0-9a-f]{8}", config_name)
    assert plan.config_map["immutable"] is True
    assert yaml.safe_load(plan.config_map["data"]["config.yaml"])["train"]["epochs"] == 9
    for stage, job in plan.jobs.items():
        for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
            labels = metadata["labels"]
            assert labels[LABEL_RUN] == "mnist-a"
            assert labels["app.kubernetes.io/component"] == stage
            assert labels["app.kubernetes.io/managed-by"] == "jobrelay"
        assert [environment(c)["JOBRELAY_RUN"] for c in all_containers(job)] == ["mnist-a"] * len(
            all_containers(job)
        )
        mounted = {v["configMap"]["name"] for v in pod_spec(job)["volumes"] if "configMap" in v}
        assert mounted == {config_name}
    for item in plan.objects():
        place = item["metadata"].get("namespace", item["metadata"]["name"])
        assert place == "team-x", item["kind"]


def test_objects_come_in_an_order_that_can_be_applied() -> None:
    kinds = [item["kind"] for item in rendered().objects()]
    assert kinds[0] == "Namespace"
    assert kinds[-4:] == ["ConfigMap", "Job", "Job", "Job"]


def test_another_image_is_for_every_container_that_had_the_stages() -> None:
    plan = rendered(image="registry.example:5000/team/jobrelay:2")
    for job in plan.jobs.values():
        assert {c["image"] for c in all_containers(job)} == {"registry.example:5000/team/jobrelay:2"}


def test_an_image_of_another_container_stays(tmp_path: Path) -> None:
    def sidecar(stage: str, job: Object) -> None:
        pod_spec(job)["containers"].insert(0, {"name": "side", "image": "busybox:1"})

    folder = write_manifests(tmp_path / "m", sidecar)
    job = manifests.render(manifests.load(folder), RunConfig(), "a", image="other:2").jobs["train"]
    assert {c["name"]: c["image"] for c in pod_spec(job)["containers"]} == {
        "side": "busybox:1",
        "train": "other:2",
    }
    assert main_container(job)["name"] == "train"


def test_placement_goes_to_its_stage_alone() -> None:
    plan = rendered(
        "train.cpu=3",
        "train.memory=4Gi",
        "train.timeout_seconds=60",
        "eval.backoff_limit=0",
        timeout_seconds=99,
    )
    train, evaluate = pod_spec(plan.jobs["train"]), pod_spec(plan.jobs["eval"])
    assert train["containers"][0]["resources"] == {
        "requests": {"cpu": "3", "memory": "4Gi"},
        "limits": {"memory": "4Gi"},
    }
    assert (train["activeDeadlineSeconds"], evaluate["activeDeadlineSeconds"]) == (60, 99)
    assert [job["spec"]["backoffLimit"] for job in plan.jobs.values()] == [2, 0, 1]
    untouched = o.base().jobs["eval"]
    assert evaluate["containers"][0]["resources"] == pod_spec(untouched)["containers"][0]["resources"]


def test_rendering_changes_nothing_that_was_loaded() -> None:
    before = copy.deepcopy(o.base().jobs)
    rendered("train.memory=9Gi", run="z", image="other:1")
    assert o.base().jobs == before


# --- the hash ------------------------------------------------------------------------------------


def hashes(plan: Plan) -> list[str]:
    return [job["metadata"]["annotations"][ANNOTATION_HASH] for job in plan.jobs.values()]


def test_the_hash_does_not_depend_on_the_name_or_the_place_of_a_run() -> None:
    one, other = rendered(run="a"), rendered(run="b", namespace="elsewhere")
    assert hashes(one) == hashes(other)
    assert one.hash == other.hash
    assert one.jobs["train"]["metadata"]["labels"][LABEL_PLAN] == one.hash


@pytest.mark.parametrize(
    ("overrides", "options", "changed"),
    [
        (["train.epochs=9"], {}, [True, True, True]),
        (["eval.batch_size=10"], {}, [False, True, True]),
        (["infer.samples=1"], {}, [False, False, True]),
        (["seed=1"], {}, [True, True, True]),
        (["eval.memory=3Gi"], {}, [False, True, False]),
        (["infer.backoff_limit=3"], {}, [False, False, True]),
        ([], {"image": "other:1"}, [True, True, True]),
        ([], {"timeout_seconds": 5}, [True, True, True]),
    ],
    ids=["train", "eval", "infer", "seed", "memory", "retries", "image", "timeout"],
)
def test_the_hash_changes_with_what_a_stage_does(
    overrides: list[str], options: dict[str, Any], changed: list[bool]
) -> None:
    before, after = rendered(), rendered(*overrides, **options)
    assert [a != b for a, b in zip(hashes(before), hashes(after), strict=True)] == changed
    assert before.hash != after.hash


# --- what differs --------------------------------------------------------------------------------


def live(plan: Plan, stage: Stage = "train") -> Object:
    """A Job as a server gives it back: with defaults that nobody asked for."""
    job = copy.deepcopy(plan.jobs[stage])
    job["metadata"].update(uid="1", resourceVersion="2", managedFields=[])
    job["spec"].update(completionMode="NonIndexed", suspend=False, selector={"matchLabels": {}})
    pod_spec(job).update(schedulerName="default-scheduler", dnsPolicy="ClusterFirst")
    pod_spec(job)["containers"][0]["terminationMessagePath"] = "/dev/termination-log"
    job["status"] = {}
    return job


def test_nothing_differs_from_what_a_server_gives_back() -> None:
    assert manifests.differing_keys(rendered().jobs["train"], live(rendered())) == []


@pytest.mark.parametrize(
    ("overrides", "options", "told"),
    [
        (["train.epochs=9"], {}, ["train.epochs: 5 there, 9 wanted"]),
        (["seed=7", "model.name=perceptron"], {}, ["model.name: cnn there, perceptron wanted",
                                                    "seed: 0 there, 7 wanted"]),
        ([], {"image": "x:2"}, [
            "spec.template.spec.containers[train].image: jobrelay:0.1.0 there, x:2 wanted"]),
        (["train.memory=4Gi"], {}, [
            "spec.template.spec.containers[train].resources.requests.memory: 1Gi there, 4Gi wanted",
            "spec.template.spec.containers[train].resources.limits.memory: 2Gi there, 4Gi wanted"]),
    ],
    ids=["epochs", "two-keys", "image", "memory"],
)  # fmt: skip
def test_what_differs_is_named(overrides: list[str], options: dict[str, Any], told: list[str]) -> None:
    wanted = rendered(*overrides, **options).jobs["train"]
    assert manifests.differing_keys(wanted, live(rendered())) == told


def test_a_job_without_our_annotations_is_compared_too() -> None:
    stranger = live(rendered())
    del stranger["metadata"]["annotations"]
    assert "seed: nothing there, 0 wanted" in manifests.differing_keys(rendered().jobs["train"], stranger)


# --- what a server's version adds ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("minor", "added"),
    [(20, set()), (25, set()), (26, {"podFailurePolicy"}), (28, {"podFailurePolicy"}),
     (29, {"podFailurePolicy", "podReplacementPolicy"}), (37, {"podFailurePolicy", "podReplacementPolicy"})],
)  # fmt: skip
def test_what_is_sent_to_a_server(minor: int, added: set[str]) -> None:
    job = rendered().jobs["eval"]
    sent = manifests.for_server(job, minor)
    assert set(sent["spec"]) - set(job["spec"]) == added
    if added:
        final, superseded, disrupted = sent["spec"]["podFailurePolicy"]["rules"]
        assert final["action"] == "FailJob"
        assert final["onExitCodes"] == {"containerName": "eval", "operator": "In", "values": [65, 69, 78]}
        assert superseded["action"] == disrupted["action"] == "Ignore"
        assert superseded["onExitCodes"]["values"] == [75, 76]
    assert "podFailurePolicy" not in job["spec"]


def test_without_the_gate() -> None:
    plan = rendered()
    assert [c["name"] for c in pod_spec(plan.jobs["eval"])["initContainers"]] == ["gate"]
    assert "initContainers" not in pod_spec(manifests.without_gate(plan.jobs["eval"]))
    assert manifests.without_gate(plan.jobs["train"]) == plan.jobs["train"]
    other = copy.deepcopy(plan.jobs["eval"])
    pod_spec(other)["initContainers"].append({"name": "fetch", "image": "x"})
    assert [c["name"] for c in pod_spec(manifests.without_gate(other))["initContainers"]] == ["fetch"]


def test_the_reader_is_pinned_to_the_node_of_the_volume() -> None:
    pod = Reader("image:1").pod("ns", "claim", "node-1")
    assert pod["metadata"]["namespace"] == "ns"
    assert pod["spec"]["containers"][0]["image"] == "image:1"
    assert pod["spec"]["volumes"][0]["persistentVolumeClaim"] == {"claimName": "claim"}
    terms = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["node-1"]
    free = Reader("image:1").pod("ns", "claim", None)
    assert "affinity" not in free["spec"]
    assert free["metadata"]["name"] != pod["metadata"]["name"]


# --- names ---------------------------------------------------------------------------------------


def test_a_new_run_id_is_a_good_one_and_sorts_by_time() -> None:
    ids = [manifests.new_run_id(datetime(2026, 11, 21, 14, 22, second, tzinfo=UTC)) for second in range(20)]
    assert ids == sorted(ids)
    # of five in one second two are the same once in 53,000 times
    assert len({manifests.new_run_id() for _ in range(5)}) == 5
    for run in ids:
        assert rendered(run=run).run == run


@pytest.mark.parametrize(
    "run", ["", "A", "a_b", "-a", "a-", "a.b", "a" * 41, "a b", "ä", "a\n", "../a"], ids=ascii
)
def test_a_run_id_that_cannot_be(run: str) -> None:
    with pytest.raises(BadInput, match="must be lower-case letters"):
        rendered(run=run)


@pytest.mark.parametrize("namespace", ["A", "a_b", "a" * 64, "a/b"])
def test_a_namespace_that_cannot_be(namespace: str) -> None:
    with pytest.raises(BadInput, match=r"namespace .* must be lower-case letters"):
        rendered(namespace=namespace)


@pytest.mark.parametrize(
    "image",
    [
        "jobrelay:0.1.0", "jobrelay", "team/jobrelay", "localhost/jobrelay:1", "registry.example:5000/a/b:1",
        "REGISTRY.example/a:Tag_1.2", f"a@sha256:{'0' * 64}", f"r.io/a/b:1@sha256:{'f' * 64}", "a__b/c--d",
    ],
)  # fmt: skip
def test_an_image_that_can_be(image: str) -> None:
    assert manifests.check_image(image) == image


@pytest.mark.parametrize(
    "image",
    [" ", "Jobrelay", "a b", "a:", "a:b:c", "/a", "a/", "a//b", "-a", "https://r.io/a", "a@sha256:12", "a:ü",
     "a\n", "a" * 600, "$(IMAGE)"],
    ids=ascii,
)  # fmt: skip
def test_an_image_that_cannot_be(image: str) -> None:
    with pytest.raises(BadInput, match="cannot be an image's name"):
        rendered(image=image)


@settings(max_examples=200)
@given(st.text(max_size=30) | st.from_regex(r"[a-z:/@._-]{0,30}", fullmatch=True))
def test_an_image_is_accepted_or_refused(image: str) -> None:
    with contextlib.suppress(BadInput):
        assert manifests.check_image(image) == image


# --- folders that cannot be used -----------------------------------------------------------------


def broken(change: Callable[[Object], None]) -> Callable[[Path], None]:
    """The train Job, changed."""

    def edit(folder: Path) -> None:
        path = folder / "job-train.yaml"
        job = yaml.safe_load(path.read_text())
        change(job)
        path.write_text(yaml.safe_dump(job))

    return edit


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return edit


def another_namespace(folder: Path) -> None:
    """In one of the Jobs, and no word of kustomize's that puts all into one."""
    path = folder / "kustomization.yaml"
    path.write_text(path.read_text().replace("namespace: jobrelay\n", ""))
    broken(lambda job: job["metadata"].update(namespace="other"))(folder)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a]\nc: [*b, *b, *b, *b]\n"

BAD_FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no-folder": (shutil.rmtree, "is not a directory"),
    "no-kustomization": (lambda folder: (folder / "kustomization.yaml").unlink(), "not a Kubernetes object"),
    "empty-kustomization": (text("kustomization.yaml", ""), "kustomization.yaml is empty"),
    "kustomization-a-list": (text("kustomization.yaml", "[a]"), "kustomization.yaml"),
    "resources-a-number": (text("kustomization.yaml", "resources: 5"), "resources is 5, and should be"),
    "resource-a-number": (text("kustomization.yaml", "resources: [5]"), "resources.0 is 5, and should"),
    "generator-a-text": (text("kustomization.yaml", "configMapGenerator: x"),
                         'configMapGenerator is "x"'),
    "resource-not-there": (text("kustomization.yaml", "resources: [none.yaml]"), "none.yaml"),
    "no-jobs": (text("kustomization.yaml", "resources: [namespace.yaml]"), "m has no Job"),
    "several-pods": (broken(lambda job: job["spec"].update(completions=2, parallelism=2)), "parallelism"),
    "no-name-of-a-stage": (broken(lambda job: job["metadata"]["labels"].update(
        {"app.kubernetes.io/component": "No_Stage"})), "Job demo-train in"),
    "after-no-stage": (broken(lambda job: job["metadata"].update(
        annotations={"jobrelay.dev/after": "serve"})), "jobrelay.dev/after names serve"),
    "in-a-circle": (broken(lambda job: job["metadata"].update(
        annotations={"jobrelay.dev/after": "infer"})), "wait for each other: train, eval, infer"),
    "stage-missing": (broken(lambda job: job["metadata"]["labels"].update(
        {"app.kubernetes.io/component": "eval"})),
        "two Jobs for eval: Job demo-train and Job demo-eval"),
    "image": (broken(lambda job: pod_spec(job)["containers"][0].update(image="No Image")), "'No Image'"),
    "image-missing": (broken(lambda job: pod_spec(job)["containers"][0].pop("image")), "image"),
    "no-containers": (broken(lambda job: pod_spec(job).update(containers=[])), "containers"),
    "containers-of-one-name": (broken(lambda job: pod_spec(job)["containers"].append(
        pod_spec(job)["containers"][0])), "aliases"),
    "namespaces-of-jobs": (another_namespace, "several namespaces: jobrelay, other"),
    "no-spec": (broken(lambda job: job.pop("spec")), "spec"),
    "no-name": (broken(lambda job: job["metadata"].pop("name")), "not a Kubernetes object"),
    "not-a-mapping": (text("job-train.yaml", "- a\n- b\n"), "not a Kubernetes object"),
    "a-text": (text("job-train.yaml", "hello"), "not a Kubernetes object"),
    "labels-a-list": (broken(lambda job: job["metadata"].update(labels=["a"])), "metadata.labels"),
    "a-date": (broken(lambda job: job["metadata"].update(annotations={"since": date(2026, 1, 1)})),
               "since"),
    "a-number-as-key": (broken(lambda job: job["metadata"].update(annotations={1: "x"})), "annotations"),
    "not-a-number": (broken(lambda job: job["spec"].update(backoffLimit=float("nan"))), "backoffLimit"),
    "not-yaml": (text("job-train.yaml", "a: b\nc: d: e\n"), "job-train.yaml, line 2: mapping values are not"),
    "not-utf-8": (text("job-train.yaml", b"a: \xff"), "not UTF-8"),
    "row-58-bomb": (text("job-train.yaml", BOMB), "aliases (*name) are not accepted"),
    "row-58-huge": (text("job-train.yaml", "#" * (1024 * 1024 + 1)), "larger than 1048576 bytes"),
    "row-58-nested": (text("job-train.yaml", "[" * 1024 * 1024), "nested too deeply"),
    "spec-a-text": (broken(lambda job: job.update(spec="x")), 'spec is "x", and should be a mapping'),
    "env-a-mapping": (broken(lambda job: pod_spec(job)["containers"][0].update(env={"A": "1"})),
                      'spec.template.spec.containers.0.env is {"A": "1"}, and should be a list'),
    "key-twice": (text("job-train.yaml", "kind: Job\nkind: Job\n"), "the key 'kind' appears twice"),
    "python-object": (text("job-train.yaml", "!!python/object/apply:os.system [id]"), "job-train.yaml"),
    "config-not-there": (lambda folder: (folder / "config.yaml").unlink(), "config.yaml"),
    "config-not-utf-8": (text("config.yaml", b"\xff"), "config.yaml cannot be read"),
    "config-a-list": (text("config.yaml", "[a]"), "a mapping of keys is expected"),
    "config-bomb": (text("config.yaml", BOMB), "aliases"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "said"), BAD_FOLDERS.values(), ids=BAD_FOLDERS.keys())
def test_a_folder_that_cannot_be_used(edit: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(BASE, folder)
    edit(folder)
    with pytest.raises(BadInput) as error:
        manifests.load(folder)
    assert said in error.value.what
    assert error.value.exit_code == Exit.BAD_INPUT


# --- whatever stands there in place of a Job -----------------------------------------------------

_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.binary(max_size=3)
)
_trees = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=3) | st.sampled_from(["name", "spec", "image"]) | st.integers(),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


EVAL = yaml.safe_load((BASE / "job-eval.yaml").read_text())
PLACES = sorted(paths(EVAL), key=str)


def _use(folder: Path) -> Manifests | None:
    try:
        loaded = manifests.load(folder)
        plan = manifests.render(loaded, RunConfig(), "a", image="other:1", timeout_seconds=5)
    except BadInput:
        return None
    for job in plan.jobs.values():
        manifests.for_server(manifests.without_gate(job), 37)
    manifests.to_yaml(plan.objects())
    json.dumps(plan.objects(), allow_nan=False)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(BASE, tmp_path_factory.mktemp("manifests") / "m"))
    (folder / "kustomization.yaml").write_text("resources: [job-train.yaml, job-eval.yaml, job-infer.yaml]\n")
    return folder


@settings(max_examples=50, deadline=None)
@given(_trees)
def test_any_tree_in_place_of_a_job_is_bad_input(folder: Path, tree: Any) -> None:
    (folder / "job-eval.yaml").write_text(yaml.safe_dump(tree))
    assert _use(folder) is None


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLACES), _trees)
@example(("spec", "template", "metadata"), 5)
@example(("spec", "template", "spec", "containers", 0, "env"), {"a": 1})
@example(("spec", "template", "spec", "initContainers"), "x")
@example(("spec", "template", "spec", "volumes", 1, "configMap"), None)
@example(("metadata", "namespace"), 5)
@example(("spec", "template", "spec", "containers", 0, "command"), True)
@example(("spec", "template", "spec", "containers", 0, "args"), True)
def test_any_tree_in_a_job_is_used_or_bad_input(folder: Path, place: tuple[Any, ...], tree: Any) -> None:
    job = copy.deepcopy(EVAL)
    inner = job
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = tree
    (folder / "job-eval.yaml").write_text(yaml.safe_dump(job))
    _use(folder)


# --- the same as kustomize -----------------------------------------------------------------------


@needs_kubectl
@pytest.mark.parametrize("namespace", ["jobrelay", "team-x"])
def test_a_plain_folder_is_read_as_kubectl_renders_it(namespace: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASE, tmp_path / "m"))
    path = folder / "kustomization.yaml"
    path.write_text(path.read_text().replace("namespace: jobrelay", f"namespace: {namespace}"))
    plain = manifests.load(folder)
    path.write_text(path.read_text() + "namePrefix: ''\n")  # a word that only kubectl understands
    by_kubectl = manifests.load(folder)

    assert plain.namespace == by_kubectl.namespace == namespace
    assert plain.config == by_kubectl.config
    assert sorted(o.names(plain.shared)) == sorted(o.names(by_kubectl.shared))
    one, other = (manifests.render(loaded, RunConfig(), "a") for loaded in (plain, by_kubectl))
    assert one.jobs == other.jobs
    assert one.config_map == other.config_map


def test_empty_keys_mean_nothing(tmp_path: Path) -> None:
    def empty(stage: str, job: Object) -> None:
        job["metadata"]["annotations"] = None
        pod_spec(job)["containers"][0]["resources"] = None
        pod_spec(job)["nodeSelector"] = None

    plan = manifests.render(manifests.load(write_manifests(tmp_path / "m", empty)), RunConfig(), "a")
    assert "nodeSelector" not in pod_spec(plan.jobs["train"])


# --- overlays ------------------------------------------------------------------------------------


@needs_kubectl
def test_the_overlay_for_kind_asks_for_less() -> None:
    loaded = manifests.load(BASE.parent / "overlays/kind")
    plan = manifests.render(loaded, resolve(loaded.config), "a")
    cpus = [pod_spec(job)["containers"][0]["resources"]["requests"]["cpu"] for job in plan.jobs.values()]
    assert cpus == ["500m", "200m", "100m"]
    mounted = {v["configMap"]["name"] for v in pod_spec(plan.jobs["train"])["volumes"] if "configMap" in v}
    assert mounted == {plan.config_map["metadata"]["name"]}
    assert loaded.config == o.base().config
    assert o.names(loaded.shared) != []


@needs_kubectl
def test_the_overlay_for_gpus_asks_for_one_and_another_image() -> None:
    plan = manifests.render(manifests.load(BASE.parent / "overlays/gpu"), RunConfig(), "a")
    for job in plan.jobs.values():
        assert pod_spec(job)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        assert {c["image"] for c in all_containers(job)} == {"jobrelay:0.1.0-gpu"}


@needs_kubectl
def test_an_overlay_that_kubectl_refuses(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [../none]\nnamePrefix: x-\n")
    with pytest.raises(BadInput, match="kubectl kustomize"):
        manifests.load(tmp_path)


def test_an_overlay_without_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="neither kubectl nor kustomize is on the PATH") as error:
        manifests.load(BASE.parent / "overlays/kind")
    assert "k8s/base" in error.value.hint
