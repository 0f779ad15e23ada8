"""Tables as people have them: reading files and frames, and encoding their columns for a network.

    files, frames → parts (reading, frames) → encoding (learning, encoding) → network (model)

NumPy is enough for NPY and NPZ files; everything else comes with ``pip install "fastbp[tables]"``.

Examples
--------
>>> import numpy as np
>>> from fastbp.tables import TableEncoder
>>> encoder = TableEncoder().fit({"size": [1.0, 2.0, np.nan, 4.0], "kind": ["a", "b", "a", "a"]})
>>> encoder.get_feature_names_out().tolist()
['size', 'size=missing', 'kind=a', 'kind=b']
"""

from typing import TYPE_CHECKING, Any

from fastbp.tables.model import TableModel, load

if TYPE_CHECKING:
    from fastbp.tables.encoder import TableEncoder as TableEncoder

__all__ = ["TableModel", "load"]


def __getattr__(name: str) -> Any:
    """Import scikit-learn when the transformer is first asked for."""
    if name == "TableEncoder":
        from fastbp.tables.encoder import TableEncoder

        return TableEncoder
    raise AttributeError(f"module 'fastbp.tables' has no attribute {name!r}")
