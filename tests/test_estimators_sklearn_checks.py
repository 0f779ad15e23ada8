"""scikit-learn's own checks of estimators, with no expected failures."""

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import sklearn.neural_network
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_sample_weight_equivalence_on_dense_data,
    parametrize_with_checks,
)

import fastbp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [
        fastbp.MLPClassifier(max_iter=100),
        fastbp.MLPRegressor(max_iter=100),
        fastbp.MLPClassifier(max_iter=100, solver="lbfgs"),
        fastbp.MLPRegressor(max_iter=100, solver="lbfgs"),
    ]
)
def test_checks(estimator, check):
    check(estimator)


def test_sample_weight_equivalence_of_a_stochastic_solver():
    # With the parameters of scikit-learn's own test: minibatches of repeated rows are not those of
    # weighted rows, so the check can only hold about the optimum.
    estimator = fastbp.MLPRegressor(solver="sgd", tol=1e-2, random_state=42)
    check_sample_weight_equivalence_on_dense_data("MLPRegressor", estimator)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_tags_are_those_of_scikit_learn(name):
    ours, theirs = (getattr(m, name)() for m in (fastbp, sklearn.neural_network))
    assert get_tags(ours) == get_tags(theirs)
