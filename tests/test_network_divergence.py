"""`fastbp.MLP` where losses are not finite: who is told, what is kept."""

import numpy as np
import pytest
from network_cases import TARGETS, X, regressor

import fastbp


def test_divergence_names_the_epoch_and_keeps_its_starting_weights():
    model = regressor()
    kept = []
    with pytest.raises(
        fastbp.DivergenceError, match=r"epoch 4 of 9: the loss became .* at step 2 of 2;"
    ) as raised:
        model.fit(
            X,
            TARGETS,
            epochs=9,
            batch_size=30,
            learning_rate=lambda step: 1e-3 if step < 6 else 1e30,
            callbacks=[lambda model, history: kept.append(model.parameters)],
        )
    assert isinstance(raised.value, ArithmeticError)
    assert len(kept) == 3
    for p, q in zip(model.parameters, kept[2], strict=True):
        np.testing.assert_array_equal(p, q)
    assert model.fit(X, TARGETS, epochs=1).stopped == "epochs"


def test_divergence_in_the_last_step_of_all_is_noticed():
    # One step: its loss, taken before the update, is finite; the weights after it are not.
    model = regressor()
    before = model.parameters
    for train in (
        lambda: model.fit(X, TARGETS, epochs=1, batch_size=60, learning_rate=1e300),
        lambda: model.partial_fit(X, TARGETS, batch_size=60, learning_rate=1e300),
    ):
        with pytest.raises(fastbp.DivergenceError, match="weight"):
            train()
        for p, q in zip(model.parameters, before, strict=True):
            np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("options", [{}, {"checkpoint": True}], ids=["", "checkpoint"])
def test_a_first_validation_loss_that_is_not_finite_is_divergence(options, tmp_path):
    """No later loss would be lower than NaN, and its weights would be restored at the end."""
    model = regressor()
    before = model.parameters
    path = tmp_path / "run.safetensors"
    if options:
        options = {"checkpoint": path}
    large = np.full((3, 2), 1e30)  # squared, it is infinite in float32, while training goes well
    with pytest.raises(
        fastbp.DivergenceError, match="epoch 1 of 9: the validation loss became inf; the weights"
    ):
        model.fit(X, TARGETS, epochs=9, validation=(X[:3], large), early_stopping=2, **options)
    assert model.history.epochs == 0
    assert not path.exists()
    for p, q in zip(model.parameters, before, strict=True):
        np.testing.assert_array_equal(p, q)
    # without early stopping nothing is chosen by it: the history tells
    assert model.fit(X, TARGETS, epochs=1, validation=(X[:3], large)).validation_loss == [np.inf]


def test_a_validation_loss_that_is_not_finite_is_never_the_best():
    """In training x = 0, so that a weight of 1e30 is seen by the validation alone."""
    model = fastbp.MLP([1, 1], loss="squared_error", weight_init="zeros")
    kept = []

    def spoil(model, history):
        kept.append(model.parameters)
        if history.epochs == 2:
            model.parameters = [[[1e30, 0]]]

    history = model.fit(
        [[0.0]], [1.0], epochs=9, validation=([[1.0]], [1.0]), early_stopping=3, callbacks=[spoil]
    )
    assert np.isinf(history.validation_loss[2:]).all()
    assert (history.best_epoch, history.epochs, history.stopped) == (1, 5, "early_stopping")
    np.testing.assert_array_equal(model.parameters[0], kept[1][0])
