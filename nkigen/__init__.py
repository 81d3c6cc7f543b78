"""nkigen compiles NumPy functions to Trainium NeuronCore programs.

Example:
    >>> import numpy as np
    >>> import nkigen
    >>> @nkigen.trace
    ... def double(x):
    ...     return x + x
    >>> x = np.ones((4, 8), np.float32)
    >>> kernel = nkigen.compile(double, x)       # doctest: +SKIP
    >>> kernel(x).sum()                          # doctest: +SKIP
    64.0
"""

from nkigen import ops

try:
    from nkigen._core import Program, TracedArray
except ModuleNotFoundError as e:
    raise ImportError(
        "nkigen is imported from its sources, where the extension is not built: run "
        "from another folder, use the `nkigen` script, or `pip install -e .`"
    ) from e
from nkigen import (  # noqa: F401  they fill ops.COMPOSITIONS
    compose_layout,
    compose_order,
    compose_products,
    compose_reduce,
    compose_values,
)
from nkigen.compile import ArrayInfo, Kernel, clear_cache, compile, parse
from nkigen.display import Cost, Violation
from nkigen.errors import (
    DTypeError,
    HardwareLimitError,
    IndexingError,
    InternalError,
    NarrowingWarning,
    NkigenError,
    OptionError,
    ParseError,
    ShapeError,
    StructureError,
    TraceError,
    UnsupportedError,
    VerifyError,
)
from nkigen.trace import TracedFunction, trace

__version__ = "0.1.0"

__all__ = [
    "ArrayInfo",
    "Cost",
    "DTypeError",
    "HardwareLimitError",
    "IndexingError",
    "InternalError",
    "Kernel",
    "NarrowingWarning",
    "NkigenError",
    "OptionError",
    "ParseError",
    "Program",
    "ShapeError",
    "StructureError",
    "TraceError",
    "TracedArray",
    "TracedFunction",
    "UnsupportedError",
    "VerifyError",
    "Violation",
    "clear_cache",
    "compile",
    "ops",
    "parse",
    "trace",
]
