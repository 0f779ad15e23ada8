"""From functions to object code: Numba makes LLVM IR, which is linked, optimised once, emitted.

Numba by itself would optimise every function again with each of its callers; here that is put off
to the end. The object code refers to nothing in Numba, so that a process that finds it in the cache
need not import Numba at all.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from numba.core import types
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext

from fastbp.engines.jit.kernels import work
from fastbp.engines.jit.kernels.intrinsics import kernel, record_of
from fastbp.engines.jit.kernels.records import record_type
from fastbp.engines.jit.kernels.tile import tile_module
from fastbp.engines.jit.library import target_machine
from fastbp.engines.jit.target import host

_INT = types.int64


@contextmanager
def only_ir() -> Iterator[None]:
    """Let Numba stop at IR: no optimisation and no machine code of the single functions."""

    def finish(library: Any) -> None:
        library._finalized = True

    def no_executable(*_: Any) -> Any:
        return [].append  # stands for the function, each its own; only compiled code calls it

    changes = [
        (CPUCodeLibrary, "_optimize_final_module", lambda library: None),
        (CPUCodeLibrary, "_optimize_functions", lambda library, module: None),
        (CPUCodeLibrary, "_finalize_final_module", finish),
        (CPUContext, "get_executable", no_executable),
    ]
    before = [getattr(owner, name) for owner, name, _ in changes]
    collecting = gc.isenabled()
    gc.disable()  # Numba makes very many objects, and keeps most: a sixth of the time
    for owner, name, new in changes:
        setattr(owner, name, new)
    try:
        yield
    finally:
        for (owner, name, _), old in zip(changes, before, strict=True):
            setattr(owner, name, old)
        if collecting:
            gc.enable()


def ir_of(function: Any, arguments: tuple[Any, ...], name: str) -> str:
    """LLVM IR of a jitted function that returns nothing, with a C function `name` that calls it."""
    function.compile(arguments)
    compiled = function.overloads[arguments]
    inner = compiled.fndesc.llvm_func_name
    kinds = ["i64" if a == _INT else "ptr" for a in arguments]
    values = [f"{kind} %a{i}" for i, kind in enumerate(kinds)]
    # Numba's calling convention: where to put the result and an exception, then the arguments
    compiled.library._ensure_finalized()
    text = compiled.library.get_llvm_str()
    return text + (
        f"\ndefine void @{name}({', '.join(values)}) {{\n"
        "  %result = alloca ptr\n  %error = alloca ptr\n"
        f"  %status = call i32 @{inner}({', '.join(['ptr %result', 'ptr %error', *values])})\n"
        "  ret void\n}\n"
    )


def emit(modules: list[str], names: list[str]) -> bytes:
    """Link IR, keep the functions `names`, optimise, and return the object code."""
    machine = target_machine()
    linked: Any = None
    for text in modules:
        if host().vector_bytes == 64:  # LLVM would rather use half vectors on some CPUs
            text = re.sub(r"(?m)^(define .*) \{$", r'\1 "prefer-vector-width"="512" {', text)
        module = llvm.parse_assembly(text)
        if linked is None:
            linked = module
        else:
            linked.link_in(module)
    linked.triple = host().triple
    linked.data_layout = str(machine.target_data)
    for function in linked.functions:
        if not function.is_declaration and function.name not in names:
            function.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(linked, builder)
    return bytes(machine.emit_object(linked))


@global_compiler_lock
def compile_engine(dtype: str) -> bytes:
    """Object code of the general engine: any network, any plan."""
    net_at = record_of(record_type("net", dtype))

    def epoch(address, thread, first, last):
        work.epoch(net_at(address), thread, first, last)

    def gradient(address, thread):
        work.gradient(net_at(address), thread)

    def forward(address, thread):
        work.forward(net_at(address), thread)

    def jacobian(address, thread):
        work.jacobian(net_at(address), thread)

    entries = [(epoch, 4), (gradient, 2), (forward, 2), (jacobian, 2)]
    with only_ir():
        modules = [ir_of(kernel(f), (_INT,) * n, f.__name__) for f, n in entries]
    return emit([*modules, tile_module(dtype)], [f.__name__ for f, _ in entries])
