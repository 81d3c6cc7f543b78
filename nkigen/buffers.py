"""Arrays that a kernel makes while it is traced, and may later write traced elements to.

`numpy.zeros` and its kin give a `Buffer` while a trace runs, in its thread alone: an
ordinary array of constants until the first traced write. From then on the array that
owns the memory has a TracedArray, and whatever uses its elements, through views taken
before or after, sees that. The names that the kernel's module imported from numpy give
Buffers, too. When no trace runs, and in other threads, NumPy is NumPy's.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nkigen import _core
from nkigen.errors import NkigenError, ShapeError

__all__ = ["Buffer", "live", "target", "buffers"]

#: functions of numpy whose results are new arrays
MAKERS = (
    *("zeros", "ones", "empty", "full", "array", "arange", "eye", "identity", "tri"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "linspace", "copy"),
    *("roll", "repeat", "tile", "concatenate", "stack", "vstack", "hstack", "outer"),
)
#: functions of numpy that hand arrays on; asanyarray is not one of them, because numpy's
#: own functions call it as numpy.asanyarray and go on to what only ndarrays do
CONVERTERS: dict[str, dict[str, Any]] = {
    "asarray": {},
    "ascontiguousarray": {"order": "C", "ndmin": 1},
    "asfortranarray": {"order": "F", "ndmin": 1},
}

#: methods whose steps NumPy writes in Python: they ask ufuncs for arrays without axes
#: (out=...), which no override of a ufunc is told, so they run on plain arrays
STATISTICS = frozenset(
    ("all", "any", "max", "mean", "min", "prod", "std", "sum", "var")
)

#: functions that write to their first argument
WRITERS = frozenset((np.copyto, np.put_along_axis, np.fill_diagonal))

#: of an object that only a tuple, a loop's variable and the call's argument refer to
OWN_REFERENCES = 3

_local = threading.local()
_lock = threading.Lock()
_originals: dict[str, Any] = {}
#: names of kernels' modules that are replaced: their namespace, the name, what it was
_imported: list[tuple[dict[str, Any], str, Any]] = []
_running = 0

_FACTS = {"shape", "ndim", "dtype", "size", "itemsize", "nbytes", "strides", "base"}
_FACTS |= {"flags", "ctypes"}
#: attributes of an array that ask for its elements
_ELEMENTS = frozenset(
    n for n in dir(_core.TracedArray) if not n.startswith("_") and n not in _FACTS
)


class Buffer(np.ndarray):
    """An array made inside of a kernel; see the module.

    Example:
        >>> type(np.zeros(3)) is np.ndarray  # no trace runs
        True
    """

    _session: Any = None
    _cell: Any = None
    #: of a view that NumPy made through other objects: the Buffer whose memory it sees
    _owner: Any = None
    #: iterators and memoryviews on the memory, which a traced write would not reach
    _outside: tuple[Any, ...] = ()

    def __array_finalize__(self, obj: Any) -> None:
        self._session = getattr(obj, "_session", None)
        root = _root(obj)
        if root is not None and self.base is not None and _shares(self, root):
            self._owner = root

    def __getattribute__(self, name: str) -> Any:
        if name not in _ELEMENTS:
            return super().__getattribute__(name)
        cell = live(self)
        if cell is not None:
            return getattr(cell, name)
        if name in STATISTICS:
            return _statistic(self, getattr(_plain(self), name))
        value = super().__getattribute__(name)
        if name in ("flat", "data"):
            root = _root(self)
            root._outside += (value,)
        return value

    def view(self, *args: Any, **kwargs: Any) -> Any:
        """As numpy.ndarray has it; a view as a plain array knows its owner, too."""
        return _linked(super().view(*args, **kwargs), self)

    def __getitem__(self, key: Any) -> Any:
        cell = live(self)
        return super().__getitem__(key) if cell is None else cell[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        if _has_traced(value):
            _enliven(self)
        cell = live(self)
        if cell is None:
            super().__setitem__(key, value)
        else:
            cell[key] = value

    def fill(self, value: Any) -> None:
        """As numpy.ndarray has it; with a traced value the array becomes traced."""
        if _has_traced(value):
            _enliven(self)
        cell = live(self)
        super().fill(value) if cell is None else cell.fill(value)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any
    ) -> Any:
        operands = _seen(inputs)
        if any(isinstance(x, _core.TracedArray) for x in operands):
            for o in out:
                _enliven(o)
            if method == "at":
                _enliven(inputs[0])
                operands = _seen(inputs)
        targets = _seen(out)
        if any(isinstance(t, _core.TracedArray) for t in (*operands, *targets)):
            session = None
        else:
            session = self._session
        if out:
            kwargs["out"] = targets
        result = getattr(ufunc, method)(*operands, **kwargs)
        if out:
            return out[0] if len(out) == 1 else out
        return _made(result, session)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        if not _has_traced((args, kwargs)):
            result = super().__array_function__(func, types, args, kwargs)
            return _derived(result, _arrays((args, kwargs)))
        out = kwargs.get("out")
        _enliven(args[0] if func in WRITERS and args else out)
        args, kwargs = _seen((args, kwargs))
        result = func(*args, **kwargs)
        return result if out is None else out

    def __iter__(self) -> Iterator[Any]:
        cell = live(self)
        return super().__iter__() if cell is None else iter(cell)

    def __bool__(self) -> bool:
        cell = live(self)
        return super().__bool__() if cell is None else bool(cell)

    def __int__(self) -> int:
        cell = live(self)
        return super().__int__() if cell is None else int(cell)

    def __float__(self) -> float:
        cell = live(self)
        return super().__float__() if cell is None else float(cell)

    def __index__(self) -> int:
        cell = live(self)
        return super().__index__() if cell is None else cell.__index__()

    def __contains__(self, value: Any) -> bool:
        cell = live(self)
        return super().__contains__(value) if cell is None else value in cell

    def __copy__(self) -> Any:
        cell = live(self)
        return super().__copy__() if cell is None else cell.copy()

    def __deepcopy__(self, memo: Any, /) -> Any:
        return self.__copy__()

    def __repr__(self) -> str:
        cell = live(self)
        return repr(_plain(self)) if cell is None else repr(cell)

    def __str__(self) -> str:
        cell = live(self)
        return str(_plain(self)) if cell is None else str(cell)


def live(array: Any) -> _core.TracedArray | None:
    """The TracedArray that an array or the one whose memory it sees has become.

    Example:
        >>> live(np.zeros(3)) is None
        True
    """
    root = _root(array)
    if root is None or root._cell is None:
        return None
    flags = array.flags
    if array is root and flags.writeable and array.shape == root._cell.shape:
        return root._cell
    if array.dtype != root.dtype:
        raise NkigenError(
            f"NKI-1523 a view of another dtype ({array.dtype} of {root.dtype}) on an array that "
            "was made inside of the kernel and has traced elements; use astype"
        )
    if array.size == 0:
        return root._session.constant(np.zeros(array.shape, array.dtype))
    size = array.itemsize
    offset = _plain(array).ctypes.data - _plain(root).ctypes.data
    strides = tuple(s // size for s in array.strides)
    return root._session.view(
        root._cell, offset // size, array.shape, strides, flags.writeable
    )


def target(array: Any) -> _core.TracedArray | None:
    """What a traced write to an array changes; None when it was made elsewhere.

    Example:
        >>> target(np.zeros(3)) is None
        True
    """
    _enliven(array)
    return live(array)


def _root(array: Any) -> Buffer | None:
    """The Buffer of a trace that owns the memory of an array."""
    root = None
    while isinstance(array, np.ndarray):
        if isinstance(array, Buffer):
            root = array
            if root._owner is not None:
                return root._owner
        array = array.base
    return root


def _shares(array: np.ndarray, root: Buffer) -> bool:
    """Whether an array lies in the memory of a Buffer."""
    return np.may_share_memory(_plain(array), _plain(root))


def _linked(value: Any, source: Any) -> Any:
    """An array that sees the memory of `source` as a Buffer that knows whose it is."""
    root = _root(source)
    if root is None or type(value) is not np.ndarray or not _shares(value, root):
        return value
    view = np.ndarray.view(value, Buffer)
    view._session, view._owner = root._session, root
    return view


def _derived(value: Any, operands: Sequence[np.ndarray]) -> Any:
    """What a function of numpy gives for operands, some of them Buffers: views of them
    know whose memory they see, and new arrays are Buffers, too."""
    if type(value) in (list, tuple):
        return type(value)(_derived(v, operands) for v in value)
    if type(value) is not np.ndarray:
        return value
    sources = [a for a in operands if np.may_share_memory(_plain(a), value)]
    for source in sources:
        linked = _linked(value, source)
        if linked is not value:
            return linked
    return value if sources else _made(value, _session())


def _statistic(array: Buffer, method: Callable[..., Any]) -> Callable[..., Any]:
    """One of STATISTICS of an array without traced elements."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _has_traced((args, kwargs)):
            bound = getattr(np.ndarray, method.__name__).__get__(array)
            return bound(*args, **kwargs)
        result = method(*_seen(args), **_seen(kwargs))
        out = kwargs.get("out")
        return _derived(result, [array]) if out is None else out

    return call


def _arrays(value: Any) -> list[np.ndarray]:
    """The arrays in the arguments of a call."""
    if isinstance(value, np.ndarray):
        return [value]
    if type(value) is dict:
        value = list(value.values())
    if type(value) in (list, tuple):
        return [a for v in value for a in _arrays(v)]
    return []


def _enliven(array: Any) -> None:
    """Make an array of the trace that runs traced; others stay as they are."""
    root = _root(array)
    session = _session()
    if root is not None and root._cell is None and root._session is session is not None:
        held = [v for v in root._outside if sys.getrefcount(v) > OWN_REFERENCES]
        if held:
            raise NkigenError(
                f"NKI-1525 a {type(held[0]).__name__} on an array that was made inside of the "
                "kernel would not see a traced write to it; take it after the write, or "
                "use reshape(-1), which is a view"
            )
        root._outside = ()
        root._cell = session.constant(_plain(root))
        _poison(_plain(root))


def _poison(array: np.ndarray) -> None:
    """What sees the memory past us (numpy.asarray under another name, a memoryview) shall
    not pass for what was written."""
    if array.flags.writeable and array.dtype.kind != "b":
        array[...] = np.iinfo(array.dtype).min if array.dtype.kind in "iu" else np.nan


def _plain(value: Any) -> Any:
    return np.ndarray.view(value, np.ndarray) if isinstance(value, Buffer) else value


def _seen(value: Any) -> Any:
    """A value as operations on traced arrays take it, without Buffers in it."""
    if isinstance(value, np.ndarray):
        cell = live(value)
        return _plain(value) if cell is None else cell
    if type(value) in (list, tuple):
        return type(value)(_seen(v) for v in value)
    if type(value) is dict:
        return {k: _seen(v) for k, v in value.items()}
    return value


def _has_traced(value: Any) -> bool:
    if isinstance(value, _core.TracedArray):
        return True
    if isinstance(value, np.ndarray):
        return live(value) is not None
    if type(value) in (list, tuple):
        return any(_has_traced(v) for v in value)
    if type(value) is dict:
        return any(_has_traced(v) for v in value.values())
    return False


def _made(value: Any, session: Any, keep: bool = True) -> Any:
    """A new array as a Buffer of a session that owns its memory; others as they are."""
    if session is None or not isinstance(value, np.ndarray):
        return value
    try:
        _core.dtype_name(value.dtype)
    except NkigenError:
        return value
    order = "F" if value.flags.fnc else "C"
    buffer = np.ndarray.__new__(Buffer, value.shape, value.dtype, order=order)
    np.ndarray.__setitem__(buffer, ..., _plain(value) if keep else 0)
    buffer._session = session
    return buffer


# ---- numpy's functions while a trace runs ----


def _session() -> Any:
    """The trace that runs in this thread; None without one."""
    sessions = getattr(_local, "sessions", None)
    return sessions[-1] if sessions else None


def _maker(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def make(*args: Any, **kwargs: Any) -> Any:
        session = _session()
        if session is None:
            return original(*args, **kwargs)
        is_array = name == "array" and args and "subok" not in kwargs
        if is_array and _has_traced(args[0]):
            return _no_scalar(_traced_array(*args, **kwargs))
        if name == "full" and _has_traced((args[1:], kwargs)):
            return _filled(*args, **kwargs)
        result = _no_scalar(original(*args, **kwargs))
        if name == "array" and args and isinstance(args[0], np.ndarray):
            return _converted(result, args[0], session)
        if isinstance(result, Buffer):
            return result
        return _made(result, session, keep=not name.startswith("empty"))

    return make


def _converter(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    layout = CONVERTERS[name]

    @functools.wraps(original)
    def convert(a: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        session = _session()
        if session is not None and _has_traced(a):
            order = args[0] if args else kwargs.pop("order", None)
            how = {"copy": None, "order": order or "K", **layout, **kwargs}
            return _no_scalar(_traced_array(a, dtype, **how))
        result = original(a, dtype, *args, **kwargs)
        if session is not None and isinstance(a, (np.ndarray, list, tuple)):
            return _converted(result, a, session)
        return result

    return convert


def _no_scalar(value: Any) -> Any:
    """What these functions make of a NumPy scalar is an array without axes."""
    scalar = isinstance(value, _core.TracedArray) and value.ndim == 0
    return value[...] if scalar else value


def _converted(result: Any, source: Any, session: Any) -> Any:
    """An array made of another, or the other, or a view of it."""
    if isinstance(source, np.ndarray):
        if np.may_share_memory(_plain(result), _plain(source)):
            return _linked(result, source)
    return _made(result, session)


def _traced_array(
    value: Any,
    dtype: Any = None,
    *,
    copy: Any = True,
    order: str = "K",
    ndmin: int = 0,
    **_: Any,
) -> Any:
    """numpy.array of a traced array or of a list with some in it."""
    value = _seen(value)
    if isinstance(value, (list, tuple)) and _has_traced(value):
        items = [_traced_array(v, copy=None) for v in value]
        value, copy = np.stack(items), None
    if not isinstance(value, _core.TracedArray):
        return value if dtype is None else np.asarray(value, dtype)
    same = dtype is None or np.dtype(dtype) == value.dtype
    fits = same and _is_laid_out(value, order)
    if copy is False and not fits:
        raise ShapeError(
            "NKI-1524 numpy.array: copy=False, but these elements can only be had in this dtype "
            "and order as a copy"
        )
    if not same:
        value = value.astype(dtype)
    if not _is_laid_out(value, order) or (same and copy):
        value = value.T.copy().T if order == "F" else value.copy(order)
    if ndmin > value.ndim:
        value = value.reshape((1,) * (ndmin - value.ndim) + value.shape)
    return value


def _is_laid_out(value: _core.TracedArray, order: str) -> bool:
    """Whether the elements of an array lie in an order of memory."""
    if order not in ("C", "F"):
        return True
    axes = range(value.ndim) if order == "F" else range(value.ndim)[::-1]
    step = value.itemsize
    for i in axes:
        if value.shape[i] != 1 and value.strides[i] != step and value.size:
            return False
        step *= value.shape[i]
    return True


def _filled(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **_: Any
) -> Any:
    """numpy.full of a traced value."""
    value = _traced_array(fill_value, copy=None)
    result = np.empty(shape, value.dtype if dtype is None else dtype, order)
    result[...] = value
    return result


@contextlib.contextmanager
def buffers(session: Any, fn: Any = None) -> Iterator[None]:
    """While a session traces fn: numpy's functions give Buffers in this thread.

    Example:
        >>> with buffers(_core.Session("f")):
        ...     type(np.zeros(3)).__name__
        'Buffer'
    """
    sessions = _local.__dict__.setdefault("sessions", [])
    sessions.append(session)
    try:
        _enter(_namespace(fn))
        try:
            yield
        finally:
            _leave()
    finally:
        sessions.pop()


def _namespace(fn: Any) -> dict[str, Any]:
    """The names of the module that a kernel was written in; none of numpy's own."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    for f in (inspect.unwrap(fn), getattr(type(fn), "__call__", None)):
        names = getattr(f, "__globals__", None)
        if isinstance(names, dict) and not str(names.get("__name__")).startswith(
            "numpy"
        ):
            return names
    return {}


def _enter(names: dict[str, Any]) -> None:
    """All of numpy's functions are replaced, or an exception comes and none is."""
    global _running
    with _lock:
        try:
            if _running == 0:
                _replace()
            _replace_imported(names)
        except BaseException:
            if _running == 0:
                _restore()
            raise
        _running += 1


def _leave() -> None:
    global _running
    with _lock:
        _running -= 1
        if _running == 0:
            _restore()


def _replace() -> None:
    for name in (*MAKERS, *CONVERTERS):
        original = _originals[name] = getattr(np, name)
        wrap = _maker if name in MAKERS else _converter
        setattr(np, name, wrap(name, original))


def _replace_imported(names: dict[str, Any]) -> None:
    now = {id(original): name for name, original in _originals.items()}
    for name, value in list(names.items()):
        if id(value) in now:
            _imported.append((names, name, value))
            names[name] = getattr(np, now[id(value)])


def _restore() -> None:
    for names, name, value in _imported:
        names[name] = value
    _imported.clear()
    for name, original in _originals.items():
        setattr(np, name, original)
    _originals.clear()
