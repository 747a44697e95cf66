"""The configuration of the built-in programs with functions of the user's own, and the code of these."""

from __future__ import annotations

import difflib
from typing import Self

from pydantic import PrivateAttr

from jobrelay.errors import BadInput
from jobrelay.pipelines.code import Snapshot
from jobrelay_train.config.schema import RunConfig


class BuiltInConfig(RunConfig):
    """A RunConfig whose functions are in a snapshot, which travels with the run."""

    _snapshot: Snapshot = PrivateAttr()

    @classmethod
    def of(cls, config: RunConfig, snapshot: Snapshot) -> Self:
        """The configuration with this code. Raises BadInput for a module that the code lacks."""
        for key, name in config.own_functions.items():
            _require_module(key, name, snapshot)
        known = {field: getattr(config, field) for field in RunConfig.model_fields}
        whole = cls(**{**known, "code": snapshot.digest})
        whole._snapshot = snapshot
        return whole

    def config_files(self) -> dict[str, str | bytes]:
        return {**super().config_files(), **self._snapshot.config_files()}

    def uploads(self) -> dict[str, bytes]:
        return self._snapshot.uploads()


def _require_module(key: str, name: str, snapshot: Snapshot) -> None:
    """Raise BadInput if the code has the package of a function, but not its module.

    A package that the code lacks may be installed in the image.
    """
    module = name.partition(":")[0]
    modules = {
        each.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for each in snapshot.files
        if each.endswith(".py")
    }
    top = module.partition(".")[0]
    packages = {each.rpartition(".")[0] for each in modules}
    if module in modules | packages or not any(each.partition(".")[0] == top for each in modules):
        return
    close = difflib.get_close_matches(module, modules, n=1)
    path = f"{module.replace('.', '/')}.py"
    raise BadInput(
        f"{key}: {name}: the code has no {path}",
        f"did you mean {close[0]}:{name.partition(':')[2]}?" if close else "",
    )
