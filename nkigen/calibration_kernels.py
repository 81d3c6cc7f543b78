"""Published kernels as tile IR: what `nkigen.calibration` prices.

Loop orders, tile sizes and bytes are those of the sources. Each function returns a
program text without addresses.

Example:
    >>> import nkigen
    >>> from nkigen import calibration_kernels
    >>> nkigen.parse(calibration_kernels.back_to_back()).cost().instruction_count
    2051
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class Program:
    """A tile program being written; `with p.loop(n) as i` opens a loop."""

    def __init__(self, name: str, target: str) -> None:
        self.lines = [f"tile @{name} {target} {{"]
        self.names = 0
        self.arrays = {"input": 0, "output": 0}
        self.result: list[str] = []

    def put(self, *lines: str) -> None:
        self.lines += lines

    def name(self) -> str:
        self.names += 1
        return f"%v{self.names}"

    def array(self, kind: str, dtype: str, *shape: int) -> str:
        out, index = self.name(), self.arrays[kind]
        self.arrays[kind] += 1
        dims = ", ".join(map(str, shape))
        self.put(f"{out} = buffer {{kind={kind}, index={index}}} : hbm {dtype}[{dims}]")
        if kind == "output":
            self.result.append(out)
        return out

    def tile(self, dtype: str, cols: int, bufs: int = 1, space: str = "sbuf") -> str:
        out = self.name()
        self.put(f"{out} = buffer {{bufs={bufs}}} : {space} {dtype}[128, {cols}]")
        return out

    def loop(self, count: int) -> Loop:
        return Loop(self, count)

    def load(self, dst: str, at: str, src: str, off: str, pitch: int, n: int) -> None:
        """[128, n] of rows that lie `pitch` elements apart."""
        self.put(
            f"dma_copy {dst}[0+128, {at}: {n}*1], {src}[{off}: 128*{pitch}, {n}*1]"
        )

    def store(self, dst: str, off: str, pitch: int, src: str, at: str, n: int) -> None:
        self.put(
            f"dma_copy {dst}[{off}: 128*{pitch}, {n}*1], {src}[0+128, {at}: {n}*1]"
        )

    def text(self) -> str:
        return "\n".join([*self.lines, f"return {', '.join(self.result)}", "}"]) + "\n"


class Loop:
    def __init__(self, program: Program, count: int) -> None:
        self.program, self.count = program, count

    def __enter__(self) -> str:
        var = self.program.name()
        self.program.put(f"{var} = loop {{count={self.count}}}")
        return var

    def __exit__(self, *_: object) -> None:
        self.program.put("end")


def matmul(p: Program, dst: str, stationary: str, moving: str, first: str) -> None:
    p.put(f"nc_matmul {dst}, {stationary}, {moving}, {first}")


def multiply(p: Program, dst: str, a: str, b: str) -> None:
    p.put(f"tensor_tensor {dst}, {a}, {b} {{op=multiply}}")


def exp(
    p: Program, dst: str, data: str, bias: str, scale: str, total: str = "_"
) -> None:
    p.put(f"activation {dst}, {total}, {data}, {bias}, {scale} {{func=exp}}")


def row(tile: str, at: str = "0", n: int = 512) -> str:
    return f"{tile}[0+128, {at}: {n}*1]"


# ---- matrix products; lhs is stored [K, M]


def tiled_matmul(
    m: int,
    k: int,
    n: int,
    dtype: str,
    target: str = "trn2",
    tiles: tuple[int, int] = (1, 1),
    hoisted: bool = False,
    wide: bool = False,
) -> str:
    """`tiles` PSUM tiles of 128 x 512 in flight; operands come per step of K, the
    stationary side once per row of tiles if `hoisted`; one DMA per side if `wide`."""
    p, (tm, tn) = Program("tiled", target), tiles
    a, b = p.array("input", dtype, k, m), p.array("input", dtype, k, n)
    y = p.array("output", dtype, m, n)
    rows, cols = 128 * tm, 512 * tn

    def side(
        dst: str, at: str, src: str, off: str, pitch: int, n: int, unit: int
    ) -> None:
        piece = n if wide else unit
        for c in range(0, n, piece):
            p.load(dst, f"{at} + {c}", src, f"{off} + {c}", pitch, piece)

    with p.loop(m // rows) as i:
        if hoisted:
            lhs = p.tile(dtype, k // 128 * rows, bufs=2)
            with p.loop(k // 128) as q:
                side(lhs, f"{rows}*{q}", a, f"{128 * m}*{q} + {rows}*{i}", m, rows, 128)
        with p.loop(n // cols) as j:
            psum = [
                p.tile("f32", 512, 2 if tm * tn <= 4 else 1, "psum")
                for _ in range(tm * tn)
            ]
            with p.loop(k // 128) as q:
                if not hoisted:
                    lhs = p.tile(dtype, rows, bufs=4)
                    side(lhs, "0", a, f"{128 * m}*{q} + {rows}*{i}", m, rows, 128)
                rhs = p.tile(dtype, cols, bufs=4)
                side(rhs, "0", b, f"{128 * n}*{q} + {cols}*{j}", n, cols, 512)
                for t in range(tm * tn):
                    at = f"{128 * (t // tn)}" + (f" + {rows}*{q}" if hoisted else "")
                    moving = row(rhs, str(512 * (t % tn)))
                    matmul(p, row(psum[t]), row(lhs, at, 128), moving, q)
            for t in range(tm * tn):
                out = p.tile(dtype, 512, bufs=2)
                p.put(f"tensor_copy {row(out)}, {row(psum[t])}")
                off = 128 * n * (t // tn) + 512 * (t % tn)
                p.store(y, f"{rows * n}*{i} + {cols}*{j} + {off}", n, out, "0", 512)
    return p.text()


def blocked_matmul(
    m: int,
    k: int,
    n: int,
    dtype: str = "f32",
    blocks: tuple[int, int, int] = (16, 2, 8),
) -> str:
    """Blocks of tiles along M, N and K, partial sums added in SBUF."""
    p, (bm, bn, bk) = Program("blocked", "trn2"), blocks
    a, b = p.array("input", dtype, k, m), p.array("input", dtype, k, n)
    y = p.array("output", dtype, m, n)
    rows, cols, deep = 128 * bm, 512 * bn, 128 * bk
    with p.loop(n // cols) as j:
        acc = p.tile("f32", m // 128 * cols)
        p.put(f"memset {row(acc, n=m // 128 * cols)} {{imm0=0.0}}")
        with p.loop(k // deep) as q:
            rhs = p.tile(dtype, bk * cols, bufs=2)
            with p.loop(bk) as r:
                off = f"{deep * n}*{q} + {128 * n}*{r} + {cols}*{j}"
                p.load(rhs, f"{cols}*{r}", b, off, n, cols)
            with p.loop(m // rows) as i:
                lhs = p.tile(dtype, bk * rows, bufs=2)
                with p.loop(bk) as r:
                    off = f"{deep * m}*{q} + {128 * m}*{r} + {rows}*{i}"
                    p.load(lhs, f"{rows}*{r}", a, off, m, rows)
                with p.loop(bn) as c, p.loop(bm) as d:
                    psum = p.tile("f32", 512, 4, "psum")
                    with p.loop(bk) as r:
                        one = row(lhs, f"{rows}*{r} + 128*{d}", 128)
                        matmul(p, row(psum), one, row(rhs, f"{cols}*{r} + 512*{c}"), r)
                    part = row(acc, f"{bm * cols}*{i} + {cols}*{d} + 512*{c}")
                    p.put(f"tensor_tensor {part}, {row(psum)}, {part} {{op=add}}")
        with p.loop(m // 128) as i:
            out = p.tile(dtype, cols, bufs=2)
            p.put(f"tensor_copy {row(out, n=cols)}, {row(acc, f'{cols}*{i}', cols)}")
            p.store(y, f"{128 * n}*{i} + {cols}*{j}", n, out, "0", cols)
    return p.text()


def panels_matmul(
    side: int, dtype: str, pieces: tuple[int, int], blocks: tuple[int, int]
) -> str:
    """All of K on chip for a block of tiles; `pieces`: columns per DMA of each side."""
    p, (bm, bn), n = Program("panels", "trn2"), blocks, side
    a, b = p.array("input", dtype, n, n), p.array("input", dtype, n, n)
    y = p.array("output", dtype, n, n)
    rows, cols = 128 * bm, 512 * bn

    def panel(src: str, width: int, piece: int, bufs: int, at: str) -> str:
        tile = p.tile(dtype, n // 128 * width, bufs=bufs)
        with p.loop(n // 128) as q, p.loop(width // min(piece, width)) as c:
            w = min(piece, width)
            p.load(
                tile,
                f"{width}*{q} + {w}*{c}",
                src,
                f"{128 * n}*{q} + {at} + {w}*{c}",
                n,
                w,
            )
        return tile

    with p.loop(n // rows) as i:
        lhs = panel(a, rows, pieces[0], 1, f"{rows}*{i}")
        with p.loop(n // cols) as j:
            rhs = panel(b, cols, pieces[1], 2, f"{cols}*{j}")
            with p.loop(bm) as d:
                out = p.tile(dtype, cols, bufs=2)
                with p.loop(bn) as c:
                    psum = p.tile("f32", 512, 4, "psum")
                    with p.loop(n // 128) as q:
                        one = row(lhs, f"{rows}*{q} + 128*{d}", 128)
                        matmul(p, row(psum), one, row(rhs, f"{cols}*{q} + 512*{c}"), q)
                    p.put(f"tensor_copy {row(out, f'512*{c}')}, {row(psum)}")
                off = f"{rows * n}*{i} + {128 * n}*{d} + {cols}*{j}"
                p.store(y, off, n, out, "0", cols)
    return p.text()


def back_to_back() -> str:
    """2048 products of full size on operands that stay."""
    p = Program("peak", "trn2")
    x, y = p.array("input", "bf16", 128, 640), p.array("output", "f32", 128, 512)
    t, out = p.tile("bf16", 640), p.tile("f32", 512)
    p.load(t, "0", x, "0", 640, 640)
    psum = p.tile("f32", 512, 1, "psum")
    with p.loop(2048) as i:
        p.put(f"nc_matmul {row(psum)}, {row(t, '512', 128)}, {row(t)}, {i}")
    p.put(f"tensor_copy {row(out)}, {row(psum)}")
    p.store(y, "0", 512, out, "0", 512)
    return p.text()


# ---- selective scan; there is no scan here: tensor_tensor streams two operands as well


def mamba_v1(seq: int, channels: int) -> str:
    """State by state for every 128 channels; B and C replicated in SBUF."""
    p, states = Program("mamba", "trn1"), 16
    delta, u = (p.array("input", "f32", channels, seq) for _ in range(2))
    bc = [p.array("input", "f32", states, seq) for _ in range(2)]
    decay = p.array("input", "f32", channels, states)
    y = p.array("output", "f32", channels, seq)
    with p.loop(channels // 128) as i:
        d, v, rates, acc = (
            p.tile("f32", seq, 2),
            p.tile("f32", seq, 2),
            p.tile("f32", states, 2),
            p.tile("f32", seq, 2),
        )
        p.load(d, "0", delta, f"{128 * seq}*{i}", seq, seq)
        p.load(v, "0", u, f"{128 * seq}*{i}", seq, seq)
        p.load(rates, "0", decay, f"{128 * states}*{i}", states, states)
        p.put(f"memset {row(acc, n=seq)} {{imm0=0.0}}")
        with p.loop(states) as s:
            e, t, b, c = (
                p.tile("f32", seq, 2),
                p.tile("f32", seq, 2),
                p.tile("f32", seq, 2),
                p.tile("f32", seq, 2),
            )
            p.load(b, "0", bc[0], f"{seq}*{s}", 0, seq)
            p.load(c, "0", bc[1], f"{seq}*{s}", 0, seq)
            exp(p, row(e, n=seq), row(d, n=seq), "_", f"{rates}[0+128, {s}]")
            scan_steps(p, seq, t, [(d, v), (t, b), (t, e), (t, c)], acc)
        p.store(y, f"{128 * seq}*{i}", seq, acc, "0", seq)
    return p.text()


def scan_steps(
    p: Program,
    n: int,
    t: str,
    pairs: Sequence[tuple[str, str]],
    acc: str,
    at: str = "0",
) -> None:
    for x, z in pairs:
        multiply(p, row(t, n=n), row(x, n=n), row(z, n=n))
    total = row(acc, at, n)
    p.put(f"tensor_tensor {total}, {total}, {row(t, n=n)} {{op=add}}")


def mamba_v2(seq: int, channels: int, states: int = 16) -> str:
    """State by state for all channels of 512 steps; B and C broadcast once to PSUM."""
    p, n, groups = Program("mamba", "trn1"), 512, channels // 128
    delta, u = (p.array("input", "f32", channels, seq) for _ in range(2))
    bc = p.array("input", "f32", 2 * states, seq)
    decay = p.array("input", "f32", channels, states)
    y = p.array("output", "f32", channels, seq)
    rates, ones = p.tile("f32", groups * states), p.tile("f32", 128)
    p.put(f"memset {row(ones, n=128)} {{imm0=1.0}}")
    with p.loop(groups) as i:
        p.load(rates, f"{states}*{i}", decay, f"{128 * states}*{i}", states, states)
    with p.loop(seq // n) as q:
        du, acc = p.tile("f32", groups * n), p.tile("f32", groups * n)
        p.put(f"memset {row(acc, n=groups * n)} {{imm0=0.0}}")
        with p.loop(groups) as i:
            d, v = p.tile("f32", n, 2), p.tile("f32", n, 2)
            p.load(d, "0", delta, f"{128 * seq}*{i} + {n}*{q}", seq, n)
            p.load(v, "0", u, f"{128 * seq}*{i} + {n}*{q}", seq, n)
            multiply(p, row(du, f"{n}*{i}"), row(d), row(v))
        with p.loop(states) as s:
            line = p.name()
            p.put(f"{line} = buffer {{bufs=2}} : sbuf f32[1, {2 * n}]")
            both = f"{bc}[{2 * seq}*{s} + {n}*{q}: 1*1, 2*{seq}, {n}*1]"
            p.put(f"dma_copy {line}[0+1, 0: 2*{n}, {n}*1], {both}")
            b, c = p.tile("f32", n, 2, "psum"), p.tile("f32", n, 2, "psum")
            for k, tile in enumerate((b, c)):
                moving = f"{line}[0+1, {n * k}: {n}*1]"
                matmul(p, row(tile), f"{ones}[0+1, 0: 128*1]", moving, "_")
            with p.loop(groups) as i:
                d, e, t = p.tile("f32", n, 2), p.tile("f32", n, 2), p.tile("f32", n, 2)
                p.load(d, "0", delta, f"{128 * seq}*{i} + {n}*{q}", seq, n)
                exp(p, row(e), row(d), "_", f"{rates}[0+128, {states}*{i} + {s}]")
                multiply(p, row(t), row(du, f"{n}*{i}"), row(b))
                scan_steps(p, n, t, [(t, e), (t, c)], acc, f"{n}*{i}")
        with p.loop(groups) as i:
            p.store(y, f"{128 * seq}*{i} + {n}*{q}", seq, acc, f"{n}*{i}", n)
    return p.text()


# ---- attention of one head, 128 columns, q and k stored transposed


def attention_inputs(p: Program, s: int) -> tuple[list[str], str]:
    q, k, v = (p.array("input", "bf16", 128, s) for _ in range(3))
    y = p.array("output", "bf16", s, 128)
    tiles = [p.tile("bf16", s) for _ in range(3)]
    for tile, src in zip(tiles, (q, k, v), strict=True):
        p.load(tile, "0", src, "0", s, s)
    return tiles, y


def attention_naive(s: int) -> str:
    """Scores, exponentials and normalised rows each go through HBM."""
    p = Program("naive", "trn1")
    (q, k, v), y = attention_inputs(p, s)
    scratch = [p.name() for _ in range(4)]
    for name, dtype in zip(scratch, ("f32", "f32", "bf16", "bf16"), strict=True):
        p.put(f"{name} = buffer {{kind=scratch}} : hbm {dtype}[{s}, {s}]")
    scores, weights, rows, turned = scratch
    sums, tiles = p.tile("f32", s // 128), s // 128
    with p.loop(tiles) as i:
        psum, most = p.tile("f32", s, 1, "psum"), p.tile("f32", s // 512 + 1, 2)
        x = p.tile("f32", s, 2)
        for c in range(s // 512):
            bank = row(psum, str(512 * c))
            matmul(p, bank, row(q, f"128*{i}", 128), row(k, str(512 * c)), "_")
            p.put(f"tensor_reduce {most}[0+128, {c}], {bank} {{op=maximum, naxes=1}}")
        best = f"{most}[0+128, {s // 512}]"
        p.put(f"tensor_reduce {best}, {row(most, n=s // 512)} {{op=maximum, naxes=1}}")
        for c in range(s // 512):
            at = str(512 * c)
            both = f"{row(x, at)}, {row(psum, at)}"
            p.put(f"tensor_scalar {both}, {best}, _ {{op0=subtract}}")
        p.store(scores, f"{128 * s}*{i}", s, x, "0", s)
    with p.loop(tiles) as i:
        x, e = p.tile("f32", s, 2), p.tile("f32", s, 2)
        p.load(x, "0", scores, f"{128 * s}*{i}", s, s)
        exp(p, row(e, n=s), row(x, n=s), "_", "_")
        p.store(weights, f"{128 * s}*{i}", s, e, "0", s)
    with p.loop(tiles) as i:
        x = p.tile("f32", s, 2)
        p.load(x, "0", weights, f"{128 * s}*{i}", s, s)
        p.put(f"tensor_reduce {sums}[0+128, {i}], {row(x, n=s)} {{op=add, naxes=1}}")
    inverse = p.tile("f32", s // 128)
    p.put(f"reciprocal {row(inverse, n=tiles)}, {row(sums, n=tiles)}")
    with p.loop(tiles) as i:
        x, e = p.tile("f32", s, 2), p.tile("bf16", s, 2)
        p.load(x, "0", weights, f"{128 * s}*{i}", s, s)
        scale = f"{inverse}[0+128, {i}]"
        p.put(
            f"tensor_scalar {row(e, n=s)}, {row(x, n=s)}, {scale}, _ {{op0=multiply}}"
        )
        p.store(rows, f"{128 * s}*{i}", s, e, "0", s)
    with p.loop(tiles) as i, p.loop(tiles) as j:
        x, t, psum = (
            p.tile("bf16", 128, 4),
            p.tile("bf16", 128, 4),
            p.tile("bf16", 1024, 2, "psum"),
        )
        p.load(x, "0", rows, f"{128 * s}*{i} + 128*{j}", s, 128)
        p.put(f"nc_transpose {row(psum, n=128)}, {row(x, n=128)}")
        p.put(f"tensor_copy {row(t, n=128)}, {row(psum, n=128)}")
        p.store(turned, f"{128 * s}*{j} + 128*{i}", s, t, "0", 128)
    with p.loop(tiles) as i:
        psum, out = p.tile("f32", 512, 2, "psum"), p.tile("bf16", 128, 2)
        with p.loop(tiles) as j:
            x = p.tile("bf16", 128, 4)
            p.load(x, "0", turned, f"{128 * s}*{j} + 128*{i}", s, 128)
            matmul(p, row(psum, n=128), row(x, n=128), row(v, f"128*{j}", 128), j)
        p.put(f"tensor_copy {row(out, n=128)}, {row(psum, n=128)}")
        p.store(y, f"{128 * 128}*{i}", 128, out, "0", 128)
    return p.text()


def attention_fused(s: int) -> str:
    """Blocks of 128 keys: scores two blocks ahead of exp with row sums, a transpose and,
    a block later, the product; the next row's first scores come before its turn."""
    p = Program("fused", "trn1")
    (q, k, v), y = attention_inputs(p, s)
    tiles, most = s // 128, p.tile("f32", 1)
    p.put(f"memset {most}[0+128, 0] {{imm0=-8.0}}")
    scores = [p.tile("f32", 512, 1, "psum") for _ in range(4)]
    turned = [p.tile("bf16", 1024, 1, "psum") for _ in range(2)]
    weights, flat = ([p.tile("bf16", 128) for _ in range(4)] for _ in range(2))

    def score(i: str, j: int) -> None:
        keys = row(k, str(128 * j), 128)
        matmul(p, row(scores[j % 4], n=128), row(q, i, 128), keys, "_")

    def product(total: str, j: int) -> None:
        more = " {accumulate=true}" if j else ""
        values = row(v, str(128 * j), 128)
        matmul(p, row(total, n=128), row(flat[j % 4], n=128), values, f"_{more}")

    def row_tile(i: str, following: str | None, at: str) -> None:
        total, sums = p.tile("f32", 512, 2, "psum"), p.tile("f32", tiles, 2)
        for j in range(tiles):
            if j + 2 < tiles:
                score(i, j + 2)
            elif following:
                score(following, j + 2 - tiles)
            attention_block(
                p,
                scores[j % 4],
                weights[j % 4],
                turned[j % 2],
                flat[j % 4],
                most,
                f"{sums}[0+128, {j}]",
            )
            if j:
                product(total, j - 1)
        product(total, tiles - 1)
        every, inverse, out = (
            p.tile("f32", 1, 2),
            p.tile("f32", 1, 2),
            p.tile("bf16", 128, 2),
        )
        p.put(
            f"tensor_reduce {every}[0+128, 0], {row(sums, n=tiles)} {{op=add, naxes=1}}"
        )
        p.put(f"reciprocal {inverse}[0+128, 0], {every}[0+128, 0]")
        p.put(
            f"tensor_scalar {row(out, n=128)}, {row(total, n=128)}, "
            f"{inverse}[0+128, 0], _ {{op0=multiply}}"
        )
        p.store(y, at, 128, out, "0", 128)

    score("0", 0)
    score("0", 1)
    with p.loop(tiles - 1) as i:
        row_tile(f"128*{i}", f"128*{i} + 128", f"{128 * 128}*{i}")
    row_tile(str(s - 128), None, str(128 * (s - 128)))
    return p.text()


def attention_block(
    p: Program, scores: str, weights: str, turned: str, flat: str, most: str, total: str
) -> None:
    exp(p, row(weights, n=128), row(scores, n=128), f"{most}[0+128, 0]", "_", total)
    p.put(
        f"nc_transpose {row(turned, n=128)}, {row(weights, n=128)}",
        f"tensor_copy {row(flat, n=128)}, {row(turned, n=128)}",
    )


# ---- single instructions


def load_and_store(
    parts: int, cols: int, target: str, middle: Callable[[str], str] = lambda t: ""
) -> str:
    """A bf16 tile through SBUF, with something done to it."""
    whole, tile = f"0: {parts}*{cols}, {cols}*1", f"%t[0+{parts}, 0: {cols}*1]"
    return f"""tile @one {target} {{
  %x = buffer {{kind=input, index=0}} : hbm bf16[{parts}, {cols}]
  %y = buffer {{kind=output, index=0}} : hbm bf16[{parts}, {cols}]
  %t = buffer : sbuf bf16[{parts}, {cols}]
  dma_copy {tile}, %x[{whole}]
  {middle(tile)}
  dma_copy %y[{whole}], {tile}
  return %y
}}
"""


def exp_of(tile: str, times: int = 1) -> str:
    return "\n  ".join([f"activation {tile}, _, {tile}, _, _ {{func=exp}}"] * times)
