"""Whether an error is a library's refusal of an array of ours, and what its user can do.

A note on an error that has nothing to do with us would lead its reader astray, so there is one only
where all of this holds. The error says that NumPy's arrays are wanted. It comes from a call, or was
raised by a function, that was given an array of ours, as far as the names in that call tell. What
is called is neither NumPy's nor ours nor Python's own, all of which take NumPy's arrays and ours
alike. Operators, indexing and attributes never count: what they refuse, they refuse NumPy's too.
"""

from __future__ import annotations

import dis
import functools
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dispatcharr.face.array import is_array

__all__ = ["remedy"]

#: What a message says of what it got, which may be called as NumPy's arrays are.
_GOT = re.compile(
    r"(?:,\s*(?:and |but )?not|\bgot|\breceived|\bgiven|\bfound|\binstead of)\b\W*"
    r"(?:(?:an?|the|type|class|instance|object|of)\b\W*)*(?:\w+\.)*ndarrays?\b",
    re.IGNORECASE,
)
_NUMPYS = r"(?:\bnd-?arrays?\b|\b(?:np|numpy)[. -](?:nd)?-?arrays?\b)"
#: What a message says that wants NumPy's arrays.
_WANTS = re.compile(
    r"\b(?:expect\w*|must|should|ha(?:s|ve) to|requir\w*|want\w*|need\w*|isn't|aren't"
    r"|(?:is|are) not|not pass\w*|not an?|only|takes?|accepts?|supports?)\b"
    r"[^.;()\n]{0,40}?" + _NUMPYS,
    re.IGNORECASE,
)
#: What else may be wrong with an array, whosever it is.
_OTHERWISE = re.compile(
    r"\b(?:shapes?|dim|dims|dimension\w*|ndim|\d\s?-?d|dtypes?|data type|contiguous|order"
    r"|writ[ea]\w*|read-?only|sizes?|length|elements?|nans?|unhashable|ambiguous|serializable|attribute"
    r"|operand\w*|iterable|callable|subscriptable|broadcast|index|align\w*|keyword|positional"
    r"|missing)\b",
    re.IGNORECASE,
)
#: What libraries say that do not name what they want.
_UNNAMED = {
    "pyarrow": "Mask must be a sequence of booleans",
    "torch": "could not retrieve buffer from object",
}
#: Whose functions take ours where they take NumPy's.
_ALIKE = sys.stdlib_module_names | {"builtins", "dispatcharr", "numpy"}
_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}
_LOADS = re.compile(r"LOAD_(?:FAST|NAME|GLOBAL|DEREF|CLASSDEREF|FROM_DICT)")
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD"}
#: How many items of a container are looked at.
_MOST_ITEMS = 16
#: The code of a frame that stands for compiled code is no longer, in bytes.
_NO_CODE = 6


@dataclass(frozen=True)
class _Station:
    """One frame of a traceback, and where it stopped."""

    frame: types.FrameType
    at: int

    @property
    def module(self) -> str:
        return _top(self.frame.f_globals.get("__name__"))

    @property
    def is_compiled(self) -> bool:
        """Return whether the frame only stands for what was compiled, as Cython's do."""
        code = self.frame.f_code
        is_cython = code.co_filename.endswith((".pyx", ".pxi", ".pxd"))
        return is_cython or len(code.co_code) <= _NO_CODE

    def value_of(self, name: str) -> Any:
        """Return what a name stands for."""
        for space in (self.frame.f_locals, self.frame.f_globals, self.frame.f_builtins):
            if name in space:
                return space[name]
        return None


def remedy(error: Exception) -> str | None:
    """Return what to say of an error by which a library refused an array of ours; None of others.

    Examples
    --------
    >>> remedy(ValueError("operands could not be broadcast together")) is None
    True
    """
    text = str(error)
    if not _may_refuse(type(error)) or "numpy.asarray(" in text:
        return None
    stations, compiled = list(_stations(error.__traceback__)), False
    while stations and (stations[-1].is_compiled):
        if stations.pop().module in _ALIKE:
            return None
        compiled = True
    if not stations or stations[-1].module in _ALIKE:
        return None
    found = _refused(stations[-1], text, compiled)
    if found is None:
        return None
    return _note(*_as_called(found, stations))


def _may_refuse(kind: type[Exception]) -> bool:
    if kind.__module__ == "builtins":
        return issubclass(kind, (TypeError, ValueError, AttributeError, RuntimeError))
    return _top(kind.__module__) not in _ALIKE


def _top(module: Any) -> str:
    return module.partition(".")[0] if type(module) is str else ""


def _stations(trace: types.TracebackType | None) -> Iterator[_Station]:
    while trace is not None:
        yield _Station(trace.tb_frame, trace.tb_lasti)
        trace = trace.tb_next


@dataclass(frozen=True)
class _Refusal:
    """What was refused by whom.

    Attributes
    ----------
    function, name : str
        What the code calls the function that refused, and the array; no name for what has none.
    value : object
        The array, or what holds it.
    owner : str
        Whose the function is.
    """

    function: str
    name: str
    value: Any
    owner: str


def _refused(station: _Station, text: str, compiled: bool) -> _Refusal | None:
    """Return what was refused at a station."""
    code = list(dis.get_instructions(station.frame.f_code))
    here = next((i for i in code if i.offset == station.at), None)
    if here is None:
        return None
    if here.opname in _CALLS:
        return _refused_by_call(station, code, here, text)
    if here.opname != "RAISE_VARARGS" or compiled or not _wants(text, station.frame.f_code):
        return None
    function = station.frame.f_code.co_qualname
    for name, value in station.frame.f_locals.items():
        if is_array(value) and not name.startswith("_"):
            return _Refusal(function, name, value, station.module)
    return None


def _wants(text: str, code: types.CodeType | None = None) -> bool:
    """Return whether a message says that NumPy's arrays are wanted.

    Or else that code which asks for the class of NumPy's arrays was given something of that name.
    """
    lines = [line for line in text.splitlines() if not _OTHERWISE.search(line)]
    if any([_WANTS.search(_GOT.sub(" ", line)) for line in lines]):
        return True
    if code is None or not {"isinstance", "ndarray"} <= {*code.co_names}:
        return False
    return any(["ndarray" in line for line in lines])


def _refused_by_call(
    station: _Station, code: list[dis.Instruction], here: dis.Instruction, text: str
) -> _Refusal | None:
    loads = list(_loads(station, code, here))
    if not loads:
        return None
    function, callee = loads[0]
    owners = [_owner(value) for value in callee]
    if any([owner in _ALIKE for owner in owners]):
        return None
    unnamed = _UNNAMED.get(owners[0])
    if not _wants(text) and (unnamed is None or unnamed not in text):
        return None
    for name, values in loads[1:]:
        if any(map(_is_ours, values[-1:])):
            return _Refusal(function, name, values[-1], owners[0])
    # What a call within this one made has no name; who made it has.
    made = any([_is_module(value) for _, values in loads[1:] for value in values])
    return _Refusal(function, "", None, owners[0]) if made else None


def _is_ours(value: Any) -> bool:
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (tuple, list):
        return any(map(is_array, value[:_MOST_ITEMS]))
    return is_array(value)


def _is_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and _top(value.__name__) == "dispatcharr"


def _loads(
    station: _Station, code: list[dis.Instruction], call: dis.Instruction
) -> Iterator[tuple[str, list[Any]]]:
    """Give the names that a call uses, first its function's, and the values along their dots."""
    whole = call.positions
    if whole is None or whole.lineno is None or whole.col_offset is None:
        return
    within = [i for i in code if i.offset < call.offset and _lies_within(i.positions, whole)]
    for place, instruction in enumerate(within):
        if not _LOADS.match(instruction.opname):
            continue
        names = instruction.argval
        for name in names if type(names) is tuple else (names,):
            values, text = [station.value_of(name)], str(name)
            for further in within[place + 1 :]:
                if further.opname not in _ATTRIBUTES:
                    break
                text += f".{further.argval}"
                values.append(_held(values[-1], further.argval))
            yield text, [value for value in values if value is not None]


def _lies_within(part: dis.Positions | None, whole: dis.Positions) -> bool:
    if part is None or part.lineno is None or part.col_offset is None:
        return False
    starts: Any = (whole.lineno, whole.col_offset), (part.lineno, part.col_offset)
    ends: Any = (part.end_lineno, part.end_col_offset), (whole.end_lineno, whole.end_col_offset)
    return bool(starts[0] <= starts[1] and ends[0] <= ends[1])


def _held(value: Any, name: str) -> Any:
    """Return what an object itself holds under a name, without running anything of it."""
    try:
        return object.__getattribute__(value, "__dict__").get(name)
    except (AttributeError, TypeError):
        return None


def _within(value: Any) -> Any:
    """Return the function that one of Python's own kinds is made of."""
    if isinstance(value, functools.partial):
        return value.func
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    is_cached = type(value).__module__ == "functools"
    return _held(value, "__wrapped__") if is_cached else None


def _owner(value: Any) -> str:
    """Return whose a value is: the package of a function, or of an object's class."""
    while (within := _within(value)) is not None:
        value = within
    if isinstance(value, types.ModuleType):
        return _top(value.__name__)
    if isinstance(value, (types.MethodType, types.BuiltinMethodType)):
        held = value.__self__
        if held is not None and not isinstance(held, types.ModuleType):
            return _top((held if isinstance(held, type) else type(held)).__module__)
    if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        return _top(value.__module__)
    return _top(type(value).__module__)


def _as_called(refusal: _Refusal, stations: list[_Station]) -> tuple[str, str]:
    """Return the names of the function and of the array where the library was called."""
    library = stations[-1].module
    if refusal.owner != library or refusal.value is None:
        return refusal.function, refusal.name
    function = refusal.function
    for station in reversed(stations):
        code = station.frame.f_code
        known = *station.frame.f_locals, *code.co_names
        names = [name for name in known if station.value_of(name) is refusal.value]
        if station.module != library:
            return function, names[0] if names else refusal.name
        if not names or code.co_name.startswith("<"):
            break
        function = code.co_qualname
    return function, refusal.name


def _note(function: str, name: str) -> str:
    given = f"`{name}` is a dispatcharr.ndarray" if name else "it was given a dispatcharr.ndarray"
    called = name or "x"
    remedies = [f"{called}.to_numpy()", f"numpy.asarray({called})"]
    redirect = sys.modules.get("dispatcharr.face.redirect")
    if redirect is not None and redirect.is_redirecting():  # numpy means this package
        del remedies[1]
    return (
        f"{function}: {given}, and NumPy's own arrays are wanted; pass {' or '.join(remedies)}, "
        "which shares its memory"
    )
