"""Builds the one C extension, nkigen._core, from every csrc/**/*.c.

Sources compile in parallel. An object is reused while it is newer than its source and
every header it included (the compiler's own dependency files say which) and was made by
the same command line. Switches, all off by default, from the environment:

    NKIGEN_DEBUG=1      -O0 -g, assertions on
    NKIGEN_SANITIZE=1   address and undefined-behaviour sanitizers (preload libasan)
    NKIGEN_COVERAGE=1   -O0 -g, gcov instrumentation
    NKIGEN_WERROR=1     warnings are errors
"""

import os
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent

#: Flags of single files, after all others. Nothing is contracted, so that every build
#: computes the same; the products of the simulator are sums whose bound is stated, and
#: want fused multiply-adds.
FLAGS = {"csrc/eval/gemm.c": ["-ffp-contract=fast"]}


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def compile_args() -> list[str]:
    args = ["-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden"]
    args += ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
    if switch("NKIGEN_SANITIZE"):
        args += ["-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer"]
        args += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    elif switch("NKIGEN_COVERAGE"):
        args += ["-O0", "-g"]
    elif switch("NKIGEN_DEBUG"):
        args += ["-O0", "-g", "-UNDEBUG"]
    else:
        args += ["-O3", "-g0"]
    if switch("NKIGEN_COVERAGE"):
        args += ["--coverage", "-fprofile-update=atomic"]
    if switch("NKIGEN_WERROR"):
        args += ["-Werror"]
    return args


def link_args() -> list[str]:
    args = []
    if switch("NKIGEN_SANITIZE"):
        args += ["-fsanitize=address,undefined"]
    if switch("NKIGEN_COVERAGE"):
        args += ["--coverage"]
    return args


def is_fresh(obj: Path, command: str) -> bool:
    """True when `obj` was made by `command` and no file it came from is newer."""
    made_by, deps = obj.with_suffix(".cmd"), obj.with_suffix(".d")
    if not (obj.exists() and deps.exists() and made_by.exists()):
        return False
    if made_by.read_text() != command:
        return False
    names = shlex.split(deps.read_text().partition(":")[2].replace("\\\n", " "))
    when = obj.stat().st_mtime
    return all(os.path.exists(n) and os.stat(n).st_mtime <= when for n in names)


class ParallelBuild(build_ext):
    """build_ext that compiles the sources of an extension in parallel."""

    def build_extension(self, ext: Extension) -> None:
        import numpy

        ext.include_dirs = ["csrc", numpy.get_include()]
        if self.compiler.compiler_type == "unix":
            self.compiler.compile = self.compile_all
        super().build_extension(ext)

    def compile_all(
        self,
        sources,
        output_dir=None,
        macros=None,
        include_dirs=None,
        debug=0,
        extra_preargs=None,
        extra_postargs=None,
        depends=None,
    ):
        cc = self.compiler
        macros, objects, post, pp_opts, build = cc._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        cc_args = cc._get_cc_args(pp_opts, debug, extra_preargs)

        def one(obj: str) -> None:
            src, ext = build[obj]
            out = Path(obj)
            deps = str(out.with_suffix(".d"))
            flags = [*(post or []), *FLAGS.get(src, []), "-MMD", "-MF", deps]
            command = " ".join([*cc.compiler_so, *cc_args, *flags, src])
            if not self.force and is_fresh(out, command):
                return
            began = time.time()  # a header that changes meanwhile makes it stale
            cc._compile(obj, src, ext, cc_args, flags, pp_opts)
            os.utime(out, (began, began))
            out.with_suffix(".cmd").write_text(command)

        jobs = self.parallel if isinstance(self.parallel, int) else None
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            list(pool.map(one, [o for o in objects if o in build]))
        return objects


def sources() -> list[str]:
    return sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("csrc/**/*.c"))


setup(
    license="Apache-2.0",
    ext_modules=[
        Extension(
            "nkigen._core",
            sources(),
            extra_compile_args=compile_args(),
            extra_link_args=link_args(),
            libraries=["m", "pthread"] if sys.platform.startswith("linux") else [],
        )
    ],
    cmdclass={"build_ext": ParallelBuild},
)
