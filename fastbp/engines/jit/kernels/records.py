"""The records of layout.py as Numba types whose fields are read and written in place.

A record is known by its address. Its type carries the engine's dtype, and so do its pointers: that
is how the kernels, generic over dtypes, learn theirs.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.imputils import lower_getattr_generic, lower_setattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import models, register_model

from fastbp.engines.jit.layout import RECORDS

REALS = {"float32": types.float32, "float64": types.float64}


class RecordType(types.Type):
    """The record `record` of layout.RECORDS in an engine of this dtype."""

    def __init__(self, record: str, dtype: str) -> None:
        super().__init__(name=f"{record}[{dtype}]")
        self.size = 8 * len(RECORDS[record])
        self.fields = {
            name: (i, self._field_type(kind, dtype))
            for i, (name, kind) in enumerate(RECORDS[record])
        }

    def _field_type(self, kind: str, dtype: str) -> Any:
        if not kind.endswith("*"):
            return {"i8": types.int64, "f8": types.float64}[kind]
        pointee = kind[:-1]
        if pointee in RECORDS:
            return types.CPointer(record_type(pointee, dtype))
        return types.CPointer(REALS[dtype] if pointee == "real" else self._field_type(pointee, ""))


@functools.cache
def record_type(record: str, dtype: str) -> RecordType:
    """The type of the record `record` in an engine of this dtype."""
    return RecordType(record, dtype)


@register_model(RecordType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64).as_pointer())


@infer_getattr
class _Fields(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, record: RecordType, field: str) -> Any:
        return record.fields[field][1] if field in record.fields else None


def _place(context: Any, builder: Any, record: RecordType, value: Any, field: str) -> Any:
    index, kind = record.fields[field]
    at = builder.gep(value, [ir.Constant(ir.IntType(64), index)])
    return builder.bitcast(at, context.get_value_type(kind).as_pointer())


@lower_getattr_generic(RecordType)
def _get(context: Any, builder: Any, record: RecordType, value: Any, field: str) -> Any:
    return builder.load(_place(context, builder, record, value, field))


@lower_setattr_generic(RecordType)
def _set(context: Any, builder: Any, signature: Any, arguments: Any, field: str) -> None:
    record, kind = signature.args
    value, new = arguments
    wanted = record.fields[field][1]
    new = context.cast(builder, new, kind, wanted)
    builder.store(new, _place(context, builder, record, value, field))
