"""A network trained here lives anywhere, and one trained elsewhere can be trained on here.

Every way out starts from a `description.Network`, plain data taken from a model, and every way in ends
with one. Each target is a file: `onnx_out`, `onnx_in`, `skl2onnx_converter`, `pytorch`, `keras`,
`sklearn`, `state` (names and safetensors), `c_source`, `python_source`. `methods` are the methods that
models have of them; the libraries are imported when one is called.
"""

from __future__ import annotations

from typing import Any

__all__ = ["register_skl2onnx"]


def __getattr__(name: str) -> Any:
    """Import skl2onnx when its converter is first asked for."""
    if name == "register_skl2onnx":
        from fastbp.exchange.skl2onnx_converter import register_skl2onnx

        return register_skl2onnx
    raise AttributeError(f"module 'fastbp.exchange' has no attribute {name!r}")
