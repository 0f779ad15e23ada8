"""From functions to object code: Numba makes LLVM IR, which is linked, optimised once, emitted.

Numba by itself would link and optimise every function again with each of its callers; here that is
put off to the end. The object code refers to nothing in Numba, so that a process that finds it in
the cache need not import Numba at all.
"""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from numba.core import types
from numba.core.caching import Cache
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUContext
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target

from fastbp.engines.jit.kernels import work
from fastbp.engines.jit.kernels.records import record_type
from fastbp.engines.jit.kernels.tile import tile_module
from fastbp.engines.jit.library import target_machine
from fastbp.engines.jit.target import host


@contextmanager
def only_ir() -> Iterator[dict[Any, list[str]]]:
    """Let Numba stop at the IR of each function, kept by library in the dictionary given.

    No linking, no optimisation, no machine code; and no function, of ours or of the user, is left
    with what was compiled: outside of this it would be taken for a whole one.
    """
    ir: dict[Any, list[str]] = {}
    overloads: list[tuple[Any, Any]] = []

    def keep(library: Any, module: Any) -> None:
        ir.setdefault(library, []).append(str(module))

    def finalize(library: Any) -> None:
        library._finalized = True

    def no_executable(*_: Any) -> Any:
        return [].append  # stands for the function, each its own; only compiled code calls it

    def add_overload(dispatcher: Any, compiled: Any) -> None:
        arguments = tuple(compiled.signature.args)
        dispatcher.overloads[arguments] = compiled
        overloads.append((dispatcher, arguments))

    changes = [
        (CPUCodeLibrary, "add_ir_module", keep),
        (CPUCodeLibrary, "finalize", finalize),
        (CPUContext, "get_executable", no_executable),
        (Dispatcher, "add_overload", add_overload),
        (Cache, "save_overload", lambda *_: None),
    ]
    cpu_target.target_context.refresh()  # compiles Numba's own runtime, to be kept whole
    before = [getattr(owner, name) for owner, name, _ in changes]
    collecting = gc.isenabled()
    gc.disable()  # Numba makes very many objects, and keeps most: a sixth of the time
    for owner, name, new in changes:
        setattr(owner, name, new)
    try:
        yield ir
    finally:
        for dispatcher, arguments in overloads:
            del dispatcher.overloads[arguments]
        for (owner, name, _), old in zip(changes, before, strict=True):
            setattr(owner, name, old)
        if collecting:
            gc.enable()


def ir_of(functions: dict[str, tuple[Any, tuple[Any, ...]]]) -> list[str]:
    """IR of jitted functions that return nothing, with the types of their arguments.

    For each there is a C function of the name given that calls it.
    """
    entries, used = "", []
    with only_ir() as ir:
        for name, (function, arguments) in functions.items():
            function.compile(arguments)
            compiled = function.overloads[arguments]
            used.append(compiled.library)
            inner = compiled.fndesc.llvm_func_name
            kinds = ["i64" if a == types.int64 else "ptr" for a in arguments]
            values = ", ".join(f"{kind} %a{i}" for i, kind in enumerate(kinds))
            # Numba's calling convention: where to put the result and an exception, then the arguments
            entries += (
                f"declare i32 @{inner}(ptr, ptr, {', '.join(kinds)})\n"
                f"define void @{name}({values}) {{\n"
                "  %result = alloca ptr\n  %error = alloca ptr\n"
                f"  %status = call i32 @{inner}(ptr %result, ptr %error, {values})\n"
                "  ret void\n}\n"
            )
    libraries: dict[Any, None] = {}
    while used:
        library = used.pop()
        if library not in libraries:
            libraries[library] = None
            used += library._linking_libraries
    return [entries, *itertools.chain.from_iterable(ir.get(x) or _finished(x) for x in libraries)]


def _finished(library: Any) -> list[str]:
    """IR of what Numba had compiled to the end before, for the user."""
    # a linkonce function would be dropped by the linker where its first caller comes later
    return [str(library._get_module_for_linking()).replace("linkonce_odr", "weak_odr")]


def emit(modules: list[str], names: list[str]) -> bytes:
    """Link IR, keep the functions `names`, optimise, and return the object code."""
    machine = target_machine()
    linked: Any = None
    for text in modules:
        if host().vector_bytes == 64:  # LLVM would rather use half vectors on some CPUs
            text = re.sub(r"(?m)^(define .*?)\s*\{$", r'\1 "prefer-vector-width"="512" {', text)
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
    net, i = record_type("net", dtype), types.int64
    functions = {
        "epoch": (work.epoch, (net, i, i, i)),
        "gradient": (work.gradient, (net, i)),
        "forward": (work.forward, (net, i)),
        "jacobian": (work.jacobian, (net, i)),
    }
    return emit([*ir_of(functions), tile_module(dtype)], list(functions))
