"""A kernel that was wrong, on disk: a script that anybody can run, and the values beside it.

The values are the program's own data. So they go into a folder of the user's that is closed to
others, nobody sends them anywhere, and there are never more than a few: the oldest go. Of large
arrays only the rows around what was wrong are kept.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy

from dispatcharr._config import cache_folder
from dispatcharr._version import __version__
from dispatcharr.ops.row import Elementwise
from dispatcharr.ops.table import BY_NAME
from dispatcharr.plan.reference import Disagreement
from dispatcharr.plan.region import Instruction, Region

__all__ = ["call_of", "write_call", "write_kernel"]

#: Most bytes of the values of one kernel, and most kernels that are kept.
_MOST_BYTES, _MOST_FILES = 8 << 20, 16
_SCRIPT = '''\
"""{about}

Written by dispatcharr {version} with NumPy {numpy} and Python {python} on {platform}.
It needs the file {data} beside it, which holds values of the program that it was met in.
"""

from pathlib import Path

import dispatcharr
import numpy

data = numpy.load(Path(__file__).with_suffix(".npz"))


def laid_out(np, values, strides):
    """Return the values in memory with these strides, as the kernel read them."""
    if values.size < 2 or not all(strides) or any(s % values.itemsize for s in strides):
        return np.array(values)
    reach = sum(abs(s) // values.itemsize * (n - 1) for s, n in zip(strides, values.shape))
    raw = np.zeros(reach + 1, values.dtype)
    made = np.lib.stride_tricks.as_strided(raw, values.shape, [abs(s) for s in strides])
    made = made[tuple(slice(None, None, -1 if s < 0 else 1) for s in strides)]
    made[...] = values
    return made


def inputs(np):
    return [
{inputs}
    ]


def program(np, {names}):
{body}


with numpy.errstate(all="ignore"):
    wanted = program(numpy, *inputs(numpy))
    with dispatcharr.dispatch_options({options}):
        found = [numpy.array(x) for x in program(dispatcharr, *inputs(dispatcharr))]
for place, (one, other) in enumerate(zip(found, wanted)):
    other = numpy.asarray(other)
    wrong = ~((one == other) | ((one != one) & (other != other)))
    print(f"result {{place}}: {{wrong.sum()}} of {{wrong.size}} elements differ now")
    if wrong.any():
        print("dispatcharr:", one[wrong][:5], "\\nNumPy:      ", other[wrong][:5])
print("when it was met:", data["got"].ravel()[:5], "instead of", data["wanted"].ravel()[:5])
'''


def write_kernel(
    region: Region, inputs: Sequence[numpy.ndarray], found: Disagreement, options: str, about: str
) -> str:
    """Keep a kernel that disagreed with NumPy; return a sentence that says where.

    Parameters
    ----------
    region : Region
        The kernel.
    inputs : sequence of numpy.ndarray
        What it read.
    found : Disagreement
        Where it was wrong.
    options : str
        Arguments of ``dispatch_options`` that have it run the same way.
    about : str
        What happened, in a sentence.
    """
    views = [layout.view(host) for layout, host in zip(region.inputs, inputs, strict=True)]
    lines, generated = [], []
    for instruction in region.program:
        if not isinstance(instruction.row, Elementwise):
            made = numpy.empty(region.shape, instruction.dtypes[0])
            instruction.row.fill(instruction.params, 0, made)
            generated.append(made)
            lines.append(f"x{len(views) + len(generated) - 1}")
        else:
            text = _call(instruction, region)
            if text is None:
                return "No script could be written: it runs a function of the user's."
            lines.append(text)
    names = [f"r{i}" for i in range(len(views))]
    body = [f"    r{len(views) + i} = {text}" for i, text in enumerate(lines)]
    results = [f"r{i}" for i in region.outputs]
    if region.reducing is not None:
        results.append(_reduction(region))
    body.append(f"    return {', '.join(results)},")
    values = [*views, *generated]
    part = _part(region, values, found)
    if part is None:
        return "No script was written: the values that it would need are too large."
    values = [v[part] if v.ndim and v.shape[0] != 1 else v for v in values]
    names += [f"x{i}" for i in range(len(views), len(values))]
    return _write_program(names, body, values, found.got, found.wanted, options, about)


def call_of(
    road: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[str, list[numpy.ndarray]]:
    """Return a call as :func:`write_call` takes it, and the arrays that it is of.

    Parameters
    ----------
    road : str
        NumPy's function, ``"ndarray."`` and a method, or ``"getitem"``.
    args, kwargs
        The arguments.
    """
    values: list[numpy.ndarray] = []
    texts = [_argument(one, values) for one in args]
    if road == "getitem":
        return f"{texts[0]}[{texts[1]}]", values
    named = [f"{name}={_argument(one, values)}" for name, one in kwargs.items()]
    first, _, method = road.partition("ndarray.")
    called = f"np.{first}" if first else f"{texts.pop(0)}.{method}"
    return f"{called}({', '.join((*texts, *named))})", values


def _argument(value: Any, values: list[numpy.ndarray]) -> str:
    if isinstance(value, numpy.ndarray):
        values.append(value)
        return f"r{len(values) - 1}"
    if isinstance(value, (numpy.dtype, type)):
        return repr(numpy.dtype(value).str)
    return repr(value)


def write_call(
    call: str,
    values: Sequence[numpy.ndarray],
    got: numpy.ndarray,
    wanted: numpy.ndarray,
    about: str,
) -> str:
    """Keep a call that disagreed with NumPy; return a sentence that says where.

    Parameters
    ----------
    call : str
        Of a function of ``np`` on ``r0``, ``r1`` and so on.
    values : sequence of numpy.ndarray
        Those.
    got, wanted : numpy.ndarray
        Some of what differs, and NumPy's.
    about : str
        What happened, in a sentence.
    """
    if sum([value.nbytes for value in values]) > _MOST_BYTES:
        return "No script was written: the values that it would need are too large."
    names = [f"r{i}" for i in range(len(values))]
    return _write_program(
        names, [f"    return {call},"], values, got, wanted, "engine='compiled'", about
    )


def _write_program(
    names: Sequence[str],
    body: Sequence[str],
    values: Sequence[numpy.ndarray],
    got: numpy.ndarray,
    wanted: numpy.ndarray,
    options: str,
    about: str,
) -> str:
    given = [f"        laid_out(np, data['x{i}'], {v.strides})," for i, v in enumerate(values)]
    text = _SCRIPT.replace("{inputs}", "\n".join(given)).replace("{body}", "\n".join(body))
    text = text.replace("{names}", ", ".join(names)).replace("{options}", options)
    arrays = {f"x{i}": value for i, value in enumerate(values)}
    return _write(text, about, {**arrays, "got": got, "wanted": wanted})


def _call(instruction: Instruction, region: Region) -> str | None:
    """Return an instruction as a call of NumPy's function; None if it is not NumPy's."""
    row: Any = instruction.row
    operands = [f"r{i}" for i in instruction.operands]
    made = instruction.dtypes[0]
    if BY_NAME.get(row.name) is not instruction.row:
        return None
    if row.ufunc is None and row.result is None:
        return f"{operands[0]}.astype({made.char!r})"
    text = f"np.{row.name}({', '.join(operands)})"
    dtypes = _dtypes(region)
    if row.ufunc is None:
        natural = row.result(*[dtypes[i] for i in instruction.operands])
    else:
        kinds = [dtypes[i] for i in instruction.operands]
        natural = row.ufunc.resolve_dtypes((*kinds, *[None] * row.nout))[row.nin]
    return text if natural == made else f"{text}.astype({made.char!r})"


def _dtypes(region: Region) -> list[numpy.dtype[Any]]:
    return [*[i.dtype for i in region.inputs], *[i.dtypes[0] for i in region.program]]


def _reduction(region: Region) -> str:
    """Return the reduction as a call of NumPy's function."""
    reducing: Any = region.reducing
    source = _dtypes(region)[reducing.register]
    value = f"np.broadcast_to(r{reducing.register}, {region.shape})"
    more = [f"axis={reducing.axes if len(reducing.axes) > 1 else reducing.axes[0]}"]
    if len(reducing.axes) == len(region.shape):
        more = []
    if reducing.mask is not None:
        more.append(f"where=np.broadcast_to(r{reducing.mask}, {region.shape})")
    for name, value_of in reducing.params:
        number = value_of.item() if isinstance(value_of, numpy.generic) else value_of
        more.append(f"{name}={number!r}")
    function = getattr(numpy, reducing.row.name)
    with numpy.errstate(all="ignore"):
        natural = numpy.asarray(function(numpy.ones(2, source))).dtype
    if natural != reducing.dtype:
        more.append(f"dtype={reducing.dtype.char!r}")
    return f"np.{reducing.row.name}({', '.join([value, *more])})"


def _part(region: Region, values: Sequence[numpy.ndarray], found: Disagreement) -> Any:
    """Return which rows of the space to keep, so that the values are not too large."""
    nbytes = sum([value.nbytes for value in values])
    if nbytes <= _MOST_BYTES:
        return slice(None)
    if region.reducing is not None and 0 in region.reducing.axes:
        return None
    rows = region.shape[0] * _MOST_BYTES // nbytes
    start = max(found.index[0] - rows // 2, 0)
    return slice(start, start + rows) if rows else None


def _write(text: str, about: str, arrays: dict[str, numpy.ndarray]) -> str:
    """Write a script and its arrays; return a sentence that says where they are, or why not."""
    name = f"kernel-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    for key, value in {
        "about": about, "version": __version__, "numpy": numpy.__version__,
        "python": sys.version.split()[0], "platform": sys.platform, "data": f"{name}.npz",
    }.items():  # fmt: skip
        text = text.replace(f"{{{key}}}", value)
    text = text.replace("{{", "{").replace("}}", "}")
    try:
        folder = _folder()
        script = os.path.join(folder, f"{name}.py")
        with open(os.path.join(folder, f"{name}.npz"), "xb", opener=_private) as file:
            numpy.savez(file, **{key: numpy.asarray(v) for key, v in arrays.items()})  # type: ignore[arg-type]
        with open(script, "x", encoding="utf-8", opener=_private) as file:
            file.write(text)
        _bound(folder)
    except OSError as error:
        return f"No script could be written: {error}."
    return f"{script} shows it, with the values that lie beside it."


def _folder() -> str:
    """Return a folder that is this user's alone."""
    folder = os.path.join(cache_folder(), "disagreements")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.stat(folder)
        if hasattr(os, "geteuid"):
            if found.st_uid != os.geteuid():
                raise PermissionError("it is another user's")
            os.chmod(folder, 0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written to")
    except OSError:
        return tempfile.mkdtemp(prefix="dispatcharr-")
    return folder


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _bound(folder: str) -> None:
    """Remove the oldest, so that a few are left; what other programs put there stays."""
    names = {name[:-3] for name in os.listdir(folder)
             if name.startswith("kernel-") and name.endswith(".py")}  # fmt: skip
    for name in sorted(names)[:-_MOST_FILES]:
        for end in ("py", "npz"):
            with suppress(OSError):  # another process was quicker
                os.unlink(os.path.join(folder, f"{name}.{end}"))
