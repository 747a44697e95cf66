"""Make `import torchvision` work if its wheel was compiled for a different PyTorch than the installed one.

torchvision's wheel on PyPI is compiled for CUDA. With a CPU-only torch its compiled part does not load,
its operators are never defined, and `import torchvision` fails with `operator torchvision::nms does not
exist` when it describes them. If their schemas are defined first, the import works, and with it everything
in plain Python: data sets, transforms, models. (The operators themselves stay unusable.)

    python -P jobs/jobrelay_train/torchvision_operators.py

does this for every program of the environment: it puts a copy of this file into site-packages, and a
.pth file that imports it whenever Python starts. That costs a tenth of a millisecond: it only installs a
hook, which waits for the import of torchvision. If the compiled part loads, both files are removed.
"""

import sys

TYPE_CHECKING = False  # as in typing, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

#: The operators that torchvision 0.28 describes in _meta_registrations.py, as its C++ part would define them.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_INSTALLED_AS = "_torchvision_operators"

#: Keeps the definitions alive.
_library: "Any" = None


def define_missing_operators() -> None:
    """Define, once, the operators that torchvision's compiled part does not define. Imports torch."""
    global _library
    if _library is not None or _compiled_part_loads():
        return
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            _library.define(schema)


def _compiled_part_loads() -> bool:
    import importlib.machinery

    import torch

    package = importlib.machinery.PathFinder.find_spec("torchvision")  # finds it without importing it
    if package is None:
        raise ModuleNotFoundError("torchvision is not installed", name="torchvision")
    compiled = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    if compiled is None or compiled.origin is None:
        return False
    try:
        torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]
    except (ImportError, OSError):
        return False
    return True


class _Hook:
    """A module finder for torchvision only, which defines the operators before the module runs."""

    @staticmethod
    def find_spec(name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != "torchvision":
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def defined_and_run(module: "Any") -> None:
                define_missing_operators()
                run(module)

            spec.loader.exec_module = defined_and_run  # type: ignore[method-assign]
        return spec


def _install() -> None:
    """Install the hook in this environment, or remove it if it is not needed."""
    import sysconfig
    from pathlib import Path

    folder = Path(sysconfig.get_path("purelib"))
    module, line = folder / f"{_INSTALLED_AS}.py", folder / f"{_INSTALLED_AS}.pth"
    if _compiled_part_loads():
        line.unlink(missing_ok=True)
        module.unlink(missing_ok=True)
        print("torchvision is compiled for the PyTorch that is here")
        return
    module.write_bytes(Path(__file__).read_bytes())
    line.write_text(f"import {_INSTALLED_AS}\n")
    print(f"torchvision is compiled for another PyTorch; {line} makes `import torchvision` work")


if __name__ == "__main__":
    _install()
elif __name__ == _INSTALLED_AS:
    sys.meta_path.insert(0, _Hook)
