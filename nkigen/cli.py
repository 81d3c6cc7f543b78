"""The command line: `python -m nkigen bench | show | accuracy | fuzz | version`.

Example:
    $ python -m nkigen show kernels.py:softmax 4096x4096:bf16 --stage cost
"""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nkigen
from nkigen import accuracy, bench, fuzz, names


def parse_spec(text: str) -> tuple[tuple[int, ...], str]:
    """A parameter written as SHAPE[:DTYPE], for instance 4096x4096:bf16.

    Example:
        >>> parse_spec("128x64"), parse_spec("scalar:i32")
        (((128, 64), 'f32'), ((), 'i32'))
    """
    shape, _, dtype = text.partition(":")
    if shape in ("", "scalar"):
        return (), dtype or "f32"
    try:
        dims = tuple(int(d) for d in shape.split("x"))
    except ValueError:
        raise ValueError(
            f"bad parameter {text!r}: expected SHAPE:DTYPE such as 128x512:f32, or "
            "NAME=VALUE such as eps=1e-5"
        ) from None
    return dims, dtype or "f32"


def parse_arguments(texts: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Parameters by position, and by name: NAME=VALUE with VALUE a Python literal, in
    which (shape, dtype) is an array; what is no literal is SHAPE:DTYPE or text.

    Example:
        >>> parse_arguments(["8x4", "eps=1e-5", "act=gelu", "p={'w': ((4,), 'f32')}"])
        ([((8, 4), 'f32')], {'eps': 1e-05, 'act': 'gelu', 'p': {'w': ((4,), 'f32')}})
    """
    args: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name.isidentifier():
            named[name] = _literal(value)
        elif named:
            raise ValueError(f"{text!r}: parameters by position come before NAME=VALUE")
        else:
            args.append(parse_spec(text))
    return args, named


def _literal(text: str) -> Any:
    if re.fullmatch(r"(\d+(x\d+)*|scalar):\w+", text):
        return parse_spec(text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def load_function(place: str) -> Callable:
    """The function that FILE:FUNC names."""
    file, _, name = place.rpartition(":")
    if not file or not name:
        raise ValueError(f"bad function {place!r}: expected FILE:FUNC")
    if not Path(file).is_file():
        raise ValueError(f"no file {file!r}")
    functions = runpy.run_path(file, run_name="nkigen_show")
    if not callable(functions.get(name)):
        raise ValueError(f"no function {name!r} in {file}")
    return functions[name]


def show(args: argparse.Namespace) -> int:
    """Print one stage of a kernel, its NKI source or its cost."""
    fn = load_function(args.function)
    specs, named = parse_arguments(args.specs)
    kernel = nkigen.compile(fn, *specs, target=args.target, params=named)
    views: dict[str, Callable[[], Any]] = {
        name: program.brief for name, program in kernel.stages.items()
    }
    views |= {"nki": kernel.nki, "cost": lambda: kernel.cost}
    wanted = [args.stage] if args.stage else ["tensor", "cost"]
    if not args.stage:
        views["tensor"] = kernel.tensor_ir.brief
    for name in wanted:
        if name not in views:
            raise ValueError(f"no stage {name!r}; there are: {' '.join(views)}")
        print(views[name]())
    return 0


def version(args: argparse.Namespace) -> int:
    """Print the version."""
    print(nkigen.__version__)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nkigen", description=(nkigen.__doc__ or "").split("\n\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    b = commands.add_parser("bench", help="compile the workloads and print the figures")
    bench.add_arguments(b)
    b.set_defaults(run=bench.run)
    s = commands.add_parser("show", help="print what a function compiles to")
    s.add_argument("function", metavar="FILE:FUNC")
    s.add_argument(
        "specs",
        nargs="*",
        metavar="SHAPE:DTYPE|NAME=VALUE",
        help="one per parameter; VALUE is SHAPE:DTYPE, a Python literal or text",
    )
    s.add_argument("--stage", help="a stage's name, nki or cost")
    s.add_argument("--target", default="trn2")
    s.set_defaults(run=show)
    f = commands.add_parser("fuzz", help="mutated texts or random programs")
    fuzz.add_arguments(f)
    f.set_defaults(run=fuzz.run)
    a = commands.add_parser("accuracy", help="measure every op against NumPy")
    accuracy.add_arguments(a)
    a.set_defaults(run=accuracy.run)
    n = commands.add_parser(
        "names", help="NumPy's names: what works in kernels, and how"
    )
    names.add_arguments(n)
    n.set_defaults(run=names.run)
    v = commands.add_parser("version", help="print the version")
    v.set_defaults(run=version)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 fine, 1 a figure got worse, 2 bad usage or kernel.

    Example:
        >>> main(["show", "nowhere.py:f"])
        2
    """
    args = make_parser().parse_args(argv)
    try:
        return args.run(args)
    except BrokenPipeError:
        return 0
    except (ValueError, TypeError, nkigen.errors.NkigenError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
