"""Compiles what `to_c` writes, for this machine and emulated ones, and runs it.

A program has all the networks it is given, each with rows of its own, and prints what they say.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import fastbp

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
SANITIZE = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@dataclass(frozen=True)
class Target:
    """A compiler with its options, and what runs its programs."""

    compiler: str
    options: list[str] = field(default_factory=lambda: ["-O3"])
    emulator: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)  # files of this folder's, beside the program's

    @property
    def missing(self) -> str:
        """What is not installed here, or nothing."""
        needed = [self.compiler, *self.emulator[:1]]
        return ", ".join(tool for tool in needed if shutil.which(tool) is None)


M4 = ["-O2", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
TARGETS = {
    "cc": Target("cc"),
    "gcc": Target("gcc", ["-O2"]),
    "clang": Target("clang"),
    "gcc, sanitizers": Target("gcc", SANITIZE),
    "clang, sanitizers": Target("clang", SANITIZE),
    "aarch64": Target("aarch64-linux-gnu-gcc", ["-O3", "-static"], ["qemu-aarch64-static"]),
    "riscv64": Target("riscv64-linux-gnu-gcc", ["-O3", "-static"], ["qemu-riscv64-static"]),
    "Cortex-M4": Target(
        "arm-none-eabi-gcc",
        [*M4, "--specs=rdimon.specs", "-T", "cortex_m.ld"],
        ["qemu-system-arm", "-M", "mps2-an386", "-nographic",
         "-semihosting-config", "enable=on,target=native", "-kernel"],
        ["cortex_m.c"],
    ),
}  # fmt: skip


def declare(name: str, model: fastbp.MLP, X: np.ndarray) -> tuple[str, str]:
    """Definitions and statements of a program that prints what the network says of each row."""
    kind = "float" if X.dtype == np.float32 else "double"
    suffix = "f" if kind == "float" else ""
    rows = ",\n".join("{" + ", ".join(float(x).hex() + suffix for x in row) + "}" for row in X)
    upper = name.upper()
    data = f"static const {kind} X_{name}[{len(X)}][{upper}_INPUTS] = {{\n{rows}\n}};\n"
    link, outputs = model.plan.loss.link, model.plan.layer_sizes[-1]
    several = link == "sigmoid" and outputs > 1
    labels = f"int label[{upper}_OUTPUTS];" if several else ""
    call = f"{name}_predict(X_{name}[i], p{', label' if several else ''})"
    if link in ("softmax", "sigmoid") and not several:
        call = f'printf("%d ", {call})'
    shown = 'printf("%d ", label[j]);' if several else ""
    statements = (
        f"    for (i = 0; i < {len(X)}; i++) {{\n"
        f"        {kind} p[{upper}_OUTPUTS]; {labels}\n        {call};\n"
        f"        for (j = 0; j < {upper}_OUTPUTS; j++) {{ {shown} }}\n"
        f'        for (j = 0; j < {upper}_OUTPUTS; j++) printf("%.17g ", (double)p[j]);\n'
        '        printf("\\n");\n    }\n'
    )
    return data, statements


def run(
    target: Target, networks: dict[str, tuple[fastbp.MLP, np.ndarray, str]], folder: Path
) -> dict[str, np.ndarray]:
    """What each network says of each of its rows: labels, if it has some, then the outputs.

    `networks` has for each name a model, rows, and the kind of weights.
    """
    data, statements, sources = "", "", []
    for name, (model, X, weights) in networks.items():
        sources.append(model.to_c(folder / name, weights=weights).source)
        definitions, calls = declare(name, model, X)
        data, statements = data + definitions, statements + calls
    includes = "".join(f'#include "{name}.h"\n' for name in networks)
    main = (
        f"#include <stdio.h>\n{includes}\n{data}\nint main(void)\n{{\n    int i, j;\n"
        f"{statements}    return 0;\n}}\n"
    )
    lines = [[float(x) for x in line.split()] for line in output(target, main, sources, folder)]
    found, at = {}, 0
    for name, (_, X, _) in networks.items():
        found[name] = np.array(lines[at : at + len(X)])
        at += len(X)
    assert at == len(lines)
    return found


def output(target: Target, text: str, sources: list[str], folder: Path) -> list[str]:
    """The lines that a program prints: this text and these files."""
    main = folder / "main.c"
    main.write_text(text)
    here = Path(__file__).parent
    options = [os.fspath(here / o) if o.endswith(".ld") else o for o in target.options]
    more = [os.fspath(here / file) for file in target.more]
    program = os.fspath(folder / "program")
    build = [target.compiler, *STRICT, *options, os.fspath(main), *sources, *more]
    built = subprocess.run(
        [*build, "-lm", "-o", program], capture_output=True, text=True, timeout=600
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    ran = subprocess.run(
        [*target.emulator, program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()
