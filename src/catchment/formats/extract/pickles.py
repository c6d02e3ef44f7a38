"""Pickles taken apart without being run: a machine that executes a stream's opcodes on inert values.

A global becomes a `Global`, a call a `Call` that is never made; nothing is imported, no name is
looked up anywhere.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from catchment.errors import ExtractionFailed
from catchment.formats.extract.result import shown

MAX_OPCODES = 5_000_000


@dataclass(frozen=True)
class Global:
    """A name that unpickling would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Call:
    """What unpickling would make by calling `function`, with the state and entries that it would get."""

    function: Any
    arguments: Any
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Persistent:
    """What the stream refers to outside of itself: a storage, in PyTorch's files."""

    id: Any


@dataclass
class Machine:
    """Reads one pickle from a file, at its position, and leaves the file behind its end.

    Attributes:
        check: called with each global that the stream names; raises to refuse it.
        built: called with each object that is given a state; it may move the file on, over raw data.
    """

    file: BinaryIO
    check: Callable[[Global], object]
    built: Callable[[Call], object] = lambda _: None
    _stack: list[Any] = field(default_factory=list)
    _marks: list[int] = field(default_factory=list)
    _memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> Any:
        """The stream's value, made of plain values, Global, Call and Persistent.

        Raises:
            ExtractionFailed: it is no pickle, a damaged one, or one that does what no model file needs.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in texts, which a damaged stream may hold
                self._execute()
            return self._stack.pop()
        except (ValueError, LookupError, TypeError, EOFError, OverflowError) as error:
            raise ExtractionFailed(f"the pickle inside is damaged ({error})"[:300]) from None

    def _execute(self) -> None:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            if number > MAX_OPCODES:
                raise ExtractionFailed(f"the pickle has more than {MAX_OPCODES} instructions")
            if opcode.name != "STOP":
                self._step(opcode.name, argument)

    def _step(self, name: str, argument: Any) -> None:
        if name in _IGNORED:
            return
        act = _ACTIONS.get(name)
        if act is not None:
            act(self)
        elif name in _MEMO_PUT:
            self._memo[int(argument)] = self._stack[-1]
        elif name in _MEMO_GET:
            self._stack.append(self._memo[int(argument)])
        elif name in ("GLOBAL", "INST"):
            self._global(*argument.split(" ", 1))
            if name == "INST":
                self._stack.append(Call(self._stack.pop(), tuple(self._marked())))
        elif name == "PERSID":
            self._stack.append(Persistent(argument))
        elif name in _REFUSED:
            raise ExtractionFailed(f"the pickle inside uses {name}, which no model file needs")
        else:  # all that is left push the value that they carry
            self._stack.append(argument)

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ExtractionFailed("the pickle inside imports something that has no name")
        found = Global(module, name)
        self.check(found)
        self._stack.append(found)

    def _marked(self) -> list[Any]:
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _stack_global(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._global(module, name)

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._stack.append(Call(function, arguments))

    def _call_with_names(self) -> None:
        names, arguments, function = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._stack.append(Call(function, (arguments, names)))

    def _object(self) -> None:
        function, *arguments = self._marked()
        self._stack.append(Call(function, tuple(arguments)))

    def _build(self) -> None:
        state, thing = self._stack.pop(), self._stack[-1]
        if isinstance(thing, Call):
            thing.state = state
            self.built(thing)

    def _append(self, values: list[Any]) -> None:
        # To an inert object it does what no reader needs to know.
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _set_items(self, values: list[Any]) -> None:
        top = self._stack[-1]
        target = top.entries if isinstance(top, Call) else top
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=True):
                target[key if isinstance(key, (str, int, bytes)) else f"<{id(key)}>"] = value

    def _duplicate(self) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, size: int) -> None:
        values = tuple(self._stack[-size:])
        if len(values) < size:
            raise ValueError("a tuple of more values than there are")
        del self._stack[-size:]
        self._stack.append(values)

    def _pop(self) -> None:
        # As the real machine: what lies above is a mark.
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()


_IGNORED = frozenset({"PROTO", "FRAME"})
_MEMO_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_MEMO_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_REFUSED = frozenset({"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"})


def _push(make: Callable[[], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine._stack.append(make())


def _from_marked(make: Callable[[list[Any]], Any]) -> Callable[[Machine], None]:
    return lambda machine: machine._stack.append(make(machine._marked()))


def _plain_dict(values: list[Any]) -> dict[Any, Any]:
    pairs = zip(values[::2], values[1::2], strict=True)
    return {key: value for key, value in pairs if isinstance(key, (str, int, bytes))}


_ACTIONS: dict[str, Callable[[Machine], None]] = {
    "MARK": lambda machine: machine._marks.append(len(machine._stack)),
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_LIST": _push(list),
    "EMPTY_TUPLE": _push(tuple),
    "EMPTY_DICT": _push(dict),
    "EMPTY_SET": _push(list),
    "LIST": _from_marked(list),
    "TUPLE": _from_marked(tuple),
    "FROZENSET": _from_marked(tuple),
    "DICT": _from_marked(_plain_dict),
    "TUPLE1": lambda machine: machine._tuple(1),
    "TUPLE2": lambda machine: machine._tuple(2),
    "TUPLE3": lambda machine: machine._tuple(3),
    "APPEND": lambda machine: machine._append([machine._stack.pop()]),
    "APPENDS": lambda machine: machine._append(machine._marked()),
    "ADDITEMS": lambda machine: machine._append(machine._marked()),
    "SETITEM": lambda machine: machine._set_items([machine._stack.pop(), machine._stack.pop()][::-1]),
    "SETITEMS": lambda machine: machine._set_items(machine._marked()),
    "MEMOIZE": lambda machine: machine._memo.__setitem__(len(machine._memo), machine._stack[-1]),
    "DUP": Machine._duplicate,
    "POP": Machine._pop,
    "POP_MARK": lambda machine: machine._marked().clear(),
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._call,
    "NEWOBJ": Machine._call,
    "NEWOBJ_EX": Machine._call_with_names,
    "OBJ": Machine._object,
    "BUILD": Machine._build,
    "BINPERSID": lambda machine: machine._stack.append(Persistent(machine._stack.pop())),
}


def refusal(found: Global, hint: str) -> ExtractionFailed:
    """The error for a global that a file has no business with."""
    return ExtractionFailed(
        f"loading the file would run {shown(str(found))}, which is never done here; {hint}"
    )
