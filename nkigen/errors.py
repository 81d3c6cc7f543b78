"""Exceptions and warnings. Each knows the user's file, line and expression if any.

All errors derive from `NkigenError`, and from the built-in exception that the same
fault raises in NumPy, so `except ValueError` around a kernel keeps working:

    ShapeError       ValueError            shapes or axes do not fit
    IndexingError    ShapeError, IndexError
    DTypeError       TypeError             dtypes or argument types do not fit
    StructureError   DTypeError, ValueError  an argument is not built as compiled for
    UnsupportedError NotImplementedError   valid NumPy that nkigen cannot do
    OptionError      ValueError            an option has a value that does not exist
    TraceError       -                     a traced value is used as if it were known
    ParseError       -                     IR text with a syntax error
    VerifyError      -                     a program breaks a rule, or stages disagree
    HardwareLimitError -                   the target cannot do it at this size or dtype
    InternalError    -                     a fault of nkigen itself

Example:
    >>> import nkigen
    >>> try:
    ...     nkigen.parse("tensor f {")
    ... except nkigen.ParseError as e:
    ...     print(e.lineno is not None)
    True
"""

from __future__ import annotations

import dis
import functools
import itertools
import linecache
import os
import re
from types import CodeType
from typing import Any

__all__ = [
    "NkigenError",
    "OptionError",
    "TraceError",
    "ShapeError",
    "IndexingError",
    "DTypeError",
    "StructureError",
    "UnsupportedError",
    "VerifyError",
    "ParseError",
    "HardwareLimitError",
    "InternalError",
    "NarrowingWarning",
]


_CODE = re.compile(r"(NKI-\d{4}) ")


class NkigenError(Exception):
    """Base of all errors of nkigen.

    `message` is the text without code and location; `code` is stable over versions and
    listed in docs/errors.md ("NKI-1003"; None for errors made by callers);
    `filename`, `lineno`, `offset`, `end_offset` (columns, from 1), `text` (the source
    line) and `function` are as in SyntaxError, or None when the place is not known.

    message: the text; the code stands in front of it.

    Example:
        >>> e = NkigenError("NKI-1999 no such target")
        >>> e.code, str(e)
        ('NKI-1999', 'no such target [NKI-1999]')
    """

    code: str | None
    filename: str | None = None
    lineno: int | None = None
    offset: int | None = None
    end_offset: int | None = None
    text: str | None = None
    function: str | None = None

    def __init__(self, message: str = "") -> None:
        self.code, self.message = split_code(message)
        super().__init__(message)

    def __str__(self) -> str:
        text = with_code(self.message, self.code)
        where = format_location(self)
        return f"{text}\n{where}" if where else text

    @classmethod
    def at(
        cls, message: str, code: CodeType | None, offset: int, column: int = 0
    ) -> NkigenError:
        """The error at byte `offset` of a code object; without one, at a line of text.

        Example:
            >>> NkigenError.at("bad", None, 3, 7).lineno
            3
        """
        error = cls(message)
        if code is None:
            error.lineno, error.offset = offset or None, column or None
        else:
            locate(error, code, offset)
        return error

    def inside(self, what: str) -> NkigenError:
        """The same error, with the thing that it is about in front of the message.

        Example:
            >>> print(NkigenError("too long").inside("parameter 'x'"))
            parameter 'x': too long
        """
        error = type(self)(f"{what}: {self.message}")
        error.code = self.code
        return error


class OptionError(NkigenError, ValueError):
    """An option has a value that does not exist; the message lists those that do."""


class TraceError(NkigenError):
    """A traced value is used as if it were known, or a kernel returns no array."""


class ShapeError(NkigenError, ValueError):
    """Shapes or axes do not fit."""


class IndexingError(ShapeError, IndexError):
    """An index is out of bounds or of a kind that selects nothing."""


class DTypeError(NkigenError, TypeError):
    """Dtypes or argument types do not fit."""


class StructureError(DTypeError, ValueError):
    """An argument is not what was compiled for: other keys, another length, another
    static value."""


class UnsupportedError(NkigenError, NotImplementedError):
    """Valid NumPy that nkigen cannot compile."""


class VerifyError(NkigenError):
    """A program breaks a rule, reads poison, or disagrees with its source."""


class ParseError(NkigenError):
    """IR text with a syntax error; `lineno` and `offset` say where."""


class HardwareLimitError(NkigenError):
    """The target cannot do this."""


class InternalError(NkigenError):
    """A fault of nkigen; the message says which rule of its own it broke."""


class NarrowingWarning(UserWarning):
    """A 64-bit dtype was narrowed to the 32-bit one that the hardware has."""


def split_code(message: str) -> tuple[str | None, str]:
    """The code in front of a message, None without one, and the text behind it.

    Example:
        >>> split_code("NKI-1999 no such target")
        ('NKI-1999', 'no such target')
    """
    found = _CODE.match(message)
    return (found[1], message[found.end() :]) if found else (None, message)


def with_code(message: str, code: str | None) -> str:
    """A message as it is shown: its code last.

    Example:
        >>> with_code("no such target", "NKI-1999")
        'no such target [NKI-1999]'
    """
    return f"{message} [{code}]" if code else message


def locate(error: Any, code: CodeType, offset: int) -> None:
    """Fill the place of `error` from an offset in bytes; -1 is the def line.

    Example:
        >>> e = NkigenError("x"); locate(e, (lambda: 0).__code__, -1); e.lineno > 0
        True
    """
    error.filename, error.function = code.co_filename, code.co_name
    error.lineno = code.co_firstlineno
    columns = None
    if offset >= 0:
        if hasattr(code, "co_positions"):
            positions = _positions(code)
            if offset // 2 < len(positions):
                line, end_line, col, end_col = positions[offset // 2]
                error.lineno = line or error.lineno
                if col is not None and end_col is not None:
                    columns = (col, end_col if end_line == line else None)
        else:
            for start, line in dis.findlinestarts(code):
                if start > offset:
                    break
                error.lineno = line
    text = linecache.getline(code.co_filename, error.lineno).rstrip("\n")
    error.text = text or None
    if columns is None or not text:
        return
    raw = text.encode()
    begin, end = columns[0], columns[1] if columns[1] is not None else len(raw)
    error.offset = len(raw[:begin].decode(errors="replace")) + 1
    error.end_offset = len(raw[:end].decode(errors="replace")) + 1


def describe_place(where: tuple | None) -> tuple[str, str]:
    """What the user's code says about a place: (variable, line).

    where: (code object, offset in bytes); anything else says nothing. The variable is
    the name that the expression there is assigned to, the line is FILE:LINE: TEXT.

    Example:
        >>> describe_place(None)
        ('', '')
    """
    if not where or where[0] is None or where[1] < 0:
        return "", ""
    code, offset = where
    place = NkigenError()
    locate(place, code, offset)
    if not (place.text and place.text.strip()):
        return _variable(code, offset), ""
    name = os.path.basename(code.co_filename)
    line = f"{name}:{place.lineno}: {place.text.strip()}"
    return _variable(code, offset), line.encode("ascii", "replace").decode()


@functools.lru_cache(256)
def _positions(code: CodeType) -> tuple:
    return tuple(code.co_positions())


@functools.lru_cache(256)
def _stores(code: CodeType) -> dict[int, str]:
    """{offset of an instruction: name that the next one stores its result under}."""
    found = {}
    instructions = [i for i in dis.get_instructions(code) if i.opname != "CACHE"]
    for one, two in itertools.pairwise(instructions):
        if two.opname.startswith("STORE_") and isinstance(two.argval, str):
            if not two.opname.endswith(("ATTR", "SUBSCR")):
                found[one.offset] = two.argval
    return found


def _variable(code: CodeType, offset: int) -> str:
    return _stores(code).get(offset, "")


def format_location(error: Any) -> str:
    """The place as lines of text, in the style of a traceback; "" when unknown.

    Example:
        >>> format_location(NkigenError("x"))
        ''
    """
    if error.lineno is None:
        return ""
    if error.filename is None:
        column = f", column {error.offset}" if error.offset else ""
        out = [f"  line {error.lineno}{column}"]
    else:
        inside = f", in {error.function}" if error.function else ""
        out = [f'  File "{error.filename}", line {error.lineno}{inside}']
    if error.text:
        bare = error.text.lstrip()
        out.append("    " + bare)
        if error.offset is not None:
            begin = max(error.offset - 1 - (len(error.text) - len(bare)), 0)
            width = max((error.end_offset or error.offset + 1) - error.offset, 1)
            out.append(
                "    " + " " * begin + "^" * min(width, max(len(bare) - begin, 1))
            )
    return "\n".join(out)
