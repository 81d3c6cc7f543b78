"""Nested values: what users pass and return, as a tree with arrays at its leaves.

A value is walked through lists, tuples, dicts, dataclasses, named tuples and
SimpleNamespaces. What is no container is a leaf: an array by number, or a static value
that stands in the tree. A tree takes arrays and gives a value of the same structure
(`unflatten`), and takes a value of the same structure apart (`match`).

Example:
    >>> tree, leaves = flatten({"w": [1, "relu"]}, "p", lambda v, path: v == 1)
    >>> leaves
    [Leaf(value=1, path="p['w'][0]")]
    >>> unflatten(tree, ["array"])
    {'w': ['array', 'relu']}
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from nkigen.errors import DTypeError, StructureError

__all__ = [
    "ArrayLeaf",
    "StaticLeaf",
    "Branch",
    "Tree",
    "Leaf",
    "flatten",
    "flatten_arguments",
    "unflatten",
    "match",
    "match_static",
    "has_arrays",
    "same",
    "identifiers",
    "printable",
]

#: containers in containers; deeper ones are taken for a mistake
MAX_DEPTH = 100


class ArrayLeaf(NamedTuple):
    """The place of array number `index`."""

    index: int
    path: str


class StaticLeaf(NamedTuple):
    """A value that is no array: part of the tree."""

    value: Any
    path: str


class Branch(NamedTuple):
    """A container: its class, its keys (indices, dict keys or field names), its items."""

    kind: type
    keys: tuple[Any, ...]
    items: tuple[Any, ...]  # of Tree
    path: str
    extra: Any = None  # a defaultdict's factory


Tree = ArrayLeaf | StaticLeaf | Branch


class Leaf(NamedTuple):
    """An array that was found, and where."""

    value: Any
    path: str


#: whether the leaf `value` at `path` is an array; raises for what may be no leaf
IsArray = Callable[[Any, str], bool]


def flatten(
    value: Any,
    path: str,
    is_array: IsArray,
    is_leaf: Callable[[Any], bool] = lambda value: False,
) -> tuple[Tree, list[Leaf]]:
    """The tree of a value and its arrays, in order.

    is_leaf: containers that are not to be walked.

    Example:
        >>> flatten((), "x", lambda v, path: True)[1]
        []
    """
    walk = _Walk(is_array, is_leaf)
    return walk.tree(value, path), walk.leaves


def flatten_arguments(
    arguments: Mapping[str, Any],
    var_keyword: str | None,
    is_array: IsArray,
    is_leaf: Callable[[Any], bool],
) -> tuple[Branch, list[Leaf]]:
    """The arguments of a call as one tree; paths begin with the parameter's name.

    var_keyword: the name of **kwargs, whose items are called by their own names.

    Example:
        >>> flatten_arguments({"k": {"y": 1}}, "k", lambda v, path: True, callable)[1]
        [Leaf(value=1, path='y')]
    """
    walk, items = _Walk(is_array, is_leaf), []
    for name, value in arguments.items():
        if name == var_keyword:
            inner = tuple(walk.tree(v, printable(k)) for k, v in value.items())
            items.append(Branch(dict, tuple(value), inner, name))
        else:
            items.append(walk.tree(value, name))
    return Branch(dict, tuple(arguments), tuple(items), ""), walk.leaves


def unflatten(tree: Tree, arrays: Sequence[Any]) -> Any:
    """The value that a tree says, with `arrays` at its array leaves.

    Example:
        >>> unflatten(Branch(tuple, (0,), (ArrayLeaf(0, "x[0]"),), "x"), ["A"])
        ('A',)
    """
    if isinstance(tree, ArrayLeaf):
        return arrays[tree.index]
    if isinstance(tree, StaticLeaf):
        return tree.value
    return _build(tree, [unflatten(t, arrays) for t in tree.items])


def match(tree: Tree, value: Any) -> list[Any]:
    """The arrays of a value that has the structure of `tree` and its static values.

    Raises StructureError, which names the place, for other keys, another length, another
    kind of container, and a static value that differs. Dicts may have another order.

    Example:
        >>> tree, _ = flatten({"w": 1.5, "n": 4}, "p", lambda v, path: v == 1.5)
        >>> match(tree, {"n": 4, "w": 2.5})
        [2.5]
    """
    if isinstance(tree, ArrayLeaf):
        if value is None or isinstance(value, (str, bytes, Mapping)):
            raise StructureError(
                f"NKI-1530 {tree.path}: expected an array, got {_kind(value)}"
            )
        return [value]
    if isinstance(tree, StaticLeaf):
        match_static(tree.path, tree.value, value)
        return []
    return _match_branch(tree, value)


def match_static(path: str, compiled: Any, given: Any) -> None:
    """Raise StructureError unless a static value is the one that was compiled for.

    Example:
        >>> match_static("eps", 1e-5, 1e-5)
    """
    if same(compiled, given):
        return
    other = _short(given)
    if other == _short(compiled):
        other = "another like it"
    raise StructureError(
        f"NKI-1526 {path} is static: compiled for {_short(compiled)}, got {other}; "
        "compile again for another value"
    )


def has_arrays(tree: Tree) -> bool:
    """Whether there is an array leaf in the tree.

    Example:
        >>> has_arrays(StaticLeaf(1, "x"))
        False
    """
    if isinstance(tree, Branch):
        return any(map(has_arrays, tree.items))
    return isinstance(tree, ArrayLeaf)


def same(a: Any, b: Any) -> bool:
    """Whether two static values cannot be told apart: their classes are equal, and they.

    0.0 and -0.0 differ, nan is nan, 1, 1.0 and True differ, also inside of containers.

    Example:
        >>> same(1, 1.0), same(0.0, -0.0), same(float("nan"), float("nan"))
        (False, False, True)
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return _same_arrays(a, b)
    if isinstance(a, float):
        return _same_floats(a, b)
    if isinstance(a, complex):
        return _same_floats(a.real, b.real) and _same_floats(a.imag, b.imag)
    if isinstance(a, slice):
        return same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    parts = _parts(a)
    if parts is None:
        return bool(a == b)
    others = _parts(b) or {}
    return parts.keys() == others.keys() and all(
        same(v, others[k]) for k, v in parts.items()
    )


def identifiers(paths: Sequence[str]) -> list[str]:
    """A distinct ASCII identifier for each path.

    Example:
        >>> identifiers(["params['w'][3]", "params.w[3]", "x"])
        ['params_w_3', 'params_w_3_2', 'x']
    """
    taken: set[str] = set()
    return [_identifier(p, taken) for p in paths]


def printable(text: str) -> str:
    """Text that UTF-8 can hold: surrogates are escaped.

    Example:
        >>> printable("\\udcff")
        '\\\\udcff'
    """
    return text.encode("utf-8", "backslashreplace").decode()


# ---- walking


class _Walk:
    """One flatten(): the leaves so far and the containers that are open."""

    def __init__(self, is_array: IsArray, is_leaf: Callable[[Any], bool]) -> None:
        self.is_array, self.is_leaf = is_array, is_leaf
        self.leaves: list[Leaf] = []
        self.open: set[int] = set()

    def tree(self, value: Any, path: str) -> Tree:
        parts = None if self.is_leaf(value) else _parts(value)
        if parts is not None:
            return self.branch(value, parts, path)
        if self.is_array(value, path):
            self.leaves.append(Leaf(value, path))
            return ArrayLeaf(len(self.leaves) - 1, path)
        return StaticLeaf(value, path)

    def branch(self, value: Any, parts: dict[Any, Any], path: str) -> Branch:
        if id(value) in self.open:
            raise DTypeError(f"NKI-1531 {path}: {_kind(value)} that contains itself")
        if len(self.open) >= MAX_DEPTH:
            raise DTypeError(
                f"NKI-1532 {path[:200]}: nested more than {MAX_DEPTH} deep"
            )
        self.open.add(id(value))
        items = tuple(
            self.tree(v, path + _step(value, key)) for key, v in parts.items()
        )
        self.open.discard(id(value))
        extra = value.default_factory if isinstance(value, defaultdict) else None
        return Branch(type(value), tuple(parts), items, path, extra)


def _parts(value: Any) -> dict[Any, Any] | None:
    """The items of a container by key; None for what is no container."""
    if isinstance(value, Enum):
        return None
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, Mapping):
        return {k: value[k] for k in value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (f.name for f in dataclasses.fields(value))
        known = {f: getattr(value, f) for f in names if hasattr(value, f)}
        return known | getattr(value, "__dict__", {})
    if isinstance(value, SimpleNamespace):
        return dict(vars(value))
    return None


def _step(container: Any, key: Any) -> str:
    """How the item of a container is written after the container."""
    if isinstance(container, tuple) and hasattr(container, "_fields"):
        return f".{container._fields[key]}"
    if isinstance(container, (list, tuple, Mapping)):
        return f"[{key!r}]"
    return f".{key}"


def _build(branch: Branch, items: list[Any]) -> Any:
    """A container like the one that `branch` was made of; no constructor of a user's
    class is run, except that of a list, dict or mapping."""
    kind = branch.kind
    if issubclass(kind, tuple):
        return tuple.__new__(kind, items)
    if issubclass(kind, list):
        return kind(items)
    named = dict(zip(branch.keys, items, strict=True))
    if issubclass(kind, defaultdict):
        return kind(branch.extra, named)
    if issubclass(kind, Mapping):
        return kind(named)  # type: ignore[call-arg]
    new = object.__new__(kind) if kind is not SimpleNamespace else SimpleNamespace()
    for key, item in named.items():
        object.__setattr__(new, key, item)
    return new


# ---- matching


def _match_branch(tree: Branch, value: Any) -> list[Any]:
    parts = _parts(value)
    if parts is None or not _alike(tree.kind, type(value)):
        raise StructureError(
            f"NKI-1527 {tree.path}: expected {_article(tree.kind)}, got {_kind(value)}"
        )
    _match_keys(tree, parts)
    out = []
    for key, item in zip(tree.keys, tree.items, strict=True):
        if key in parts:
            out += match(item, parts[key])
    return out


def _match_keys(tree: Branch, parts: dict[Any, Any]) -> None:
    """The keys that must be there are, and no others. What a dataclass keeps beside its
    fields (a cached property) may come and go, if it is no array."""
    if issubclass(tree.kind, (list, tuple)) and len(parts) != len(tree.keys):
        raise StructureError(
            f"NKI-1528 {tree.path}: compiled for {len(tree.keys)} items, got {len(parts)}"
        )
    known, must, may = set(tree.keys), set(tree.keys), set(parts)
    if dataclasses.is_dataclass(tree.kind):
        fields = {f.name for f in dataclasses.fields(tree.kind)}
        items = dict(zip(tree.keys, tree.items, strict=True))
        must = {k for k in known if k in fields or has_arrays(items[k])}
        may &= fields | known
    missing = [repr(k) for k in tree.keys if k in must and k not in parts]
    other = [repr(k) for k in parts if k in may and k not in known]
    problems = [f"{', '.join(missing[:5])} is missing"] if missing else []
    problems += [f"{', '.join(other[:5])} was not there when compiled"] if other else []
    if problems:
        raise StructureError(f"NKI-1529 {tree.path}: {'; '.join(problems)}")


def _alike(kind: type, other: type) -> bool:
    """Lists and tuples are told apart, kinds of dicts are not."""
    if issubclass(kind, Mapping):
        return issubclass(other, Mapping)
    return kind is other


def _short(value: Any) -> str:
    """A static value in a message: with its class where the text does not tell it."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, int) and value.bit_length() > 1024:  # may have no decimal text
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(value: Any) -> str:
    return "None" if value is None else _article(type(value))


def _article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'aeiouAEIOU' else 'a'} {kind.__name__}"


def _same_floats(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b and math.copysign(1.0, a) == math.copysign(1.0, b)


def _same_arrays(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return a.tobytes() == b.tobytes()


# ---- names


def _identifier(path: str, taken: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]", "_", path)
    if plain != path:  # more than a name
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", path.replace("'", "")).strip("_")
    plain = plain[:48] or "x"
    plain = f"_{plain}" if plain[0].isdigit() else plain
    name, n = plain, 1
    while name in taken:
        n += 1
        name = f"{plain}_{n}"
    taken.add(name)
    return name
