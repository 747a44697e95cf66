"""The subset of the pickle language that torch.save writes: names, numbers, containers and tensors.

A single pass both checks the pickle and builds the object, so that nothing can be hidden from the check. No
name in it is ever imported or called: the meanings of the allowed names are listed here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import IO, Any, Final

import torch
from torch import Tensor

from jobrelay_train.models.serialization.tensors import Source, UntrustedFile

#: Each opcode takes some microseconds and may create an object. After 1000 epochs a checkpoint has 17,000.
_OPERATIONS: Final = 200_000

#: The class of a storage gives the type of its values.
_STORAGES: Final = {
    f"torch {kind}Storage": dtype
    for kind, dtype in {
        "Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16,
        "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8,
        "Byte": torch.uint8, "Bool": torch.bool, "ComplexDouble": torch.complex128,
        "ComplexFloat": torch.complex64,
    }.items()
} | {"torch.storage UntypedStorage": torch.uint8}  # fmt: skip
#: Newer types have no such class; for these, the tensor itself gives the type of its values.
_TYPES: Final = {
    f"torch {name}": getattr(torch, name)
    for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "bool", "uint8", "int8")
}
_KNOWN: Final = {
    **_STORAGES,
    **_TYPES,
    **{
        name: name
        for name in (
            "collections OrderedDict",
            "torch Size",
            "torch._utils _rebuild_tensor_v2",
            "torch._utils _rebuild_tensor_v3",
            "torch._utils _rebuild_parameter",
        )
    },
}
_Key = str | int | float | bool | None
#: key, type and number of the values that a tensor views → the values
Storage = Callable[[str, torch.dtype, Any], Tensor]


def unpickle(file: IO[bytes], source: Source, storage: Storage) -> Any:
    """Return the object in the next pickle of `file`. Raises UntrustedFile, or any error for nonsense."""
    machine = _Machine(source, storage)
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if number == _OPERATIONS:
            raise UntrustedFile(f"its pickle has more than {number:,} operations")
        machine.do(opcode.name, argument)
    return machine.result()


class _Machine:
    """The pickle machine: a stack, its marks, and the memo."""

    def __init__(self, source: Source, storage: Storage) -> None:
        self._source = source
        self._storage = storage
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        (value,) = self._stack
        return value

    def do(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "MARK":
                self._marks.append(len(stack))
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "SETITEM":
                self._set_items(self._pop(2))
            case "SETITEMS":
                self._set_items(self._since_mark())
            case "APPEND":
                self._extend(self._pop(1))
            case "APPENDS":
                self._extend(self._since_mark())
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_named(argument))
            case "BINPERSID":
                stack.append(self._stored(*self._pop(1)))
            case "REDUCE":
                stack.append(self._call(*self._pop(2)))
            case "BUILD":  # the versions of a model's parts, which PyTorch does not need either
                self._pop(1)
                _require(stack[-1], dict)
            case _:
                raise UntrustedFile(f"it names {argument or name}")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) - (self._marks[-1] if self._marks else 0) < count:
            raise UntrustedFile("its pickle is incomplete")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _since_mark(self) -> list[Any]:
        mark = self._marks.pop()
        taken = self._stack[mark:]
        del self._stack[mark:]
        return taken

    def _set_items(self, items: list[Any]) -> None:
        target = _require(self._stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_require(key, _Key)] = value  # never a tuple of tuples, which may take forever to hash

    def _extend(self, items: list[Any]) -> None:
        _require(self._stack[-1], list).extend(items)

    def _stored(self, persistent_id: Any) -> Tensor:
        kind, dtype, key, _location, count, *view = _require(persistent_id, tuple)
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(part is not None for part in view):
            raise UntrustedFile("it refers to something other than the values of tensors")
        return self._storage(_require(key, str), dtype, count)

    def _call(self, function: Any, arguments: Any) -> Any:
        match function:
            case "collections OrderedDict":
                pairs = arguments[0] if arguments else []
                return {_require(key, _Key): value for key, value in pairs}
            case "torch Size":
                return _require(arguments[0], tuple)
            case "torch._utils _rebuild_parameter":
                return _require(arguments[0], Tensor)
            case "torch._utils _rebuild_tensor_v2":
                values, offset, size, stride, _, _, *more = arguments
            case "torch._utils _rebuild_tensor_v3":
                values, offset, size, stride, _, _, dtype, *more = arguments
                values = _require(values, Tensor).view(_require(dtype, torch.dtype))
            case _:
                raise UntrustedFile("its pickle calls something that is not a function")
        if any(more):  # a flag that values are negated, or complex and conjugated
            raise UntrustedFile("it has a tensor that is more than its values")
        return self._source.view(
            _require(values, Tensor), offset, _require(size, tuple), _require(stride, tuple)
        )


def _named(name: str) -> Any:
    try:
        return _KNOWN[name]
    except KeyError:
        raise UntrustedFile(f"it names {name.replace(' ', '.')}") from None


def _require(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise UntrustedFile("its pickle has a value of the wrong kind")
    return value
