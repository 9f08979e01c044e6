"""Read a pickle from a stranger: arrays, strings, numbers, lists, tuples, dicts and sets come out of it, nothing else.

A pickle is a small program. Here a machine of our own runs it, which knows only the instructions that build such
things. ``pickle.Unpickler`` is not used at all: even with its ``find_class`` closed it hashes nested tuples without
end, fills a memo of any size and takes classes from the extension registry. Arrays are views of the pickle's own bytes,
so a small file cannot ask for a large one.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cmcr.errors import ItemError
from cmcr.reading import why

MAX_DEPTH = 100
"""Containers within containers. A container within itself has no end and is refused with the same words."""
MAX_INSTRUCTIONS = 5_000_000
"""One byte can ask for a container of a hundred bytes; an honest array takes some forty instructions."""
MAX_NUMBER_KEYS = 10_000
"""Numbers used as keys or members. Which of them collide in a table is no secret, unlike for text: many can be made to,
and a table of them takes the square of their number."""

_ONLY = "only arrays, strings, numbers, lists and dicts are read"
_LAST_PROTOCOL = 5
_MAX_AXES = 32
_TEXT_KEYS = (str, bytes)
_NUMBER_KEYS = (int, float, bool, type(None))
_LONG_KEY = 256  # bytes of a text; equal texts are compared to their ends each time that one is looked up
_WIDE_KEY = 4096  # bits of a number, which is hashed anew each time
_TYPE_CODE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|[SU][1-9]\d{0,8}|O[48]?")


def load(data: bytes, *, instructions: int | None = None, tensors: bool = False) -> Any:
    """Return what a pickle of any protocol holds, in a time that grows with its length.

    Arrays of numbers and of text are views, most of them read-only. Keys of dicts and members of sets are strings,
    bytes, numbers, booleans or None.

    Args:
        data: The pickle.
        instructions: At most that many are run; None: ``MAX_INSTRUCTIONS``.
        tensors: Whether torch's float32 tensors are read, too, as arrays.

    Raises:
        ItemError: damaged, or it wants anything else: a class, a function, a persistent or external object, an array of
            records, a nesting deeper than ``MAX_DEPTH`` or without end, more than ``instructions``, more than
            ``MAX_NUMBER_KEYS`` numbers as keys.
    """
    try:
        return _Machine(len(data), _CALLS | _TENSORS if tensors else _CALLS).run(
            data, MAX_INSTRUCTIONS if instructions is None else instructions
        )
    except ItemError:
        raise
    except Exception as error:  # a damaged program fails anywhere: an empty stack, a bad number, no end
        raise ItemError(f"damaged pickle: {why(error)}") from error


@dataclass(frozen=True, slots=True)
class _Allowed:
    """A function or class that a pickle may name, a key of ``_CALLS``. It is a mere word here."""

    name: str


_SAME = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}
_SAME |= {"numpy._core.numeric": "numpy.core.numeric"}


class _Dtype:
    """A dtype: its code at first, its byte order when its state comes."""

    def __init__(self, code: object, *_: object) -> None:
        if type(code) is not str or not _TYPE_CODE.fullmatch(code):
            raise ItemError(f"pickled array of type {_shown(code)}; {_ONLY}")
        self.code, self.order = code, "="

    def build(self, state: tuple[Any, ...]) -> None:
        order, extras = state[1], state[2:5]
        if order not in ("<", ">", "|", "=") or any(extra is not None for extra in extras):
            raise ItemError(f"pickled array of records; {_ONLY}")
        self.order = order


class _Blank:
    """An array before its state has come; knows where the memo holds it."""

    def __init__(self) -> None:
        self.places: list[int] = []


@dataclass(frozen=True, slots=True)
class _Storage:
    """The numbers of a tensor as torch writes them: a header, their count, and the numbers last."""

    content: bytes


class _Machine:
    """Runs one pickle.

    Args:
        size: Of the pickle. No more than that is ever copied, however often the pickle refers to the same thing.
        calls: What it may call, by name.
    """

    def __init__(self, size: int, calls: dict[str, Callable[..., Any] | None] | None = None) -> None:
        self._calls = calls or _CALLS
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._left, self._number_keys = size, 0

    def run(self, data: bytes, most: int) -> Any:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
            if count == most:
                raise ItemError(f"pickle of more than {most} instructions; save arrays, not lists")
            if instruction.name in _PUSHES:
                self._stack.append(argument)
            elif instruction.name in _ACTIONS:
                _ACTIONS[instruction.name](self, argument)
            else:
                raise ItemError(f"pickle with the instruction {instruction.name}; {_ONLY}")
        (result,) = self._stack
        _measure(result, 0, {})
        return result

    def check_protocol(self, protocol: int) -> None:
        if protocol > _LAST_PROTOCOL:
            raise ItemError(f"pickle of protocol {protocol}; at most {_LAST_PROTOCOL} is read")

    def push(self, thing: Any) -> None:
        self._stack.append(thing)

    def mark(self, _: None) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def take(self, count: int) -> list[Any]:
        """Pop ``count`` values, the first pushed first."""
        if len(self._stack) < count:
            raise ItemError("damaged pickle: it takes more from its stack than there is")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def extend(self, items: list[Any]) -> None:
        self._top(list).extend(items)

    def update(self, items: list[Any]) -> None:
        self._top(dict).update(self.pairs(items))

    def add(self, items: list[Any]) -> None:
        self._top(set).update(self.keys(items))

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise ItemError(f"damaged pickle: {_shown(self._stack[-1])} where a {kind.__name__} is filled")
        return self._stack[-1]

    def put(self, place: int | None) -> None:
        place, thing = len(self._memo) if place is None else place, self._stack[-1]
        if place > 2 * len(self._memo) + 1000:  # whoever writes pickles counts; places far apart may be made to collide
            raise ItemError(f"damaged pickle: place {ascii(place)[:20]} after {len(self._memo)} others")
        self._memo[place] = thing
        if isinstance(thing, _Blank):
            thing.places.append(place)

    def get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str:
            raise ItemError(f"pickle that wants {_shown(name)} of {_shown(module)}; {_ONLY}")
        if (known := f"{_SAME.get(module, module)}.{name}") not in self._calls:
            raise ItemError(f"pickle that wants {_shown(f'{module}.{name}')}; {_ONLY}")
        self._stack.append(_Allowed(known))

    def reduce(self, _: None) -> None:
        function, arguments = self.take(2)
        call = self._calls[function.name] if isinstance(function, _Allowed) else None
        if call is None or type(arguments) is not tuple:
            raise ItemError(f"pickle that calls {_shown(function)}; {_ONLY}")
        self._stack.append(call(self, *arguments))

    def build(self, _: None) -> None:
        thing, state = self.take(2)
        if not isinstance(thing, _Dtype | _Blank) or type(state) is not tuple or len(state) < 5:
            raise ItemError(f"pickle that sets the state of {_shown(thing)}; {_ONLY}")
        if isinstance(thing, _Dtype):
            thing.build(state)
            self._stack.append(thing)
            return
        _, shape, dtype, fortran, content = state
        array = self.array(content, dtype, shape, "F" if fortran else "C")
        while thing.places:  # each place once, however often the same blank is filled
            self._memo[thing.places.pop()] = array
        self._stack.append(array)

    def blank(self, kind: object, *_: object) -> _Blank:
        if not isinstance(kind, _Allowed) or kind.name != "numpy.ndarray":
            raise ItemError(f"pickled array of class {_shown(kind)}; {_ONLY}")
        return _Blank()

    def array(self, content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        if type(shape) is not tuple or len(shape) > _MAX_AXES or not all(map(_is_length, shape)):
            raise ItemError("pickled array of an impossible shape")
        if type(dtype) is not _Dtype or order not in ("C", "F"):
            raise ItemError("pickled array without a type or an order")
        count = math.prod(shape)
        if dtype.code[0] == "O":
            return self._objects(content, count).reshape(shape, order=order)
        raw, kind = self._raw(content), np.dtype(dtype.order + dtype.code)
        if len(raw) != count * kind.itemsize:
            raise ItemError(f"pickled array of shape {shape} and type {kind} with {len(raw)} bytes")
        array: np.ndarray = np.frombuffer(raw, kind) if count else np.zeros(0, kind)
        return array.reshape(shape, order=order)

    def storage(self, content: Any) -> _Storage:
        if type(content) is not bytes or b"ctorch\nFloatStorage\n" not in content[:1024]:
            raise ItemError(f"pickled tensor of {_shown(content)}; expected one of float32")
        return _Storage(content)

    def tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> np.ndarray:
        if type(storage) is not _Storage or offset != 0 or type(shape) is not tuple or not all(map(_is_length, shape)):
            raise ItemError("pickled tensor of an impossible shape")
        count = math.prod(shape)
        plain = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        if strides != plain or storage.content[-4 * count - 8 :][:8] != count.to_bytes(8, "little"):
            raise ItemError(f"pickled tensor of shape {shape} that is a part of another; save it whole")
        start = len(storage.content) - 4 * count
        return np.frombuffer(storage.content, "<f4", count, start).reshape(shape)

    def _objects(self, items: Any, count: int) -> np.ndarray:
        if type(items) is not list or len(items) != count:
            raise ItemError(f"pickled array of {count} objects without a list of them")
        self._spend(count)
        array = np.empty(count, object)
        for index, item in enumerate(items):  # assigned at once, arrays among them would be taken apart
            array[index] = item
        return array

    def _raw(self, content: Any) -> bytes | bytearray:
        if type(content) is str:  # Python 2 had no bytes
            return self.encode(content, "latin1")
        if not isinstance(content, bytes | bytearray):
            raise ItemError(f"pickled array with {_shown(content)} for its bytes")
        return content

    def scalar(self, dtype: Any, content: Any) -> Any:
        self._spend(len(content))
        return self.array(content, dtype, (), "C")[()]

    def encode(self, text: Any, encoding: Any) -> bytes:
        if type(text) is not str or encoding not in ("latin1", "latin-1"):
            raise ItemError(f"pickle that encodes {_shown(text)} as {_shown(encoding)}; {_ONLY}")
        self._spend(len(text))
        return text.encode("latin1")

    def mutable(self, content: Any = b"", encoding: Any = "latin1") -> bytearray:
        raw = content if type(content) is bytes else self.encode(content, encoding)
        self._spend(len(raw))
        return bytearray(raw)

    def members(self, items: Any) -> set[Any]:
        self._spend(len(items))
        return set(self.keys(items))

    def keys(self, items: Any) -> Any:
        # Only what hashes at once: tuples within tuples take time without bound to hash, and the whole stack.
        for item in items:
            kind = type(item)
            if kind in _TEXT_KEYS:
                if len(item) > _LONG_KEY:
                    self._spend(len(item))
            elif kind in _NUMBER_KEYS:
                self._count_number(item)
            else:
                raise ItemError(f"pickled key that is {_shown(item)}; expected a string, a number or None")
        return items

    def _count_number(self, key: Any) -> None:
        self._number_keys += 1
        if self._number_keys > MAX_NUMBER_KEYS:
            raise ItemError(f"pickle of more than {MAX_NUMBER_KEYS} numbers as keys; save arrays")
        if type(key) is int and key.bit_length() > _WIDE_KEY:
            raise ItemError(f"pickled key that is a number of {key.bit_length()} bits; at most {_WIDE_KEY} are read")

    def pairs(self, items: list[Any]) -> dict[Any, Any]:
        return dict(zip(self.keys(items[::2]), items[1::2], strict=True))

    def _spend(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise ItemError("pickle that copies more than it holds")


def _is_length(axis: object) -> bool:
    return type(axis) is int and 0 <= axis < 1 << 62


def _measure(thing: Any, depth: int, known: dict[int, int]) -> int:
    """Return how many levels of containers ``thing`` has; refuse what is too deep, endless, or not a value."""
    if isinstance(thing, _Allowed | _Dtype | _Blank | _Storage):
        raise ItemError(f"pickle that holds {_shown(thing)}; {_ONLY}")
    if isinstance(thing, dict):
        parts: Any = thing.values()
    elif isinstance(thing, np.ndarray) and thing.dtype.hasobject:
        parts = thing.flat
    elif isinstance(thing, list | tuple):
        parts = thing
    else:
        return 0
    if depth < MAX_DEPTH and id(thing) not in known:  # what is shared is looked at once
        known[id(thing)] = MAX_DEPTH + 1  # as long as its own parts are looked at: one that holds itself has no end
        known[id(thing)] = 1 + max((_measure(part, depth + 1, known) for part in parts), default=0)
    height = known.get(id(thing), 1)
    if depth + height > MAX_DEPTH:
        raise ItemError(f"pickle nested deeper than {MAX_DEPTH} levels, or without end")
    return height


def _shown(thing: object) -> str:
    """Return a short printable name of something foreign, without its content: that may print without end."""
    if isinstance(thing, _Allowed):
        return thing.name.rpartition(".")[2]
    if isinstance(thing, _Dtype | _Blank):
        return "an array without its content"
    return ascii(thing[:80])[1:-1] if isinstance(thing, str) else f"a {type(thing).__name__}"


_CALLS: dict[str, Callable[..., Any] | None] = {
    "numpy.core.multiarray._reconstruct": _Machine.blank,
    "numpy.core.multiarray.scalar": _Machine.scalar,
    "numpy.core.numeric._frombuffer": _Machine.array,
    "numpy.ndarray": None,  # a word for _reconstruct only
    "numpy.dtype": lambda _, code, *more: _Dtype(code),
    "_codecs.encode": _Machine.encode,
    "builtins.set": _Machine.members,
    "builtins.frozenset": lambda machine, items: frozenset(machine.members(items)),
    "builtins.bytes": lambda _: b"",
    "builtins.bytearray": _Machine.mutable,
    "builtins.complex": lambda _, real, imaginary: complex(float(real), float(imaginary)),
}
_TENSORS: dict[str, Callable[..., Any] | None] = {
    "torch.storage._load_from_bytes": _Machine.storage,
    "torch._utils._rebuild_tensor_v2": _Machine.tensor,
    "collections.OrderedDict": lambda _: {},
}
_PUSHES = frozenset(
    """
    INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    """.split()  # noqa: SIM905 - a column of twenty strings says no more
)
_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "PROTO": _Machine.check_protocol,
    **dict.fromkeys(("FRAME", "STOP"), lambda machine, _: None),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "MARK": _Machine.mark,
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "DICT": lambda machine, _: machine.push(machine.pairs(machine.since_mark())),
    "FROZENSET": lambda machine, _: machine.push(frozenset(machine.keys(machine.since_mark()))),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.take(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.take(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.take(3))),
    "APPEND": lambda machine, _: machine.extend(machine.take(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.update(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.take(2)),
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
