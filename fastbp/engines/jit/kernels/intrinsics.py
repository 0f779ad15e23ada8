"""What Numba has no word for: pointers, bits of numbers, fused multiply-add, atomics, calls.

The kernels are generic over float32 and float64: the dtype comes with the pointers and numbers they
are given, and a constant takes it from one of them (`number`, `pick`).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastbp.engines.jit.kernels.tile import multiply_add
from fastbp.engines.jit.target import host

# To compile in less time: only compiled code calls these functions, so they go without wrappers for
# Python and C; and but for the user's they hold nothing that Numba would have to rewrite.
_options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
kernel = njit(**_options, no_rewrites=True)
inline = njit(**_options, no_rewrites=True, forceinline=True)
any_order = njit(**_options, no_rewrites=True, fastmath={"reassoc"})  # sums in vectors
of_user = njit(**_options, forceinline=True)

_int = ir.IntType(64)

# ---- numbers ----


def _cast(builder: Any, x: Any, kind: Any) -> Any:
    """x, an i64 or a double, as a number of LLVM type `kind`."""
    if isinstance(x.type, ir.IntType):
        return builder.sitofp(x, kind)
    if x.type == kind:
        return x
    return builder.fptrunc(x, kind) if kind == ir.FloatType() else builder.fpext(x, kind)


def _real_type(like: Any) -> Any:
    return like.dtype if isinstance(like, types.CPointer) else like


@intrinsic
def number(typing, like, x):
    """x in the dtype of `like`, a number or a pointer to numbers."""
    real = _real_type(like)

    def build(context, builder, signature, arguments):
        return _cast(builder, arguments[1], context.get_value_type(signature.return_type))

    return real(like, x), build


@intrinsic
def pick(typing, like, float32, float64):
    """One constant or the other, by the dtype of `like`."""
    real = _real_type(like)

    def build(context, builder, signature, arguments):
        chosen = arguments[1] if signature.return_type == types.float32 else arguments[2]
        return _cast(builder, chosen, context.get_value_type(signature.return_type))

    return real(like, float32, float64), build


@intrinsic
def choose(typing, like, float32, float64):
    """`pick` for integers."""

    def build(context, builder, signature, arguments):
        return arguments[1] if _real_type(like) == types.float32 else arguments[2]

    return types.int64(like, types.int64, types.int64), build


@intrinsic
def lanes(typing, like):
    """Numbers of `like`'s dtype in a vector, a constant."""
    count = host().lanes(str(_real_type(like)))

    def build(context, builder, signature, arguments):
        return ir.Constant(_int, count)

    return types.int64(like), build


@intrinsic
def select(typing, condition, x, y):
    """X if condition else y, both computed: no branch."""

    def build(context, builder, signature, arguments):
        return builder.select(*arguments)

    return x(types.boolean, x, x), build


@intrinsic
def fma(typing, a, b, c):
    """A b + c, rounded once where the CPU can."""

    def build(context, builder, signature, arguments):
        return multiply_add(builder, *arguments)

    return a(a, a, a), build


def _llvm_function(name: str, arity: int) -> Any:
    def typed(typing: Any, *arguments: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = context.get_value_type(signature.return_type)
            function = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(kind, [kind] * arity),
                f"llvm.{name}.{'f32' if kind == ir.FloatType() else 'f64'}",
            )
            return builder.call(function, arguments)

        return arguments[0](*arguments), build

    return typed


@intrinsic
def fabs(typing, x):
    """|x|."""
    return _llvm_function("fabs", 1)(typing, x)


@intrinsic
def sqrt(typing, x):
    """√x."""
    return _llvm_function("sqrt", 1)(typing, x)


@intrinsic
def copysign(typing, x, sign):
    """|x| with the sign of `sign`."""
    return _llvm_function("copysign", 2)(typing, x, sign)


@intrinsic
def horner(typing, x, float32, float64):
    """Σ cᵢ xⁱ by Horner's rule; the coefficients c are one constant tuple or the other."""

    def build(context, builder, signature, arguments):
        x, c32, c64 = arguments
        series = c32 if signature.return_type == types.float32 else c64
        c = [_cast(builder, one, x.type) for one in cgutils.unpack_tuple(builder, series)]
        y = c[-1]
        for one in c[-2::-1]:
            y = multiply_add(builder, y, x, one)
        return y

    return x(x, float32, float64), build


@intrinsic
def clenshaw(typing, t, float32, float64):
    """Σ cᵢ Tᵢ(t), a Chebyshev series; the coefficients c are one constant tuple or the other."""

    def build(context, builder, signature, arguments):
        t, c32, c64 = arguments
        series = c32 if signature.return_type == types.float32 else c64
        c = [_cast(builder, one, t.type) for one in cgutils.unpack_tuple(builder, series)]
        b1 = b2 = ir.Constant(t.type, 0.0)
        twice = builder.fadd(t, t)
        for one in c[:0:-1]:
            b1, b2 = multiply_add(builder, twice, b1, builder.fsub(one, b2)), b1
        return multiply_add(builder, t, b1, builder.fsub(c[0], b2))

    return t(t, float32, float64), build


# ---- bits; integers keep their width, 32 bits beside float32 and 64 beside float64 ----


@intrinsic
def bits(typing, x):
    """The bits of a number, as a signed integer."""
    integer = types.int32 if x == types.float32 else types.int64

    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return integer(x), build


@intrinsic
def from_bits(typing, n):
    """The number with these bits."""
    real = types.float32 if n == types.int32 else types.float64

    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return real(n), build


def _integer_operation(name: str) -> Any:
    def typed(typing: Any, n: Any, m: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            n, m = arguments
            if m.type != n.type:
                m = builder.trunc(m, n.type)
            return getattr(builder, name)(n, m)

        return n(n, m), build

    return typed


@intrinsic
def add(typing, n, m):
    """N + m in n's width."""
    return _integer_operation("add")(typing, n, m)


@intrinsic
def subtract(typing, n, m):
    """N − m in n's width."""
    return _integer_operation("sub")(typing, n, m)


@intrinsic
def shift_left(typing, n, m):
    """N 2^m in n's width."""
    return _integer_operation("shl")(typing, n, m)


@intrinsic
def shift_right(typing, n, m):
    """⌊n / 2^m⌋."""
    return _integer_operation("ashr")(typing, n, m)


# ---- pointers ----


@intrinsic
def at(typing, pointer, n):
    """The address of pointer[n]."""

    def build(context, builder, signature, arguments):
        return builder.gep(arguments[0], [arguments[1]])

    return pointer(pointer, types.int64), build


@intrinsic
def record_at(typing, pointer, n):
    """The record pointer[n], to read and to write."""
    record = pointer.dtype

    def build(context, builder, signature, arguments):
        kind = context.get_value_type(record)
        base = builder.ptrtoint(arguments[0], _int)
        offset = builder.mul(arguments[1], ir.Constant(_int, record.size))
        return builder.inttoptr(builder.add(base, offset), kind)

    return record(pointer, types.int64), build


@intrinsic
def transpose_square(typing, source, destination):
    """destination[c][r] = source[r][c], LANES by LANES, both with rows of PANEL numbers.

    A butterfly of log2 LANES stages in registers.
    """
    n = host().lanes(str(source.dtype))

    def build(context, builder, signature, arguments):
        vector = ir.VectorType(context.get_data_type(source.dtype), n)

        def row(base: Any, r: int) -> Any:
            at = builder.gep(base, [ir.Constant(_int, 2 * n * r)])
            return builder.bitcast(at, vector.as_pointer())

        rows = [builder.load(row(arguments[0], r)) for r in range(n)]
        stage = 1
        while stage < n:
            odd = [lane & stage for lane in range(n)]
            low = [lane + (n - stage if o else 0) for lane, o in enumerate(odd)]
            high = [x + stage for x in low]
            masks = [ir.Constant(ir.VectorType(ir.IntType(32), n), m) for m in (low, high)]
            for r in range(n):
                if not r & stage:
                    a, b = rows[r], rows[r + stage]
                    rows[r] = builder.shuffle_vector(a, b, masks[0])
                    rows[r + stage] = builder.shuffle_vector(a, b, masks[1])
            stage *= 2
        for r, value in enumerate(rows):
            builder.store(value, row(arguments[1], r))
        return context.get_dummy_value()

    return types.void(source, destination), build


# ---- threads ----


@intrinsic
def atomic_add(typing, pointer, n):
    """Add n to the integer; returns what it was."""

    def build(context, builder, signature, arguments):
        return builder.atomic_rmw("add", *arguments, "acq_rel")

    return types.int64(pointer, types.int64), build


@intrinsic
def atomic_load(typing, pointer):
    """The integer, and with it what was written before it was."""

    def build(context, builder, signature, arguments):
        return builder.load_atomic(arguments[0], "acquire", 8)

    return types.int64(pointer), build


@intrinsic
def atomic_store(typing, pointer, n):
    """Set the integer, after all that was written before."""

    def build(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], arguments[0], "release", 8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64), build


@intrinsic
def relax(typing):
    """A turn of a waiting loop."""
    arm = host().triple.startswith(("aarch64", "arm64"))

    def build(context, builder, signature, arguments):
        number = [ir.Constant(ir.IntType(32), 1)] if arm else []
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in number])
        name = "llvm.aarch64.hint" if arm else "llvm.x86.sse2.pause"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), number)
        return context.get_dummy_value()

    return types.void(), build


@intrinsic
def call(typing, address, arguments):
    """Call the C function at this address, which returns nothing of interest, with a tuple."""

    def build(context, builder, signature, values):
        given = cgutils.unpack_tuple(builder, values[1])
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in given])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), build
