"""What users look at: the cost of a kernel, violated rules, and the Jupyter views."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from nkigen.errors import NkigenError, format_location, split_code, with_code

__all__ = ["Cost", "Violation", "program_html", "kernel_html"]


#: a Jupyter view shows so many ops of a program
HTML_OPS = 2000


@dataclass(frozen=True)
class Cost:
    """Modelled cost of a program; counts and bytes are exact, times are modelled.

    instructions        {isa name: times executed}; DMAs included, allocation and loop
                        control are not instructions
    hbm_read_bytes, hbm_write_bytes, hbm_min_bytes (inputs and outputs once; of what is
        sliced or updated in place only what the function reaches)
    flops               of the tensor engine
    time_us             end of the last instruction, microseconds
    engine_us           {engine: busy microseconds}
    roofline_us         largest of hbm_min_bytes at DMA bandwidth, tensor work at peak,
                        and the passes over data that nothing else can carry
    sbuf_peak_bytes     per partition
    psum_peak_banks

    Example:
        >>> Cost({"dma_copy": 2}, 2, 1024, 1024, 2048, 0, 10.0, {"dma": 4.0}, 5.0)
        Cost: 2 instructions, 10.0 us (roofline 5.0 us), HBM 2.0 KiB (1.00x of minimum)
    """

    instructions: dict[str, int]
    instruction_count: int
    hbm_read_bytes: int
    hbm_write_bytes: int
    hbm_min_bytes: int
    flops: int = 0
    time_us: float = 0.0
    engine_us: dict[str, float] = field(default_factory=dict)
    roofline_us: float = 0.0
    sbuf_peak_bytes: int = 0
    psum_peak_banks: int = 0

    @property
    def hbm_bytes(self) -> int:
        """Bytes read and written."""
        return self.hbm_read_bytes + self.hbm_write_bytes

    @property
    def hbm_ratio(self) -> float:
        """HBM bytes over the minimum; nan when there is nothing to move."""
        return (
            self.hbm_bytes / self.hbm_min_bytes if self.hbm_min_bytes else float("nan")
        )

    def __repr__(self) -> str:
        ratio = f" ({self.hbm_ratio:.2f}x of minimum)" if self.hbm_min_bytes else ""
        return (
            f"Cost: {self.instruction_count} instructions, {self.time_us:.1f} us "
            f"(roofline {self.roofline_us:.1f} us), HBM {_bytes(self.hbm_bytes)}{ratio}"
        )

    def __str__(self) -> str:
        lines = [repr(self)]
        lines += [f"  {name:24} {text}" for name, text in self._rows()]
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            ("HBM read", _bytes(self.hbm_read_bytes)),
            ("HBM written", _bytes(self.hbm_write_bytes)),
            ("HBM minimum", _bytes(self.hbm_min_bytes)),
            ("SBUF peak per partition", _bytes(self.sbuf_peak_bytes)),
            ("PSUM peak banks", str(self.psum_peak_banks)),
        ]
        rows += [(f"busy {e}", f"{t:.1f} us") for e, t in self.engine_us.items()]
        rows += [(name, f"{n}") for name, n in sorted(self.instructions.items())]
        return rows

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{html.escape(n)}</td>"
            f"<td style='text-align:right'>{html.escape(t)}</td></tr>"
            for n, t in self._rows()
        )
        return f"<b>{html.escape(repr(self))}</b><table>{cells}</table>"


class Violation:
    """A rule that a program breaks: its name, code, what is wrong, the op and the place.

    Example:
        >>> print(Violation("sbuf-capacity", "too much", "memset %1", None))
        sbuf-capacity: too much
          in memset %1
    """

    def __init__(
        self, rule: str, message: str, op: str = "", where: tuple | None = None
    ) -> None:
        self.rule = rule
        self.code, self.message = split_code(message)
        self.op = op
        self.location = (
            format_location(NkigenError.at(message, *where)) if where else ""
        )

    def __str__(self) -> str:
        lines = [with_code(f"{self.rule}: {self.message}", self.code)]
        if self.op:
            lines.append(f"  in {self.op}")
        if self.location:
            lines.append(self.location)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Violation {self.rule}: {self.message}>"


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if abs(n) < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def program_html(program: Any) -> str:
    """The Jupyter view of a Program: its text, without the bytes of long constants and
    at most HTML_OPS ops of it.

    Example:
        >>> from nkigen import parse
        >>> p = parse("tensor @f {\\n  %x = input {index=0} : f32[4]\\n  return %x\\n}\\n")
        >>> program_html(p).splitlines()[0]
        '<pre>tensor @f {'
    """
    return f"<pre>{html.escape(program.brief(HTML_OPS))}</pre>"


def kernel_html(kernel: Any) -> str:
    """The Jupyter view of a Kernel: its cost and every stage, folded.

    Example:
        >>> import nkigen
        >>> k = nkigen.compile(lambda x: x + 1, ((4,), "f32"))
        >>> kernel_html(k).count("<details>") == len(k.stages)
        True
    """
    parts = [f"<b>{html.escape(repr(kernel))}</b>", kernel.cost._repr_html_()]
    for name, program in kernel.stages.items():
        summary = f"<summary>{html.escape(name)}</summary>"
        parts.append(f"<details>{summary}{program_html(program)}</details>")
    return "".join(parts)
