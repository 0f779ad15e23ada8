"""The micro-kernel: everything the engine multiplies goes through this one loop, built as LLVM IR.

A register tile C of m ≤ `tile_rows` rows by one panel (two vectors) gathers

    C[i][·] += Σ_k A[i, k] W[k][·],   k = 0 … K−1 in that order, one fused multiply-add each

so an element's bits depend on K and on the operands, never on the shape of the tile around it. W
and C are panels: row k of a panel is PANEL consecutive numbers. A is an activation matrix, held as
panels too (see layout.py); it is read a scalar at a time:

    by rows      A[i, k] = row i, feature k   forward (A = v, W = weights) and
                                              backward-data (A = δ, W = transposed weights)
    by features  A[i, k] = feature i, row k   weight gradient v δᵀ (A = v, W = δ), sum over rows

`vectors` is 2, or 1 where the columns wanted fit the panel's first vector: the second is then zero.
`add` says whether C is added to or overwritten. K may be 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastbp.engines.jit.target import host

_int = ir.IntType(64)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once where the CPU can."""
    if not host().fma:
        return builder.fadd(builder.fmul(a, b), c)
    kind = a.type.element if isinstance(a.type, ir.VectorType) else a.type
    suffix = f"v{a.type.count}" if kind is not a.type else ""
    suffix += "f32" if kind == ir.FloatType() else "f64"
    signature = ir.FunctionType(a.type, [a.type] * 3)
    fma = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fma.{suffix}")
    return builder.call(fma, [a, b, c])


def splat(builder: Any, x: Any, lanes: int) -> Any:
    """A vector of `lanes` times x."""
    vector = ir.VectorType(x.type, lanes)
    first = builder.insert_element(
        ir.Constant(vector, ir.Undefined), x, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, first, zeros)


def _kernel(module: Any, real: Any, lanes: int, m: int, vectors: int, by_rows: bool) -> Any:
    """Add the function of one shape of tile to the module: (K, a, a_panel, w, c, add)."""
    panel = 2 * lanes
    vector = ir.VectorType(real, lanes)
    pointer = real.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [_int, pointer, _int, pointer, pointer, _int])
    name = f"tile_{'rows' if by_rows else 'features'}_{m}_{vectors}_{real}"
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    K, a, a_panel, w, c, add = function.args
    builder = ir.IRBuilder(function.append_basic_block())

    def vector_at(base: Any, index: int) -> Any:
        at = builder.gep(base, [ir.Constant(_int, index)])
        return builder.bitcast(at, vector.as_pointer())

    def load(base: Any, index: int) -> Any:
        value = builder.load(vector_at(base, index))
        value.align = lanes * (4 if real == ir.FloatType() else 8)
        return value

    def store(base: Any, index: int, value: Any) -> None:
        builder.store(value, vector_at(base, index)).align = lanes * (
            4 if real == ir.FloatType() else 8
        )

    # stack slots that LLVM turns into registers
    elements = [(i, v) for i in range(m) for v in range(vectors)]
    C = {e: cgutils.alloca_once(builder, vector) for e in elements}
    zero = ir.Constant(vector, [0.0] * lanes)
    for slot in C.values():
        builder.store(zero, slot)
    with builder.if_then(cgutils.is_not_null(builder, add)):
        for (i, v), slot in C.items():
            builder.store(load(c, i * panel + v * lanes), slot)

    def accumulate(count: Any, a: Any, w: Any) -> None:
        with cgutils.for_range(builder, count, intp=_int) as loop:
            wk = builder.gep(w, [builder.mul(loop.index, ir.Constant(_int, panel))])
            step = loop.index if by_rows else builder.mul(loop.index, ir.Constant(_int, panel))
            ak = builder.gep(a, [step])
            b = [load(wk, v * lanes) for v in range(vectors)]
            for i in range(m):
                at = ir.Constant(_int, i * panel if by_rows else i)
                s = splat(builder, builder.load(builder.gep(ak, [at])), lanes)
                for v in range(vectors):
                    slot = C[i, v]
                    builder.store(multiply_add(builder, s, b[v], builder.load(slot)), slot)

    if by_rows:
        width = ir.Constant(_int, panel)
        full = builder.udiv(K, width)
        with cgutils.for_range(builder, full, intp=_int) as loop:
            accumulate(
                width,
                builder.gep(a, [builder.mul(loop.index, a_panel)]),
                builder.gep(w, [builder.mul(loop.index, ir.Constant(_int, panel * panel))]),
            )
        accumulate(
            builder.urem(K, width),
            builder.gep(a, [builder.mul(full, a_panel)]),
            builder.gep(w, [builder.mul(full, ir.Constant(_int, panel * panel))]),
        )
    else:
        accumulate(K, a, w)
    for (i, v), slot in C.items():
        store(c, i * panel + v * lanes, builder.load(slot))
    if vectors == 1:
        for i in range(m):
            store(c, i * panel + lanes, zero)
    builder.ret_void()
    return function


def _choice(module: Any, real: Any, lanes: int, by_rows: bool) -> None:
    """Add the function that takes m and `vectors` too, and calls the kernel of that shape."""
    pointer = real.as_pointer()
    kinds = [_int, _int, _int, pointer, _int, pointer, pointer, _int]
    name = _name(by_rows, real)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    builder = ir.IRBuilder(function.append_basic_block())
    m, vectors, *rest = function.args
    done = function.append_basic_block()
    which = builder.add(builder.mul(m, ir.Constant(_int, 2)), vectors)
    switch = builder.switch(which, done)
    for rows in range(1, host().tile_rows + 1):
        for count in (1, 2):
            block = function.append_basic_block()
            switch.add_case(ir.Constant(_int, 2 * rows + count), block)
            with builder.goto_block(block):
                builder.call(_kernel(module, real, lanes, rows, count, by_rows), rest)
                builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()


def _name(by_rows: bool, real: Any) -> str:
    return f"tile_{'rows' if by_rows else 'features'}_{real}"


def tile_module(dtype: str) -> str:
    """IR of `tile_rows` and `tile_features`, to be linked with what calls them."""
    module = ir.Module()
    real = ir.FloatType() if dtype == "float32" else ir.DoubleType()
    for by_rows in (True, False):
        _choice(module, real, host().lanes(dtype), by_rows)
    return str(module)


def _declared(by_rows: bool, pointers: tuple[Any, Any, Any]) -> Any:
    a, w, c = pointers
    i = types.int64

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        real = context.get_data_type(a.dtype)
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
        function = cgutils.get_or_insert_function(builder.module, kind, _name(by_rows, real))
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(i, i, i, a, i, w, c, i), build


@intrinsic
def tile_rows(typing, m, vectors, K, a, a_panel, w, c, add):
    """C (+)= A W, A read by rows; `a_panel`: numbers from one panel of A to the next."""
    return _declared(True, (a, w, c))


@intrinsic
def tile_features(typing, m, vectors, K, a, a_panel, w, c, add):
    """C (+)= Aᵀ W, A read by features; `a_panel` plays no part."""
    return _declared(False, (a, w, c))
