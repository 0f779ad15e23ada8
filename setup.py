"""Build of the native engine: one source, one extension module per instruction set and kind of number.

All else about the package is in pyproject.toml. What is compiled is decided by the platform that the
wheel is for, not by the one that builds it: a cross compiler is named by CC and LDSHARED, and its target
by _PYTHON_HOST_PLATFORM ("linux-aarch64", "win-amd64"), as Python's own build does.

An instruction set whose flags the compiler does not take is left out; where there is no compiler at
all, the package installs without the native engine. With FASTBP_REQUIRE_NATIVE that is an error.
FASTBP_MODULES ("avx2/float32 baseline/bf16", say) asks for these modules alone, FASTBP_OPTIMIZE ("-O1")
for a quick build: the tests of .ci and tests/stress use them, users need not.
"""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = "fastbp.engines.native"
NATIVE = Path(*PACKAGE.split("."))
FLAGS = [
    os.environ.get("FASTBP_OPTIMIZE", "-O3"),
    "-std=gnu11",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
]
if not any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split()):
    # Python's own flags may ask for what a debugger needs, most of a module's bytes
    FLAGS.append("-g0")
KINDS = {
    "float32": [],
    "float64": [("FASTBP_FLOAT64", "1")],
    "bf16": [("FASTBP_BF16", "1")],
}
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [
    *(*AVX2, "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl"),
    "-mprefer-vector-width=512",
]
AVX512_BF16 = [*AVX512, "-mavx512bf16"]
AMX = [*AVX512_BF16, "-mamx-tile", "-mamx-bf16"]
# Each instruction set's flags, the kinds it has modules of, and the platforms that have it: how
# their names begin, and how they end.
MODULES = {
    "baseline": ([], KINDS, "", ""),
    "avx2": (AVX2, KINDS, "", ("x86_64", "amd64")),
    "avx512": (AVX512, KINDS, "", ("x86_64", "amd64")),
    "avx512_bf16": (AVX512_BF16, ["bf16"], "", ("x86_64", "amd64")),
    "amx": (AMX, ["bf16"], "linux", "x86_64"),  # other systems give no process its registers
}


class BuildEach(build_ext):
    """Compile the extensions side by side, and go on without one that does not compile."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        self.extensions = [ext for ext in self.extensions if self.is_for(ext.name.split(".")[-3])]

    def is_for(self, isa: str) -> bool:
        """Whether CPUs of the wheel's platform may have this instruction set."""
        _, _, system, machine = MODULES[isa]
        return self.plat_name.startswith(system) and self.plat_name.endswith(machine)

    def run(self) -> None:
        self.give_sources()
        if self.inplace:  # a fresh checkout has no folders for them
            for ext in self.extensions:
                Path(self.get_ext_fullpath(ext.name)).parent.mkdir(parents=True, exist_ok=True)
        super().run()

    def give_sources(self) -> None:
        """The same generated C file under a name for each instruction set and kind of number.

        Each has a source of its own, so that no two compile to the same object file.
        """
        from Cython.Build import cythonize

        (engine,) = cythonize([Extension(f"{PACKAGE}.engine", [str(NATIVE / "engine.pyx")])])
        # Cython generates it again in each new environment of a build, mostly the same.
        generated = kept("engine.c", Path(engine.sources[0]).read_text(encoding="utf-8"))
        depends = [generated, "setup.py", *map(str, sorted(NATIVE.glob("*.h")))]
        windows = self.plat_name.startswith("win")
        for ext in self.extensions:
            *_, isa, kind, _ = ext.name.split(".")
            ext.sources = [kept(f"{isa}_{kind}.c", '#include "engine.c"\n')]
            ext.depends = depends
            ext.libraries = [windows_python()] if windows else ["m"]
            ext.extra_link_args = [] if windows else ["-pthread"]

    def get_ext_filename(self, fullname: str) -> str:
        if "_PYTHON_HOST_PLATFORM" not in os.environ:
            return super().get_ext_filename(fullname)
        # This Python's own suffix names the platform it runs on.
        suffix = ".pyd" if os.environ["_PYTHON_HOST_PLATFORM"].startswith("win") else ".so"
        return str(Path(*fullname.split("."))) + suffix

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception as error:
            print(f"fastbp: {ext.name} is left out: {error}", file=sys.stderr)
            if os.environ.get("FASTBP_REQUIRE_NATIVE"):
                raise


def windows_python() -> str:
    """The name of Python's DLL on Windows, of which a module takes Python's API."""
    free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
    return "python{}{}".format(*sys.version_info) + "t" * bool(free_threaded)


def kept(name: str, text: str) -> str:
    """A file of the build that is written only where its text is new: what is newer is compiled anew."""
    path = Path("build", "native", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return str(path)


def extensions() -> list[Extension]:
    """The modules of every platform; BuildEach takes its own, and gives them their sources."""
    wanted = os.environ.get("FASTBP_MODULES", "").split()
    return [
        Extension(
            f"{PACKAGE}.{isa}.{kind}.engine",
            sources=[],
            include_dirs=[str(NATIVE)],
            extra_compile_args=FLAGS + flags,
            define_macros=[*KINDS[kind], ("NDEBUG", None)],
            optional=not os.environ.get("FASTBP_REQUIRE_NATIVE"),  # else an error is a warning
        )
        for isa, (flags, kinds, *_) in MODULES.items()
        for kind in kinds
        if not wanted or f"{isa}/{kind}" in wanted
    ]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildEach})
