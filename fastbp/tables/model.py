"""A network with the encoding of the table it was trained on, as one file; and `fastbp.load`.

One file holds both: the network as `fastbp.MLP.save` writes it, and in the header ``table``: version,
``encoding`` (`encoding.py`), ``target`` (`target.py`) and ``width`` (columns of an array without
names). Nothing of it is believed unchecked.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbp import model_file, saving
from fastbp.exchange.methods import FileExports
from fastbp.mlp import MLP
from fastbp.tables.encoding import Category, Column, Encoding, Number
from fastbp.tables.predictor import Predictor, checked
from fastbp.tables.target import Target

__all__ = ["TableModel", "load"]

VERSION = 1
Paths = str | os.PathLike[str]


@dataclass(frozen=True)
class TableModel(FileExports, Predictor):
    """A network that takes rows of a table.

    Attributes
    ----------
    network : MLP
    encoding : Encoding
        From columns to the network's inputs.
    target : Target
        What is predicted.
    width : int or None
        Number of columns, the target's included, if they were those of an array without names.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import fastbp
    >>> from fastbp.cli import main
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X = np.random.default_rng(0).normal(size=(200, 2))
    ...     np.savez(os.path.join(folder, "t.npz"), a=X[:, 0], b=X[:, 1], sum=X.sum(axis=1))
    ...     path = os.path.join(folder, "model.safetensors")
    ...     arguments = ["train", os.path.join(folder, "t.npz"), "--model", "plain", "--quiet"]
    ...     status = main([*arguments, "--target", "sum", "--save", path])  # doctest: +ELLIPSIS
    ...     model = fastbp.load(path)
    200 rows, 2 inputs: regression of 'sum'
    ...
    >>> bool(abs(model.predict({"b": [1.0], "a": [0.5]})[0] - 1.5) < 0.5)
    True
    """

    network: MLP
    encoding: Encoding
    target: Target
    width: int | None = None

    @property
    def encoder(self) -> Encoding:
        """`encoding`."""
        return self.encoding

    @property
    def dtype(self) -> str:
        """Of the network's inputs."""
        return self.network.plan.dtype

    def answers(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predictions of encoded rows, as the user reads them."""
        return self.target.answers(self.network.predict(X))

    def probabilities(self, X: NDArray[Any]) -> NDArray[Any]:
        """Of every class, of encoded rows."""
        return self.network.predict_proba(X)

    def save(self, path: Paths) -> None:
        """Save network and encoding to one file, which `fastbp.load` reads, and `fastbp.MLP.load`.

        Parameters
        ----------
        path : str or path-like
            An existing file is replaced once the new one is complete and on disk.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        table = {
            "version": VERSION,
            "encoding": self.encoding.to_dict(),
            "target": self.target.to_dict(),
            "width": self.width,
        }
        saving.save(path, self.network.plan, self.network.parameters, {"table": table})


def load(path: Paths, *, engine: str = "auto", threads: int | None = None) -> Any:
    """Load a model that ``fastbp train --save``, or `save` of a model of tables, wrote.

    Parameters
    ----------
    path : str or path-like
        Of older versions, which wrote a second file ``….json``, both are read.
    engine, threads
        As in `fastbp.MLP`; networks for tables choose their engine themselves.

    Returns
    -------
    TableModel or fastbp.tabular.TabularModel
        Of a network (``--model plain``), or of a network for tables; both predict from paths, frames,
        dicts of columns and arrays.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is damaged, no model of a table, or written by a newer fastbp.

    Examples
    --------
    See `fastbp.tables.model.TableModel`.
    """
    name = os.fspath(path)
    header = model_file.read(path)[0]
    if "tabular" in header:
        if engine != "auto":
            raise ValueError(f"{name!r} is a network for tables, which has engine 'auto' only")
        from fastbp.tabular import TabularModel

        return TabularModel.load(path, threads=threads)
    network = MLP.load(path, engine=engine, threads=threads)
    table = header.get("table")
    if table is None:
        beside = Path(f"{name}.json")
        if not beside.exists():
            raise ValueError(
                f"{name!r} is a network without a table's encoding: fastbp.MLP.load reads it"
            )
        try:
            return _from_pair(network, json.loads(beside.read_text(encoding="utf-8")))
        except (KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{str(beside)!r} is damaged: {error}") from None
    try:
        model = _from_header(network, table)
    except ValueError as error:
        raise ValueError(f"{name!r} cannot be used: {error}") from None
    return model


def _from_header(network: MLP, table: object) -> TableModel:
    table = checked(table, VERSION)
    encoding = Encoding.from_dict(table.get("encoding"))
    target = Target.from_dict(table.get("target"))
    width = table.get("width")
    if width is not None:
        inside = type(width) is int and width > len(encoding.columns)
        if not inside or not {*encoding.names, target.name} <= {str(j) for j in range(width)}:
            raise ValueError("its width does not fit its columns")
    return _fitting(TableModel(network, encoding, target, width))


def _fitting(model: TableModel) -> TableModel:
    """The model, if its parts fit each other."""
    sizes = model.network.plan.layer_sizes
    classes = model.target.classes
    outputs, loss = (1, "squared_error") if classes is None else (len(classes), "")
    loss = loss or "softmax_cross_entropy"
    if (sizes[0], sizes[-1]) != (len(model.encoding.inputs), outputs):
        raise ValueError("its encoding does not fit its network")
    if model.network.plan.loss.name != loss:
        raise ValueError(f"its network has another loss than {loss!r}")
    return model


def _from_pair(network: MLP, old: dict[str, Any]) -> TableModel:
    """Make a model from the second file of older versions.

    They standardised the inputs of categories, too: (x − mean) / scale, which here becomes part of
    the first layer, W / scale and b − W mean / scale.
    """
    columns: list[Column] = []
    features, mean, scale = old["features"], old["mean"], old["scale"]
    if not isinstance(features, dict):
        raise ValueError("its features are not named")
    width = sum(1 if c is None else len(c) for c in features.values())
    inputs = network.plan.layer_sizes[0]
    if not width == len(mean) == len(scale) == inputs or not all(map(float, scale)):
        raise ValueError("mean and scale do not fit the features and the network")
    parameters = network.parameters
    W, b = parameters[0][:, :-1].astype(np.float64), parameters[0][:, -1].astype(np.float64)
    j = 0
    for name, categories in features.items():
        if categories is None:
            columns.append(Number(name, float(mean[j]), 1 / float(scale[j])))
            j += 1
            continue
        columns.append(Category(name, tuple(categories)))
        for i in range(j, j + len(categories)):
            W[:, i] /= float(scale[i])
            b -= W[:, i] * float(mean[i])
        j += len(categories)
    classes = old["classes"]
    target = Target.from_dict(
        {
            "name": old["target"],
            "classes": classes,
            "center": old["target_mean"],
            "scale": old["target_scale"],
        }
    )
    # Checked as what comes from a new file is.
    encoding = Encoding.from_dict(Encoding(tuple(columns), clip=False).to_dict())
    names = {*encoding.names, target.name}
    of_array = names == {str(i) for i in range(len(names))}
    model = _fitting(TableModel(network, encoding, target, len(names) if of_array else None))
    parameters[0] = np.column_stack([W, b])
    network.parameters = parameters
    return model
