"""The state of a run's Jobs, as their runners send it."""

from __future__ import annotations

import threading
from pathlib import Path

from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.local import contact, job_folder, layout
from jobrelay.kube.objects import Object
from jobrelay.verdicts import JobView


class LocalUpdates(ChangeCounter):
    """Updates (see executors.base) from the runners' sockets: one connection per Job.

    The UID identifies a Job: one created later under the same name is a different Job.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._states: dict[str, Object | None] = {}
        self._followed: set[str] = set()

    def view(self, submission: Submission) -> JobView:
        uid = submission.job["metadata"]["uid"]
        if uid not in self._followed:
            self._followed.add(uid)
            folder = layout.job_folder(self._root, submission.name)
            self._states[uid] = _if_of(uid, job_folder.read_state(folder))
            threading.Thread(target=self._follow, args=(folder, uid), daemon=True).start()
        state = self._states[uid]
        return JobView(state["job"], state["pods"]) if state else JobView(None)

    def _follow(self, folder: Path, uid: str) -> None:
        try:
            for state in contact.messages(folder):
                if "log" in state:
                    continue
                self._states[uid] = _if_of(uid, state)
                self.changed()
                if self._states[uid] is None:
                    return  # the followed Job is gone
        except FileNotFoundError:
            self._states[uid] = None
            self.changed()
        except Exception as error:
            self.failed(error)


def _if_of(uid: str, state: Object) -> Object | None:
    """`state` if it is that of the Job with this UID, not of a later one with its name."""
    return state if state["job"]["metadata"]["uid"] == uid else None
