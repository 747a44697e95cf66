"""The shared volume, through a small, short-lived Pod that mounts it and is always removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from jobrelay.errors import BadInput, EvidenceIncomplete, Exit, JobRelayError
from jobrelay.executors.cluster.api import Api, ApiError, Execution, collection
from jobrelay.executors.cluster.volume import answers
from jobrelay.executors.cluster.volume.starting import PATIENCE, PodRuns, PodUpdates, Say, StartReporter
from jobrelay.executors.cluster.volume.tar import with_proofs
from jobrelay.executors.follow import follow
from jobrelay.hints import Command
from jobrelay.kube.objects import Object, Pod
from jobrelay.manifests import Reader
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume import archive
from jobrelay_runner.volume.datasets import DataSet
from jobrelay_runner.volume.verify import Check


class VolumePod:
    """A running Pod on the volume. Use it as a context manager."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        claim: str,
        reader: Reader,
        share: Callable[[Sequence[Object]], None],
        say: Say = lambda text: None,
    ) -> None:
        """share: creates objects that the Pod needs. say: reports what keeps it from starting."""
        self._share = share
        self._say = say
        self._api = api
        self._namespace = namespace
        self._claim = claim
        self._reader = reader
        self._path = ""
        self._python: bool | None = None  # unknown

    def __enter__(self) -> VolumePod:
        pods = collection("v1", "pods", self._namespace)
        if needed := self._reader.shared(self._namespace):
            self._share(needed)
        pod = self._reader.pod(self._namespace, self._claim, self._node_of_volume(pods))
        self._path = f"{pods}/{quote(pod['metadata']['name'])}"
        try:
            try:
                created = self._create(pods, pod)
            except ApiError as error:
                raise BadInput(
                    f"the API server refuses the Pod that reads the volume: {error.message}",
                    Command("doctor"),
                ) from error
            self._wait_until_running(pods, created)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def runs(self) -> list[Object]:
        return answers.runs_in(self._answer(["list"], "the volume cannot be listed"))

    def send(self, folder: str, *, everything: bool) -> Iterator[bytes]:
        if not self._has_python():
            execution = self._api.execute(self._path, self._reader.without_python(folder))
            yield from with_proofs(execution.stdout())
            self._expect_success(execution, f"{folder} cannot be fetched from the volume")
            return
        execution = self._execute(["send", folder, *(["--all"] if everything else [])])
        yield from execution.stdout()
        self._expect_success(execution, f"{folder} cannot be fetched from the volume")

    def receive(self, files: Mapping[str, Path], folder: str, *, replace: bool = False) -> None:
        sent = _Sent(archive.packed_files(files))
        execution = self._execute(["receive", folder, *(["--replace"] if replace else [])], sent.chunks())
        what = f"{folder} could not be put on the volume"
        try:
            code = execution.finish()
        except JobRelayError:
            if sent.failure:  # this failure cut the stream
                raise sent.failure from None
            raise
        if code:
            raise JobRelayError(f"{what}: {answers.words(execution.stderr) or f'exit code {code}'}")
        if not self.exists(folder):
            raise EvidenceIncomplete(f"{what}: {folder} is not there", Command("doctor"))

    def data_sets(self) -> list[DataSet]:
        return answers.data_sets_in(self._answer(["data"], "the data sets on the volume cannot be listed"))

    def exists(self, path: str) -> bool:
        if not self._has_python():
            there = ["sh", "-c", '[ -e "$JOBRELAY_VOLUME/$1" ]', "jobrelay", path]
            return self._finish(self._api.execute(self._path, there)) == 0
        execution = self._execute(["exists", path])
        code = self._finish(execution)
        if code not in (0, 1) or (code and execution.stderr):  # a missing path causes no stderr
            raise self._failed(
                execution, code, f"the launcher cannot find out whether {path} is on the volume"
            )
        return code == 0

    def check(self, run: str) -> list[Check]:
        return answers.checks_in(self._answer(["check", run], f"run {run} cannot be checked"))

    def changed(self, run: str) -> Mapping[Stage, list[str]]:
        return answers.names_in(self._answer(["changed", run], f"the data of run {run} cannot be checked"))

    def remove(self, folder: str) -> None:
        self._expect_success(self._execute(["remove", folder]), f"{folder} could not be removed")

    def _has_python(self) -> bool:
        """Whether the Pod's image has Python; asked once, of images that may have none."""
        if self._python is None:
            look = ["sh", "-c", "command -v python3 || command -v python"]
            self._python = (
                not self._reader.needs_runner or self._finish(self._api.execute(self._path, look)) == 0
            )
        return self._python

    def _answer(self, arguments: list[str], what: str) -> bytes:
        execution = self._execute(arguments)
        answer = answers.bounded(execution.stdout(), f"`{' '.join(arguments)}`")
        self._expect_success(execution, what)
        return answer

    def _execute(self, arguments: list[str], stdin: Iterator[bytes] | None = None) -> Execution:
        return self._api.execute(self._path, [*self._reader.program(), *arguments], stdin)

    def _expect_success(self, execution: Execution, what: str) -> None:
        code = self._finish(execution)
        if code:
            raise self._failed(execution, code, what)

    @staticmethod
    def _finish(execution: Execution) -> int:
        """The exit code. Raises ApiLost, EvidenceIncomplete."""
        try:
            return execution.finish()
        except JobRelayError as error:
            if error.exit_code != Exit.FAILED:
                raise
            raise EvidenceIncomplete(error.what, answers.OTHER_IMAGE) from error

    def _failed(self, execution: Execution, code: int, what: str) -> EvidenceIncomplete:
        reason = answers.words(execution.stderr) or f"exit code {code}"
        return EvidenceIncomplete(f"{what}: {reason}", Command("list", "--recorded"))

    def _create(self, pods: str, pod: Pod) -> Pod:
        try:
            created: Pod = self._api.create(pods, pod)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
            created = self._api.get(self._path)  # ours: its name is random, and only the reply was lost
        return created

    def _node_of_volume(self, pods: str) -> str | None:
        """The node of a Pod that mounts the claim: a ReadWriteOnce volume is available only there."""
        for pod in self._api.get(pods, fieldSelector="status.phase=Running").get("items") or ():
            for volume in pod["spec"].get("volumes") or ():
                if volume.get("persistentVolumeClaim", {}).get("claimName") == self._claim:
                    return str(pod["spec"]["nodeName"])
        return None

    def _wait_until_running(self, pods: str, created: Pod) -> None:
        updates = PodUpdates(self._api, pods, collection("v1", "events", self._namespace), created)
        name = created["metadata"]["name"]
        with updates, StartReporter(self._say, name) as reporter:
            try:
                verdict, _ = follow(updates, updates.submission, PATIENCE, reporter.notice)
            except PodRuns:
                return
        raise EvidenceIncomplete(
            f"Pod {name}, which reads the volume, did not start: {verdict.reason}: {verdict.message}",
            verdict.hint,
        )

    def _remove(self) -> None:
        self._api.delete(self._path, grace_seconds=0)


class _Sent:
    """Chunks sent from another thread, and the error that ended them early, if any."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.failure: OSError | None = None

    def chunks(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except OSError as error:
            self.failure = error
            raise
