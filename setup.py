"""Build of the native engine: one source, one extension module per instruction set and kind of number.

All else about the package is in pyproject.toml. An instruction set whose flags the compiler does not
take is left out; where there is no compiler at all, the package installs without the native engine.
FASTBP_MODULES ("avx2/float32 baseline/bf16", say) asks for these modules alone, FASTBP_OPTIMIZE ("-O1")
for a quick build: the tests of .ci and tests/stress use them, users need not.
"""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("fastbp/engines/native")
FLAGS = [
    os.environ.get("FASTBP_OPTIMIZE", "-O3"),
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
]
if "-g" not in os.environ.get("CFLAGS", "").split():
    FLAGS.append(
        "-g0"
    )  # Python's own flags may ask for what a debugger needs, most of a module's bytes
KINDS = {
    "float32": [],
    "float64": [("FASTBP_FLOAT64", "1")],
    "bf16": [("FASTBP_BF16", "1")],
}
MODULES = {"baseline": ([], KINDS)}  # each instruction set's flags, and the kinds it has modules of
if platform.machine().lower() in ("x86_64", "amd64"):
    avx2 = ["-mavx2", "-mfma"]
    avx512 = [
        *avx2,
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512"),
    ]
    avx512_bf16 = [*avx512, "-mavx512bf16"]
    MODULES["avx2"] = avx2, KINDS
    MODULES["avx512"] = avx512, KINDS
    MODULES["avx512_bf16"] = avx512_bf16, ["bf16"]
    MODULES["amx"] = [*avx512_bf16, "-mamx-tile", "-mamx-bf16"], ["bf16"]


class BuildEach(build_ext):
    """Compile the extensions side by side, and go on without one that does not compile."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        if self.inplace:  # a fresh checkout has no folders for them
            for ext in self.extensions:
                Path(self.get_ext_fullpath(ext.name)).parent.mkdir(parents=True, exist_ok=True)
        super().run()

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            print(f"fastbp: {ext.name} is left out: {error}", file=sys.stderr)
            if os.environ.get("FASTBP_REQUIRE_NATIVE"):
                raise


def kept(name: str, text: str) -> str:
    """A file of the build that is written only where its text is new: what is newer is compiled anew."""
    path = Path("build", "native", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return str(path)


def extensions() -> list[Extension]:
    """The same generated C file under a name for each instruction set and kind of number.

    Each has a source of its own, so that no two compile to the same object file.
    """
    (engine,) = cythonize([Extension("fastbp.engines.native.engine", [str(NATIVE / "engine.pyx")])])
    # Cython generates it again in each new environment of a build, mostly the same.
    generated = kept("engine.c", Path(engine.sources[0]).read_text())
    wanted = os.environ.get("FASTBP_MODULES", "").split()
    return [
        Extension(
            f"fastbp.engines.native.{isa}.{kind}.engine",
            sources=[kept(f"{isa}_{kind}.c", '#include "engine.c"\n')],
            depends=[generated, "setup.py", *map(str, sorted(NATIVE.glob("*.h")))],
            include_dirs=[str(NATIVE)],
            extra_compile_args=FLAGS + flags,
            define_macros=KINDS[kind],
            libraries=["m"],
            extra_link_args=["-pthread"],
            optional=not os.environ.get("FASTBP_REQUIRE_NATIVE"),  # else an error is a warning
        )
        for isa, (flags, kinds) in MODULES.items()
        for kind in kinds
        if not wanted or f"{isa}/{kind}" in wanted
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildEach})
