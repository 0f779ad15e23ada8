"""Drop-in replacements of scikit-learn's MLPClassifier and MLPRegressor, trained by fastbp's engines.

_base.py holds what the two share: inputs, predictions; classifier.py and regressor.py what sets them
apart; fitting.py, rows.py and solver.py what a fit by a stochastic solver is; lbfgs.py the solver
that is no SGD; prediction.py the engines that are kept; parallel.py threads, and fits side by side.
`import fastbp` imports none of it: the names are looked up when they are first used.
"""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fastbp's MLPClassifier, MLPRegressor and fit_many need scikit-learn: "
        "pip install 'fastbp[sklearn]'"
    ) from error

from fastbp.estimators.classifier import MLPClassifier
from fastbp.estimators.parallel import fit_many
from fastbp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "fit_many"]
