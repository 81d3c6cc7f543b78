"""Emitted source as files: NAME_nki.py and the constants that it reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nkigen.errors import InternalError

__all__ = ["export_nki"]

_KERNEL = re.compile(r"^@nki\.jit\ndef (\w+)\(", re.M)
_READS = re.compile(r'with_name\("((?:\w+)_(const\d+)\.npy)"\)')


def export_nki(source: str, constants: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write the source and the arrays it loads; returns the path of the source.

    Arrays of dtypes that .npy does not know are stored as unsigned integers of their
    bytes; the source views them as what they are.

    Example:
        >>> export_nki(k.nki(), k.constants, Path("build"))    # doctest: +SKIP
        PosixPath('build/softmax_nki.py')
    """
    kernel = _KERNEL.search(source)
    if kernel is None:
        raise InternalError("NKI-1522 the emitted source has no kernel")
    folder.mkdir(parents=True, exist_ok=True)
    for file, name in _READS.findall(source):
        array = constants[name]
        if array.dtype.kind not in "fiu" or array.dtype.isbuiltin != 1:
            array = array.view(f"u{array.dtype.itemsize}")
        np.save(folder / file, array)
    path = folder / f"{kernel[1]}_nki.py"
    path.write_text(source, encoding="utf-8")
    return path
