"""What is known of the Jobs of a run, as their runners tell it."""

from __future__ import annotations

import threading
from pathlib import Path

from jobrelay.executors.base import ChangeCounter, Submission
from jobrelay.executors.local import contact, job_folder, layout
from jobrelay.kube.objects import Object
from jobrelay.verdicts import JobView


class LocalUpdates(ChangeCounter):
    """Updates (see executors.base) from the runners' sockets: one connection a Job.

    A Job is known by its UID: one that was made anew under the same name is another.
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
                    return  # the Job that was followed is gone
        except FileNotFoundError:
            self._states[uid] = None
            self.changed()
        except Exception as error:
            self.failed(error)


def _if_of(uid: str, state: Object) -> Object | None:
    """`state`, if it is of the Job with that UID, and not of a later one of its name."""
    return state if state["job"]["metadata"]["uid"] == uid else None
