"""`import torchvision` where its wheel was compiled for another PyTorch than the one that is here.

torchvision's wheel on PyPI is compiled for CUDA. Beside a CPU-only torch its compiled part does not load,
its operators are never defined, and `import torchvision` ends in `operator torchvision::nms does not
exist` when it describes them. With their schemas defined first the import works, and with it all that
is plain Python: data sets, transforms, models. (The operators themselves stay unusable.)

    python -P jobs/jobrelay_train/torchvision_operators.py

makes that so for every program of the environment: it puts a copy of this file into site-packages, and a
.pth file that imports it whenever Python starts. That costs a tenth of a millisecond: nothing but a
hook, which waits for the import of torchvision. Where the compiled part loads, both files are removed.
"""

import sys

TYPE_CHECKING = False  # as in typing, which takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

#: What torchvision 0.28 describes in _meta_registrations.py, as its C++ part would define it.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_INSTALLED_AS = "_torchvision_operators"

#: The definitions live as long as this does.
_library: "Any" = None


def define_missing_operators() -> None:
    """Define the operators that the compiled part of torchvision does not. Once; it imports torch."""
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
    """A finder of modules that finds torchvision alone, and has its operators defined before it is run."""

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
    """Put the hook into this environment, or take it away where it is not needed."""
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
