"""Data that is not scaled drives probabilities to 0 and 1: reported losses are then scikit-learn's too.

Its log losses take p to be in [ε, 1 − ε]. That bounds the loss curve, and changes the line search of
L-BFGS.
"""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

import sklearn.neural_network

import fastbp
from fastbp.data import load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits()
X, Y = X[:400].astype(np.float64) * 50, Y[:400]  # some rows start above 36 = −log ε


def both(**parameters):
    parameters = {"max_iter": 5, "random_state": 0} | parameters
    return [
        module.MLPClassifier(**parameters).fit(X, Y) for module in (sklearn.neural_network, fastbp)
    ]


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_loss_curve(solver):
    theirs, ours = both(solver=solver, learning_rate_init=1e-4)
    assert max(theirs.loss_curve_) > 10  # a mean that rows at the bound make
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_line_search():
    theirs, ours = both(solver="lbfgs")
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-6)
