"""The training loop: epochs and steps, the same for every strategy."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import torch

from jobs.checkpoint import Position
from jobs.contract.counting import rate
from jobs.errors import BadInput, Terminated
from jobs.learner import Learner
from jobs.moments import passed
from jobs.progress import EpochSums, Progress
from jobs.schedule import learning_rate
from jobs.stopping import StopRequest
from jobs.team import Team


def learn(learner: Learner, progress: Progress, team: Team, stop: StopRequest) -> None:
    """Train from where `progress` is to the last epoch.

    After every epoch the team's leader saves a checkpoint and tells of it in a line of log and of
    history.jsonl. Raises Terminated after a stop, with all that was done saved, and BadInput if the
    training has diverged.
    """
    epochs, samples = learner.config.train.epochs, len(learner.labels)
    with stop.deferred():
        while progress.position.epoch < epochs:
            epoch = progress.position.epoch
            before = progress.sums
            started = time.perf_counter() - before.seconds
            plan = learner.plan(epoch)
            learner.begin_epoch()
            if team.leads:
                known = torch.tensor([before.loss, before.correct], dtype=torch.float64)
                learner.sums += known.to(learner.sums)
            passed("first_batch")
            for step in team.steps(progress.position.step, learner.steps, stop):
                learner.learn(plan, epoch * learner.steps + step, team.part(learner.places(step)))
            done, sums = team.meet(learner.sums)
            loss, correct = sums.tolist()
            seconds = time.perf_counter() - started
            if done < learner.steps:
                progress.position = Position(epoch=epoch, step=done)
                progress.sums = EpochSums(loss=loss, correct=int(correct), seconds=seconds)
                where = f"; saved as checkpoints/{progress.save()}" if team.leads else ""
                raise Terminated(f"stopped by SIGTERM after {progress.position}{where}")
            progress.position, progress.sums = Position(epoch=epoch + 1, step=0), EpochSums()
            progress.history.append(
                {
                    "epoch": epoch + 1,
                    "loss": loss / samples,
                    "accuracy": int(correct) / samples,
                    "seconds": round(seconds, 3),
                    "images_per_second": round(samples / seconds, 1),
                    # of the epoch's last step, which another process may have done
                    "learning_rate": learning_rate(
                        learner.config.train, (epoch + 1) * learner.steps - 1, learner.steps
                    ),
                }
            )
            if team.leads:
                progress.history[-1] |= learner.validated()
                _finish(progress, epochs)
            team.go_on()


def _finish(progress: Progress, epochs: int) -> None:
    """Save and tell of the epoch that is done, unless there is no sense in going on."""
    row = progress.history[-1]
    if not math.isfinite(row["loss"]):
        rate = progress.learner.config.train.learning_rate
        raise BadInput(
            f"training has diverged: the loss of epoch {row['epoch']} is {row['loss']}; use another "
            f"--run with a smaller --set train.learning_rate (it is {rate:g})"
        )
    progress.save()
    progress.write_history()
    print(tell(row, epochs, progress.learner.spec.things), flush=True)


def tell(row: Mapping[str, float], epochs: int, things: str = "images") -> str:
    """One line for one epoch; jobs.contract.outlook reads it."""
    validated = f"val acc {row['val_accuracy']:.4f}  " if "val_accuracy" in row else ""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  acc {row['accuracy']:.4f}  {validated}"
        f"{row['seconds']:.1f} s  {rate(row['images_per_second'], things)}  lr {row['learning_rate']:.4f}"
    )
