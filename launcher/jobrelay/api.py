"""JobRelay as a library: a run from a notebook or a program, in a few lines.

    relay = jobrelay.Relay(on=jobrelay.Local())
    run = relay.run("a", set={"train.epochs": 1})
    run.raise_for_verdict()
    print(run["eval"].metrics["test_acc"], run.folder)

Nothing here prints, exits, handles a signal or writes to the current folder. Progress beyond the events of
`Relay.start` goes to the logger "jobrelay". Methods raise JobRelayError; a failed stage is a verdict.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from jobrelay import manifests as kubernetes_manifests
from jobrelay.data import datasets
from jobrelay.data.providing import provide
from jobrelay.errors import BadInput, Exit
from jobrelay.executors.base import Executor, Finding, JobReader
from jobrelay.hints import Command
from jobrelay.manifests import PipelineConfig, Plan
from jobrelay.pipelines.files import read_pipeline
from jobrelay.resources import data_home, manifests_folder
from jobrelay.runs import earlier_logs, results, status
from jobrelay.runs.detached import attached, send_all
from jobrelay.runs.events import Listener, Progress, Started, ignore
from jobrelay.runs.relay import Interrupted, run_stages
from jobrelay.runs.report import RunReport
from jobrelay.runs.request import RunRequest, plan_run
from jobrelay.runs.results import Fetched
from jobrelay.runs.status import StageState
from jobrelay.runs.target import Target
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.paths import check_name
from jobrelay_runner.volume.verify import Check

_LOG: Final = logging.getLogger("jobrelay")


@dataclass(frozen=True)
class Local:
    """Stages run as processes on this machine. volume: replaces the claim; None: in `data_home()`."""

    volume: Path | str | None = None


@dataclass(frozen=True)
class Cluster:
    """Stages run on a cluster. None: the kubeconfig's current context, the manifests' namespace.

    api_timeout: seconds without an answer after which the launcher gives up on the API server.
    """

    context: str | None = None
    namespace: str | None = None
    api_timeout: float | None = None


class Relay:
    """Runs stages in one place.

    manifests: a folder of manifests, a jobrelay.yaml or a compose file; None: the built-in pipeline. image:
    replaces the manifests' image. folder: where results go, one subfolder per run; None: in `data_home()`.
    on: where the stages run; a Target, as the command line makes it, says all but the folder.
    """

    def __init__(
        self,
        manifests: Path | str | None = None,
        *,
        on: Local | Cluster | Target | None = None,
        image: str | None = None,
        folder: Path | str | None = None,
    ) -> None:
        self._folder = Path(folder) if folder else None
        if isinstance(on, Target):
            self._target = on
            return
        where: dict[str, Any] = {}
        if isinstance(on, Local):
            where = {"local": True, "volume": Path(on.volume or data_home() / "volume")}
        elif on is not None:
            where = {"context": on.context, "namespace": on.namespace, "api_timeout": on.api_timeout}
        source = manifests_folder(Path(manifests)) if manifests else kubernetes_manifests.BASE
        if source.is_file():
            where["pipeline"] = read_pipeline(source, _LOG.info, local=isinstance(on, Local))
        else:
            where["kustomization"] = source
        self._target = Target(image=image, say=_LOG.info, **where)

    # --- run ---

    def run(
        self,
        name: str | None = None,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002 (as --set)
        config: Path | str | None = None,
        stages: Sequence[Stage] = (),
        **options: Any,
    ) -> RunReport:
        """Run the stages in order, wait for their verdicts and fetch the results. Returns the report.

        name: of the run; None: the newest run with the same work, else a new one. An existing run resumes.
        set: keys of the configuration, {"train.epochs": 3}. config: a YAML file that replaces the manifests'
        configuration. options: fields of RunRequest: new, fetch, timeout_seconds, patience, early,
        ttl_seconds. Raises BadInput, Conflict, ApiLost; KeyboardInterrupt leaves the Jobs running.
        """
        asked = self._asked(name, set, config, stages, options)
        try:
            return self.carry_out(*asked)
        except Interrupted as interrupt:
            if interrupt.exit_code == Exit.INTERRUPTED:
                raise KeyboardInterrupt(interrupt.what) from interrupt
            raise

    def start(
        self,
        name: str | None = None,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002 (as --set)
        config: Path | str | None = None,
        stages: Sequence[Stage] = (),
        **options: Any,
    ) -> Started:
        """Like `run`, in its own thread; iterate over the result for events. Raises BadInput at once."""
        asked = self._asked(name, set, config, stages, options)
        return Started(lambda emit: self.carry_out(*asked, Listener(emit)))

    def carry_out(
        self,
        config: PipelineConfig,
        request: RunRequest,
        progress: Progress | None = None,
        on_step: Callable[[str, Stage], None] = lambda step, stage: None,
    ) -> RunReport:
        """Carry out a run for the command line, a sweep, a comparison or a program.

        Fills in the namespace, image and folder of the request. Raises what run_stages raises.
        """
        progress = progress or Listener(ignore)
        executor, plan, request = self._planned(config, request, progress)
        if request.folder is None:
            request = replace(request, folder=self._results(executor) / plan.run)
        return run_stages(executor, plan, request, progress, on_step)

    def send(self, config: PipelineConfig, request: RunRequest, progress: Progress | None = None) -> str:
        """Send all Jobs of a run at once, and return its id: the stages themselves keep their order.

        `attach` follows them. Raises BadInput, Conflict.
        """
        progress = progress or Listener(ignore)
        executor, plan, request = self._planned(config, request, progress)
        send_all(executor, plan, request, progress)
        return plan.run

    def attach(
        self, name: str, *, request: RunRequest | None = None, progress: Progress | None = None
    ) -> RunReport:
        """Follow the Jobs of a run to their verdicts, verify and fetch the results. Raises UnknownRun."""
        executor = self._target.executor()
        run, progress = _run_id(name), progress or Listener(ignore)
        follower, plan, wanted = attached(executor, run, request or RunRequest())
        wanted = replace(wanted, folder=self._results(executor) / run)
        return run_stages(follower, plan, wanted, progress)

    def render(
        self,
        name: str | None = None,
        *,
        set: Mapping[str, Any] | None = None,  # noqa: A002 (as --set)
        config: Path | str | None = None,
    ) -> list[Mapping[str, Any]]:
        """Return the manifests of a run for `kubectl apply -f`. Creates nothing."""
        target, settings = self._target, self._config(set, config)
        plan = kubernetes_manifests.render(
            target.manifests_for(settings), settings, _run_id(name or kubernetes_manifests.new_run_id()),
            namespace=target.namespace, image=target.image, timeout_seconds=None,
        )  # fmt: skip
        return plan.objects()

    # --- look, fetch, end ---

    def status(self, name: str | None = None) -> list[StageState]:
        """Return the current state of a run's stages; None: of the newest run. Raises UnknownRun."""
        name = None if name is None else _run_id(name)
        return status.status(self._target.executor(), name)

    def runs(self) -> list[StageState]:
        """Return the stages of all runs, from Jobs and from records on the volume; oldest first."""
        return status.all_stages(self._target.executor())

    def logs(self, name: str | None = None, stage: Stage | None = None, *, tail: int | None = None) -> str:
        """Return the logs of a run's stages; tail: number of last lines of each Pod. Raises BadInput."""
        name, out = None if name is None else _run_id(name), io.BytesIO()
        executor = self._target.executor()
        earlier_logs.print_logs(
            executor, name, stage, follow=False, tail=tail, out=out, fetched=self._results(executor)
        )
        return out.getvalue().decode("utf-8", "replace")

    def fetch(self, name: str, folder: Path | str | None = None, *, everything: bool = False) -> Fetched:
        """Copy a run's results and logs from the volume; everything: checkpoints too.

        Raises UnknownRun, EvidenceIncomplete, and Conflict if the folder holds another run.
        """
        run, executor = _run_id(name), self._target.executor()
        there = Path(folder) if folder else self._results(executor) / run
        return results.fetch(executor, run, there, everything=everything)

    def verify(self, name: str) -> list[Check]:
        """Check that a run is complete on the volume; hashes its files."""
        return results.check(self._target.executor(), _run_id(name))

    def cancel(self, name: str) -> list[str]:
        """Delete the Jobs of a run that have not finished; return their names. Raises UnknownRun."""
        name = _run_id(name)
        executor = self._target.executor()
        if not (names := executor.cancel(name)):
            status.require_known(executor, name)
        return names

    def delete(self, name: str, *, data: bool = False) -> list[str]:
        """Delete the Jobs of a run; data: its files on the volume too. Returns what was deleted.

        Raises UnknownRun, and BadInput if the run has only files and `data` is not set.
        """
        name = _run_id(name)
        executor = self._target.executor()
        files = executor.volume(name) if data else None  # before the Jobs go: they name its image
        deleted = executor.delete(name)
        if files:
            with files as volume:
                if volume.exists(f"runs/{name}"):
                    volume.remove(f"runs/{name}")
                    deleted.append(f"runs/{name} on the volume")
        if not deleted:
            status.require_known(executor, name)
            raise BadInput(
                f"run {name} has no Jobs, only files on the volume", Command("delete", name, "--data")
            )
        return deleted

    def put(self, folder: Path | str, name: str, *, replace: bool = False) -> None:
        """Copy a local folder to the volume as data/NAME, all or nothing. Raises BadInput, Conflict."""
        found = datasets.survey(Path(folder))
        target = self._target
        shared = kubernetes_manifests.shared_in(target.manifests, target.namespace)
        datasets.put(target.executor(), shared, found, _run_id(name), replace=replace)

    def doctor(self) -> list[Finding]:
        """Check everything that a run needs in this place."""
        return self._target.executor().examine(self._target.manifests)

    # --- internals ---

    def _planned(
        self, config: PipelineConfig, request: RunRequest, progress: Progress
    ) -> tuple[Executor, Plan, RunRequest]:
        """Plan a run, and put what it needs on the volume."""
        target = self._target
        executor, request = target.executor(), target.placed(request, config)
        plan = plan_run(executor, target.manifests_for(config), config, request, progress.say)
        provide(executor, plan, target.pipeline.data if target.pipeline else {}, progress.say)
        return executor, plan, request.of_stages(plan)

    def _asked(
        self,
        name: str | None,
        values: Mapping[str, Any] | None,
        config: Path | str | None,
        stages: Sequence[Stage],
        options: Mapping[str, Any],
    ) -> tuple[PipelineConfig, RunRequest]:
        request = RunRequest(run=None if name is None else _run_id(name), stages=tuple(stages), **options)
        return self._config(values, config), request

    def _config(self, values: Mapping[str, Any] | None, config: Path | str | None) -> PipelineConfig:
        overrides = [f"{key}={json.dumps(value)}" for key, value in (values or {}).items()]
        return self._target.config(Path(config) if config else None, overrides)

    def _results(self, executor: JobReader) -> Path:
        """Parent folder of the runs; by default one per place: names of runs are unique only in a place."""
        place = hashlib.sha256(executor.place().encode()).hexdigest()[:12]
        return self._folder or data_home() / "runs" / place


def _run_id(name: str) -> str:
    try:
        return check_name(name, "run id")
    except ValueError as error:
        raise BadInput(str(error)) from error
