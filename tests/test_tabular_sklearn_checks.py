"""scikit-learn's own checks of the tabular estimators."""

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

from sklearn.utils.estimator_checks import parametrize_with_checks

import fastbp

SMALL = {"hidden_layer_sizes": (32,), "epochs": 60, "n_members": 1, "random_state": 0}


@parametrize_with_checks(
    [
        fastbp.TabularClassifier(**SMALL),
        fastbp.TabularRegressor(**SMALL),
        fastbp.TabularClassifier(
            "mlp", epochs=60, random_state=0, validation_fraction=0, n_members=2
        ),
        fastbp.TabularRegressor("realmlp-s", n_folds=2, **SMALL),
    ],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": (
            "minibatches, first values and validation rows of repeated rows are others than those of "
            "weighted ones; scikit-learn says so of its own stochastic estimators"
        )
    },
)
def test_checks(estimator, check):
    check(estimator)
