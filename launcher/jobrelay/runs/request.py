"""The request for a run, and its plan: a new run, or an existing one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from jobrelay.errors import Conflict
from jobrelay.executors.adoption import Replace
from jobrelay.executors.base import JobReader
from jobrelay.kube.labels import ANNOTATION_HASH, LABEL_RUN
from jobrelay.kube.read import finished_condition, stage_of
from jobrelay.manifests import Manifests, PipelineConfig, Plan, new_run_id, render
from jobrelay.runs import results
from jobrelay.verdicts import Patience
from jobrelay_runner.stages import Stage
from jobrelay_runner.text.counting import listed

#: Whether the next stage starts while this one still works; auto: if there is room for both.
When = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class RunRequest:
    """Everything that a run needs besides its configuration."""

    run: str | None = None
    namespace: str | None = None
    image: str | None = None
    timeout_seconds: int | None = None
    patience: Patience = field(default_factory=Patience)
    stages: Sequence[Stage] = ()  # none: all
    new: bool = False
    replace: Replace = "if-later"  # of complete stages that the run has with other content
    fetch: bool = True
    fetched_later: bool = False  # by the caller, which knows what is there
    folder: Path | None = None  # where results go; None: runs/RUN
    cancel_on_interrupt: bool = False
    early: When = "auto"  # whether a stage starts before its turn, to import its libraries
    ttl_seconds: int | None = None  # of the Jobs, set once everything is fetched
    needs: Sequence[str] = ()  # data/NAME, or files in it, that must be on the volume

    @property
    def last(self) -> Stage | None:
        """The last of the stages; None: of all."""
        return self.stages[-1] if self.stages else None

    def of_stages(self, plan: Plan) -> RunRequest:
        """This request with all stages of the plan, if it names none."""
        return replace(self, stages=self.stages or tuple(plan.jobs))


def plan_run(
    executor: JobReader,
    manifests: Manifests,
    config: PipelineConfig,
    request: RunRequest,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """Choose the run's id and render it: the requested run, the newest with the same work, or a new one.

    A run has the same work only while its data is unchanged. Raises Conflict if the requested run used other
    data. say: gets the reason why a run is new.
    """

    for note in manifests.notes:
        say(note)

    def rendered(run: str) -> Plan:
        return render(
            manifests, config, run,
            namespace=request.namespace, image=request.image, timeout_seconds=request.timeout_seconds,
        )  # fmt: skip

    if request.run:
        if changed := results.changed_data(executor, request.run, config, request.last):
            raise Conflict(
                f"run {request.run} used other data: {listed(changed)} changed since",
                "use another run for the data as it is now (--run NAME); or, if train has not read it, "
                f"delete the Jobs of run {request.run}: it then reads the data again",
            )
        return rendered(request.run)
    plan = rendered(new_run_id())
    if request.new:
        return plan
    if not (known := executor.find_run(plan.hash)):
        if similar := _same_beginning(executor, plan):
            run, stages = similar
            say(f"run {run} has the same {listed(stages)}; to keep that and continue there: --run {run}")
        return plan
    if changed := results.changed_data(executor, known, config, request.last):
        say(f"run {known} used other data ({listed(changed)} changed since); this is a new run")
        return plan
    return rendered(known)


def _same_beginning(executor: JobReader, plan: Plan) -> tuple[str, list[Stage]] | None:
    """The newest run whose first stages are complete and the same as the plan's, and these stages."""
    runs: dict[str, list[Stage]] = {}
    for job, _ in executor.jobs():
        run, stage = job["metadata"]["labels"].get(LABEL_RUN, ""), stage_of(job)
        wanted = plan.jobs.get(stage)
        mine = (job["metadata"].get("annotations") or {}).get(ANNOTATION_HASH)
        complete = (finished_condition(job) or {}).get("type") == "Complete"
        if wanted and complete and mine == wanted["metadata"]["annotations"][ANNOTATION_HASH]:
            runs.setdefault(run, []).append(stage)
    first = next(iter(plan.jobs))
    return next(((run, runs[run]) for run in reversed(runs) if first in runs[run]), None)
