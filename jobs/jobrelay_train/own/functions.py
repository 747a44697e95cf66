"""Find a function of the user's own, call it, and report what is wrong with it or in it.

Everything that is wrong is a BadInput, which names the key, the function and its file, and the line of the
user's code that raised an error: another attempt would end in the same way.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import linecache
import operator
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jobrelay_runner.errors import BadInput, StageError, one_line, passing_trouble
from jobrelay_runner.text.redaction import redacted


@dataclass(frozen=True)
class OwnFunction:
    """A function that a key of the configuration names. file: relative to the folder of the code."""

    key: str
    name: str
    function: Callable[..., Any]
    file: str
    root: str

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Call it. Raises BadInput for an error in it."""
        return self.guarded("", self.function, *arguments, **named)

    def guarded(self, doing: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call code that belongs to this function, such as the model that it returned.

        doing: what it does, for the message. Raises BadInput for an error in it.
        """
        try:
            return call(*arguments, **named)
        except StageError:
            raise
        except (Exception, SystemExit) as error:
            if passing := passing_trouble(error, self.file):
                raise passing from error
            where = _where(error, self.root)
            raise self.problem(f"{doing or 'the call'} failed{where}") from error

    def require(self, *arguments: Any, **named: Any) -> None:
        """Check that it can be called with such arguments, without calling it. Raises BadInput."""
        try:
            signature = inspect.signature(self.function)
        except (ValueError, TypeError):  # written in C
            return
        try:
            signature.bind(*arguments, **named)
        except TypeError as error:
            words = [*map(str, arguments), *(f"{name}=…" for name in named)]
            line = getattr(getattr(self.function, "__code__", None), "co_firstlineno", None)
            at = f", line {line}" if line else ""
            raise self.problem(
                f"it is called with ({', '.join(words)}), and takes {signature}{at}: {error}"
            ) from error

    def problem(self, what: str) -> BadInput:
        """Return the error for something that is wrong with this function."""
        return BadInput(f"{self.key}: {self.name} ({self.file}): {what}")


@functools.cache
def find(key: str, name: str) -> OwnFunction:
    """Import the function that `key` names as package.module:function. Raises BadInput."""
    module_name, _, attribute = name.partition(":")
    module, root = _module(key, name, module_name)
    path = getattr(module, "__file__", None) or module_name
    file = _relative(path, root)
    try:
        function = operator.attrgetter(attribute)(module)
    except AttributeError:
        close = difflib.get_close_matches(attribute, _functions_of(module), n=1)
        there = ", ".join(_functions_of(module)[:10]) or "none"
        hint = f"did you mean {module_name}:{close[0]}?" if close else f"its functions are {there}"
        raise BadInput(f"{key}: {name}: {file} has no {attribute}; {hint}") from None
    if not callable(function):
        raise BadInput(f"{key}: {name} ({file}): it is {_kind(function)}, and a function is expected")
    return OwnFunction(key, name, function, file, root)


def _module(key: str, name: str, module_name: str) -> tuple[ModuleType, str]:
    """Import a module; return it with the folder that it was found in. Raises BadInput."""
    try:
        module = importlib.import_module(module_name)
    except StageError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and _is_of(module_name, error.name):
            raise BadInput(
                f"{key}: {name}: there is no module {error.name} in the code, nor among the installed "
                "libraries; --code DIR names the folder with your code (without the launcher: PYTHONPATH)"
            ) from error
        top = sys.modules.get(module_name.partition(".")[0])
        where = _where(error, _root(top) if top else "")
        raise BadInput(f"{key}: {name}: importing {module_name} failed{where}") from error
    return module, _root(sys.modules[module_name.partition(".")[0]])


def _is_of(module_name: str, missing: str | None) -> bool:
    """Whether the missing module is this one, or a package that it is in."""
    return missing is not None and f"{module_name}.".startswith(f"{missing}.")


def _root(top: ModuleType) -> str:
    """Return the folder in which a top-level module or package lies."""
    file = getattr(top, "__file__", None)
    if file is None:  # a namespace package
        return str(Path(next(iter(top.__path__))).parent)
    path = Path(file)
    return str(path.parent.parent if hasattr(top, "__path__") else path.parent)


def _where(error: BaseException, root: str) -> str:
    """Print the traceback of the user's code; return its last line there, and the error."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    inside = [frame for frame in own if root and Path(frame.filename).is_relative_to(root)]
    what = f"{type(error).__name__}: {one_line(error)}"
    if isinstance(error, SyntaxError) and error.filename:
        text = f": {error.text.strip()}" if error.text else ""
        return f" at {_relative(error.filename, root)}, line {error.lineno}{text}: {what}"
    last = (inside or own)[-1] if own else None
    print(
        redacted("".join([*traceback.format_list(own), *traceback.format_exception_only(error)])), flush=True
    )
    if last is None:
        return f": {what}"
    source = last.line or linecache.getline(last.filename, last.lineno or 0).strip()
    return f" at {_relative(last.filename, root)}, line {last.lineno}, in {last.name}: {source}: {what}"


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(__file__).parents[1]) or file.startswith("<frozen importlib")


def _relative(file: str, root: str) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else file


def _functions_of(module: ModuleType) -> list[str]:
    """Return the names of what a module itself defines and can be called."""
    return [
        name
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]


def _kind(value: object) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
