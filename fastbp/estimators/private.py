"""All that is taken of scikit-learn without its promise to keep it.

These names are not of its public interface: any release may move or change them. So `pyproject.toml`
bounds its version from above, and what a new release breaks is mended here.
"""

from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call as check_partial_fit_first_call
from sklearn.utils.optimize import _check_optimize_result as check_optimize_result
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

__all__ = [
    "Interval",
    "StrOptions",
    "check_optimize_result",
    "check_partial_fit_first_call",
    "check_sample_weight",
    "constraints_of",
]


def constraints_of(estimator: Any) -> dict[str, list[Any]]:
    """What scikit-learn says of each parameter of one of its estimators, in a dict of one's own."""
    return dict(estimator._parameter_constraints)
