"""Arrays that a kernel makes while it is traced, and may later write traced elements to.

`numpy.zeros` and its kin give a `Buffer` while a trace runs, in its thread alone: an
ordinary array of constants until the first traced write. From then on the array that
owns the memory has a TracedArray, and whatever uses its elements, through views taken
before or after, sees that. When no trace runs, and in other threads, NumPy is NumPy's.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nkigen import _core
from nkigen.errors import NkigenError

__all__ = ["Buffer", "live", "target", "buffers"]

#: functions of numpy whose results are new arrays
MAKERS = (
    *("zeros", "ones", "empty", "full", "array", "arange", "eye", "identity", "tri"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "linspace", "copy"),
)
#: functions of numpy that hand arrays on; asanyarray is not one of them, because numpy's
#: own functions call it as numpy.asanyarray and go on to what only ndarrays do
CONVERTERS = ("asarray", "ascontiguousarray")

_local = threading.local()
_lock = threading.Lock()
_originals: dict[str, Any] = {}
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

    def __array_finalize__(self, obj: Any) -> None:
        self._session = getattr(obj, "_session", None)

    def __getattribute__(self, name: str) -> Any:
        if name in _ELEMENTS:
            cell = live(self)
            if cell is not None:
                return getattr(cell, name)
        return super().__getattribute__(name)

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

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **kwargs: Any
    ) -> Any:
        operands = _seen(inputs)
        if any(isinstance(x, _core.TracedArray) for x in operands):
            for o in out:
                _enliven(o)
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
            return super().__array_function__(func, types, args, kwargs)
        if func is np.copyto and args:
            _enliven(args[0])
        args, kwargs = _seen((args, kwargs))
        return func(*args, **kwargs)

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
    if array is root:
        return root._cell
    if array.dtype != root.dtype:
        raise NkigenError(
            f"a view of another dtype ({array.dtype} of {root.dtype}) on an array that "
            "was made inside of the kernel and has traced elements; use astype"
        )
    if array.size == 0:
        return root._session.constant(np.zeros(array.shape, array.dtype))
    size = array.itemsize
    offset = _plain(array).ctypes.data - _plain(root).ctypes.data
    strides = tuple(s // size for s in array.strides)
    return root._session.view(root._cell, offset // size, array.shape, strides)


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
        array = array.base
    return root


def _enliven(array: Any) -> None:
    """Make an array of the trace that runs traced; others stay as they are."""
    root = _root(array)
    session = _session()
    if root is not None and root._cell is None and root._session is session is not None:
        root._cell = session.constant(_plain(root))


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
            return _traced_array(*args, **kwargs)
        result = original(*args, **kwargs)
        shared = args and isinstance(args[0], np.ndarray) and name == "array"
        if shared and np.may_share_memory(result, args[0]):
            return result
        return _made(result, session, keep=not name.startswith("empty"))

    return make


def _converter(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def convert(a: Any, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if _session() is None or not (_has_traced(a) or _root(a) is not None):
            return original(a, dtype, *args, **kwargs)
        if isinstance(a, np.ndarray) and (dtype is None or a.dtype == dtype):
            return a
        return _traced_array(a, dtype, copy=None)

    return convert


def _traced_array(value: Any, dtype: Any = None, *, copy: Any = True, **_: Any) -> Any:
    """numpy.array of a traced array or of a list with some in it."""
    value = _seen(value)
    if isinstance(value, (list, tuple)) and _has_traced(value):
        value, copy = np.stack([_traced_array(v, copy=None) for v in value]), None
    if not isinstance(value, _core.TracedArray):
        return value if dtype is None else np.asarray(value, dtype)
    if dtype is not None:
        return value.astype(dtype, copy=bool(copy))
    return value.copy() if copy else value


@contextlib.contextmanager
def buffers(session: Any) -> Iterator[None]:
    """While a session traces: numpy's functions give Buffers in this thread.

    Example:
        >>> with buffers(_core.Session("f")):
        ...     type(np.zeros(3)).__name__
        'Buffer'
    """
    sessions = _local.__dict__.setdefault("sessions", [])
    _enter()
    sessions.append(session)
    try:
        yield
    finally:
        sessions.pop()
        _leave()


def _enter() -> None:
    global _running
    with _lock:
        _running += 1
        if _running > 1:
            return
        for name in (*MAKERS, *CONVERTERS):
            original = _originals[name] = getattr(np, name)
            make = _maker(name, original) if name in MAKERS else _converter(original)
            setattr(np, name, make)


def _leave() -> None:
    global _running
    with _lock:
        _running -= 1
        if _running == 0:
            for name, original in _originals.items():
                setattr(np, name, original)
            _originals.clear()
