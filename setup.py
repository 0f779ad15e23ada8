"""Build of the native engine: one source, one extension module per instruction set and dtype.

All else about the package is in pyproject.toml. An instruction set whose flags the compiler does not
take is left out; where there is no compiler at all, the package installs without the native engine.
"""

import os
import platform
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = Path("fastbp/engines/native")
FLAGS = ["-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"]
INSTRUCTION_SETS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["avx2"] = ["-mavx2", "-mfma"]
    INSTRUCTION_SETS["avx512"] = [
        *("-mavx2", "-mfma", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
        "-mprefer-vector-width=512",
    ]
DTYPES = {"float32": [], "float64": [("FASTBP_FLOAT64", "1")]}


class BuildEach(build_ext):
    """Compile each extension in a place of its own, and go on without one that does not compile."""

    def build_extension(self, ext: Extension) -> None:
        temp = self.build_temp
        self.build_temp = os.path.join(temp, ext.name)
        try:
            super().build_extension(ext)
        except Exception as error:
            print(f"fastbp: {ext.name} is left out: {error}", file=sys.stderr)
            if os.environ.get("FASTBP_REQUIRE_NATIVE"):
                raise
        finally:
            self.build_temp = temp


def extensions() -> list[Extension]:
    """The same generated C file under a name for each instruction set and dtype."""
    (engine,) = cythonize([Extension("fastbp.engines.native.engine", [str(NATIVE / "engine.pyx")])])
    return [
        Extension(
            f"fastbp.engines.native.{isa}.{dtype}.engine",
            sources=engine.sources,
            depends=[str(p) for p in sorted(NATIVE.glob("*.h"))],
            include_dirs=[str(NATIVE)],
            extra_compile_args=FLAGS + isa_flags,
            define_macros=macros,
            libraries=["m"],
            extra_link_args=["-pthread"],
            optional=True,
        )
        for isa, isa_flags in INSTRUCTION_SETS.items()
        for dtype, macros in DTYPES.items()
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildEach})
