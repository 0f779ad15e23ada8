"""`fastbp.MLP` from the outside: what it hands to the engine, keeps, and gives back."""

import copy
import math
import pickle
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from network_cases import CLASSES, LABELS, TARGETS, TRAIN, X, classifier, regressor, same_parameters

import fastbp
from fastbp import optimizers, schedules

# Construction


def test_one_hidden_unit_is_enough_for_classes():
    assert fastbp.MLP([4, 1, 3], seed=0).predict_proba(X).shape == (60, 3)


def test_same_seed_same_network_and_same_training():
    runs = [classifier(seed=3), classifier(seed=np.random.default_rng(3))]
    assert same_parameters(*runs)
    histories = [model.fit(X, LABELS, **TRAIN) for model in runs]
    assert same_parameters(*runs)
    assert histories[0].loss == histories[1].loss
    assert not same_parameters(runs[0], classifier(seed=4))


def test_options_reach_the_plan():
    relu, elu = fastbp.Activation("relu"), fastbp.Activation("elu", 0.5)
    model = fastbp.MLP(
        np.array([4, 5, 6, 2]),
        activation=["relu", elu],
        loss=fastbp.Loss("huber", 0.25),
        dropout=[0.1, 0.2],
        l1=0.01,
        l2=0.02,
        dtype=np.float64,
        threads=2,
    )
    plan = model.plan
    assert plan.layer_sizes == (4, 5, 6, 2)
    assert plan.activations == (relu, elu)
    assert plan.loss == fastbp.Loss("huber", 0.25)
    assert (plan.dropout, plan.l1, plan.l2) == ((0.1, 0.2), 0.01, 0.02)
    assert (plan.dtype, plan.threads) == ("float64", 2)
    assert fastbp.MLP([4, 5, 6, 2], dropout=0.5).plan.dropout == (0.5, 0.5)
    assert fastbp.MLP([4, 2]).plan.activations == ()


def test_label_smoothing_is_training_on_smoothed_distributions(tmp_path):
    smooth, hard = (classifier(label_smoothing=s, dtype="float64") for s in (0.3, 0.0))
    outputs = hard.plan.layer_sizes[-1]
    # 1 − s + s / n for the label, s / n for the others
    smoothed = np.full((len(X), outputs), 0.3 / outputs)
    smoothed[np.arange(len(X)), LABELS] += 0.7
    for model, y in ((smooth, LABELS), (hard, smoothed)):
        model.fit(X, y, epochs=3, shuffle=False)
    for a, b in zip(smooth.parameters, hard.parameters, strict=True):
        # the same sums of some 60 rows, of terms that are rounded otherwise, for 6 steps
        np.testing.assert_allclose(a, b, rtol=0, atol=6 * 60 * np.finfo(np.float64).eps)
    path = tmp_path / "model.safetensors"
    smooth.save(path)
    again = fastbp.MLP.load(path)
    assert again.plan.label_smoothing == 0.3
    assert again.loss(X, LABELS) == smooth.loss(X, LABELS)
    assert repr(again) == repr(smooth)
    assert "label_smoothing=0.3" in repr(smooth)
    for wrong, message in ((1.0, "1 excluded"), (-0.1, "label_smoothing must be"), ("a", "label_")):
        with pytest.raises((ValueError, TypeError), match=message):
            fastbp.MLP([4, 3], label_smoothing=wrong)
    with pytest.raises(ValueError, match="squared_error"):
        fastbp.MLP([4, 3], loss="squared_error", label_smoothing=0.1)


def test_threads_follow_the_setting_until_given():
    model = classifier()
    try:
        fastbp.set_num_threads(3)
        model.fit(X, LABELS, epochs=1)
        assert model.plan.threads == 3
    finally:
        fastbp.set_num_threads(None)
    assert classifier(threads=2).plan.threads == 2


def test_weight_init_arrays_are_copied():
    arrays = [np.ones((8, 5), np.float32), np.ones((CLASSES, 9), np.float32)]
    model = classifier(weight_init=arrays)
    arrays[0][...] = 5
    assert (model.parameters[0] == 1).all()


def test_repr_and_summary():
    model = fastbp.MLP([4, 8, 3, 2], activation=["relu", fastbp.Activation("elu", 0.5)], l2=0.1)
    assert repr(model) == (
        "MLP([4, 8, 3, 2], activation=['relu', Activation(name='elu', parameter=0.5)], "
        "loss='softmax_cross_entropy', l2=0.1, dtype='float32')"
    )
    wide = fastbp.MLP([1000, 1000, 1], dropout=0.25, loss="poisson", activation="tanh")
    assert repr(wide) == (
        "MLP([1000, 1000, 1], activation='tanh', loss='poisson', dropout=[0.25], dtype='float32')"
    )
    # 8 · 5 and 3 · 9 and 2 · 4 parameters; 1000 · 1001 and 1001
    assert model.summary().splitlines() == [
        "layer  shape  activation  dropout  parameters",
        "    1  4 → 8  relu              0          40",
        "    2  8 → 3  elu               0          27",
        "    3  3 → 2  softmax           0           8",
        "total                                      75",
        "loss softmax_cross_entropy, float32",
    ]
    assert wide.summary().splitlines() == [
        "layer  shape        activation  dropout  parameters",
        "    1  1000 → 1000  tanh           0.25   1,001,000",
        "    2  1000 → 1     exp               0       1,001",
        "total                                     1,002,001",
        "loss poisson, float32",
    ]


# Parameters


@pytest.mark.parametrize("used", [False, True])
def test_parameters_round_trip_in_both_forms(used):
    model = regressor()
    if used:
        model.predict(X)
    W = [np.full((8, 4), 0.5), np.full((2, 8), -0.25)]
    b = [np.arange(8.0), np.arange(2.0)]
    model.weights = W
    model.biases = b
    for got, w, bias in zip(model.parameters, W, b, strict=True):
        np.testing.assert_array_equal(got, np.column_stack([w, bias]))
    for got, w in zip(model.weights, W, strict=True):
        np.testing.assert_array_equal(got, w)
    for got, bias in zip(model.biases, b, strict=True):
        np.testing.assert_array_equal(got, bias)
    copies = model.parameters
    copies[0][...] = 9
    np.testing.assert_array_equal(model.weights[0], W[0])
    model.parameters = copies
    assert (model.parameters[0] == 9).all()
    copies[0][...] = 1
    assert (model.parameters[0] == 9).all()


# Prediction


def test_predictions_follow_from_the_output():
    model = classifier(dtype="float64")
    f = model.forward(X)[0][-1]
    np.testing.assert_array_equal(model.predict(X), f.argmax(axis=1))
    assert model.predict(X).dtype == np.int64
    p = np.exp(f) / np.exp(f).sum(axis=1, keepdims=True)
    # A dot product of length ≤ 9 and an exp or two apart: within 64 roundings of values near 1.
    np.testing.assert_allclose(model.predict_proba(X), p, rtol=64 * np.finfo(float).eps)


@pytest.mark.parametrize("outputs", [1, 3])
def test_binary_predictions(outputs):
    model = fastbp.MLP([4, 8, outputs], loss="binary_cross_entropy", seed=0, dtype="float64")
    f = model.forward(X)[0][-1]
    shape = (60,) if outputs == 1 else (60, outputs)
    np.testing.assert_array_equal(model.predict(X), (f > 0).astype(int).reshape(shape))
    np.testing.assert_allclose(
        model.predict_proba(X), 1 / (1 + np.exp(-f.reshape(shape))), rtol=64 * np.finfo(float).eps
    )


def test_regression_predictions_and_their_shapes():
    assert regressor().predict(X).shape == (60, 2)
    one = fastbp.MLP([4, 1], loss="squared_error", seed=0)
    assert one.predict(X).shape == (60,)
    counts = fastbp.MLP([4, 1], loss="poisson", seed=0, dtype="float64")
    f = counts.forward(X)[0][-1][:, 0]
    np.testing.assert_allclose(counts.predict(X), np.exp(f), rtol=64 * np.finfo(float).eps)


def test_no_rows():
    none = X[:0]
    assert classifier().predict(none).shape == (0,)
    assert classifier().predict_proba(none).shape == (0, CLASSES)
    assert regressor().predict(none).shape == (0, 2)
    assert regressor().jacobian(none).shape == (0, 2, 4)
    assert regressor().loss(none, TARGETS[:0]) == 0
    assert classifier().loss(none, []) == 0
    assert not any(g.any() for g in regressor().gradient(none, TARGETS[:0]))
    z, v = regressor().forward(none)
    assert [a.shape for a in z + v] == [(0, 8), (0, 2), (0, 5), (0, 9)]


def test_forward_gives_every_value():
    model = regressor(activation="tanh", dtype="float64")
    z, v = model.forward(X)
    np.testing.assert_array_equal(v[0], np.column_stack([X, np.ones(60)]))
    for layer, W in enumerate(model.parameters):
        # A dot product of length k is within k eps of the sum of magnitudes.
        bound = (W.shape[1] + 1) * np.finfo(float).eps * (np.abs(v[layer]) @ np.abs(W.T))
        assert (np.abs(z[layer] - v[layer] @ W.T) <= bound).all()
    np.testing.assert_array_equal(v[1], np.column_stack([np.tanh(z[0]), np.ones(60)]))


def test_gradient_split_is_the_gradient():
    model = regressor()
    whole = model.gradient(X, TARGETS)
    weights, biases = model.gradient(X, TARGETS, split=True)
    for g, w, b in zip(whole, weights, biases, strict=True):
        np.testing.assert_array_equal(g, np.column_stack([w, b]))


def test_gradient_and_jacobian_match_differences():
    model = regressor(activation="tanh", dtype="float64", l2=0.1)
    h = np.finfo(float).eps ** (1 / 3)  # balances rounding, eps / h, and truncation, h²
    W = model.parameters
    gradient = model.gradient(X, TARGETS)
    for layer, (i, j) in [(0, (2, 1)), (0, (3, 4)), (1, (1, 0)), (1, (0, 8))]:
        ends = []
        for sign in (1, -1):
            moved = [w.copy() for w in W]
            moved[layer][i, j] += sign * h
            model.parameters = moved
            ends.append(model.loss(X, TARGETS))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert gradient[layer][i, j] == pytest.approx(slope, abs=100 * h * h)
    model.parameters = W
    step = np.eye(4) * h
    columns = [(model.predict(X[:5] + s) - model.predict(X[:5] - s)) / (2 * h) for s in step]
    np.testing.assert_allclose(model.jacobian(X[:5]), np.stack(columns, axis=2), atol=100 * h * h)


# Training


def test_learns_and_records():
    model = classifier()
    history = model.fit(
        X,
        LABELS,
        epochs=40,
        batch_size=8,
        optimizer="adam",
        learning_rate=0.02,
        validation=(X, LABELS),
    )
    assert history.epochs == 40
    assert history.stopped == "epochs"
    assert history.score_name == "accuracy"
    assert history.loss[-1] < 0.3 * history.loss[0]
    assert history.validation_loss[-1] == model.loss(X, LABELS)
    assert history.validation_score[-1] == np.mean(model.predict(X) == LABELS) > 0.9
    assert history.learning_rate == [0.02] * 40
    assert min(history.seconds) > 0
    assert min(history.samples_per_second) > 0


def test_the_seconds_of_the_epochs_are_within_those_of_the_call():
    start = time.perf_counter()
    history = regressor().fit(X, TARGETS)
    assert 0 < sum(history.seconds) <= time.perf_counter() - start
    assert len(history.seconds) == history.epochs == 10
    for seconds, speed in zip(history.seconds, history.samples_per_second, strict=True):
        assert speed == 60 / seconds


def test_plain_sgd_epoch_is_gradient_steps_in_order():
    model, by_hand = regressor(dtype="float64"), regressor(dtype="float64")
    rates = [0.1, 0.05, 0.025]
    history = model.fit(
        X, TARGETS, epochs=1, batch_size=25, shuffle=False, learning_rate=lambda s: rates[s]
    )
    losses = []
    for rate, rows in zip(rates, (slice(0, 25), slice(25, 50), slice(50, 60)), strict=True):
        losses.append(by_hand.loss(X[rows], TARGETS[rows]))
        gradient = by_hand.gradient(X[rows], TARGETS[rows])
        by_hand.parameters = [
            p - rate * g for p, g in zip(by_hand.parameters, gradient, strict=True)
        ]
    # Three steps; a gradient is a sum over ≤ 25 rows of products of sums of length ≤ 9.
    tolerance = 3 * 25 * 9 * np.finfo(float).eps
    for a, b in zip(model.parameters, by_hand.parameters, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    assert history.loss == [pytest.approx(np.dot(losses, [25, 25, 10]) / 60, rel=tolerance)]
    assert history.learning_rate == [0.025]


def test_epoch_loss_is_weighted_by_the_steps_weights():
    model = regressor(dtype="float64")
    w = np.linspace(0, 1, 60)
    history = model.fit(
        X, TARGETS, epochs=1, batch_size=25, shuffle=False, learning_rate=0.0, sample_weight=w
    )
    # Nothing moves at rate 0, so the weighted mean over batches is that over all rows.
    assert history.loss[0] == pytest.approx(
        model.loss(X, TARGETS, w), rel=100 * np.finfo(float).eps
    )


def test_shuffle_takes_every_row_once_in_new_orders():
    model = regressor()
    orders = []
    engine = model._holder.use(model.plan)
    run = engine.epoch

    class Spy:
        def __getattr__(self, name):
            return getattr(engine, name)

        def epoch(self, X, y, w, order, *rest):
            orders.append(order.copy())
            return run(X, y, w, order, *rest)

    model._holder.engine = Spy()
    model.fit(X, TARGETS, epochs=3)
    assert len(orders) == 3
    for order in orders:
        assert order.dtype == np.int64
        np.testing.assert_array_equal(np.sort(order), np.arange(60))
    assert (orders[0] != orders[1]).any()
    assert (orders[1] != orders[2]).any()


def test_schedule_counts_steps_across_epochs_and_starts_anew_with_fit():
    model = regressor()
    schedule = schedules.InverseScaling(0.1)
    for _ in range(2):
        history = model.fit(X, TARGETS, epochs=3, batch_size=20, learning_rate=schedule)
        assert history.learning_rate == [schedule(2), schedule(5), schedule(8)]
    history = model.fit(X, TARGETS, epochs=1, batch_size=1, learning_rate=schedule)
    assert history.learning_rate == [schedules.rates(schedule, 0, 60)[59]]


def test_a_function_of_the_step_is_asked_from_0_on():
    seen = []
    regressor().fit(
        X, TARGETS, epochs=2, batch_size=20, learning_rate=lambda s: seen.append(s) or 0.1
    )
    assert sorted(set(seen)) == [0, 1, 2, 3, 4, 5]


def test_default_learning_rate_is_the_optimizers():
    history = regressor().fit(X, TARGETS, epochs=1, optimizer="rmsprop")
    assert history.learning_rate == [optimizers.RMSprop.default_learning_rate]


def test_validation_fraction_rows_are_not_trained_on():
    # Rows with target 1e3 set aside at the end: had they been seen, the loss would show it.
    y = np.where(np.arange(60)[:, None] < 45, TARGETS, 1e3)
    model = regressor()
    history = model.fit(X, y, validation=0.25, shuffle=False, **TRAIN)
    assert max(history.loss) < 100
    assert history.validation_loss[-1] == model.loss(X[45:], y[45:]) > 1e5
    assert history.score_name == "R2"
    again = regressor()
    again.fit(X[:45], TARGETS[:45], shuffle=False, **TRAIN)
    assert same_parameters(model, again)


def test_validation_weights_and_distributions():
    model = classifier()
    soft = np.eye(CLASSES)[LABELS]
    w = np.r_[np.ones(30), np.zeros(30)]
    history = model.fit(X, soft, validation=(X, soft, w), **TRAIN)
    right = (model.predict(X) == LABELS)[:30]
    assert history.validation_score[-1] == pytest.approx(right.mean(), rel=1e-12)
    assert history.validation_loss[-1] == model.loss(X, soft, w)


def test_r2_and_multi_label_accuracy():
    model = regressor(dtype="float64")
    history = model.fit(X, TARGETS, validation=(X, TARGETS), **TRAIN)
    y = TARGETS.astype(float)
    r2 = 1 - ((y - model.predict(X)) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    assert history.validation_score[-1] == pytest.approx(r2.mean(), rel=1e-12)

    several = fastbp.MLP([4, 8, 2], loss="binary_cross_entropy", seed=0)
    history = several.fit(X, TARGETS > 0, validation=(X, TARGETS > 0), **TRAIN)
    assert history.validation_score[-1] == pytest.approx(
        np.mean(several.predict(X) == (TARGETS > 0)), rel=1e-12
    )


def test_r2_of_constant_targets_is_undefined():
    one = fastbp.MLP([4, 1], loss="squared_error", seed=0)
    history = one.fit(X, TARGETS[:, 0], epochs=1, validation=(X, np.zeros(60)))
    assert math.isnan(history.validation_score[0])


def test_early_stopping_restores_the_best_weights():
    model = regressor()
    seen = []

    def spoil(model, history):  # from epoch 4 on, the model is ruined before the next epoch
        seen.append(model.parameters)
        if history.epochs >= 4:
            model.parameters = [p + 1 for p in model.parameters]

    history = model.fit(
        X,
        TARGETS,
        epochs=50,
        learning_rate=1e-3,
        validation=(X, TARGETS),
        early_stopping=4,
        callbacks=[spoil],
    )
    assert history.best_epoch == int(np.argmin(history.validation_loss)) == 3
    assert history.stopped == "early_stopping"
    assert history.epochs == 8
    for p, q in zip(model.parameters, seen[3], strict=True):
        np.testing.assert_array_equal(p, q)
    assert model.loss(X, TARGETS) == history.validation_loss[3]


def test_callback_stops():
    calls = []

    def stop(model, history):
        calls.append(history.epochs)
        return history.epochs == 2

    def truthy(model, history):
        return "not True itself"

    history = regressor().fit(X, TARGETS, epochs=9, callbacks=[truthy, stop])
    assert calls == [1, 2]
    assert history.stopped == "callback"


@pytest.mark.parametrize(
    ("answer", "stops"),
    [
        (True, True),
        (np.True_, True),
        (np.float32(2) > 1, True),
        (False, False),
        (np.False_, False),
        (None, False),
        (1, False),
        (np.int64(1), False),
        (np.array([True, False]), False),
        ([True], False),
    ],
    ids=repr,
)
def test_only_a_bool_that_is_true_stops(answer, stops):
    history = regressor().fit(X, TARGETS, epochs=3, callbacks=[lambda *_: answer])
    assert history.epochs == (1 if stops else 3)


def test_flags_may_be_numpy_bools(capsys):
    plain, numpys = regressor(), regressor()
    plain.fit(X, TARGETS, epochs=2, shuffle=False, progress=True)
    told = capsys.readouterr().out.count("epoch")
    numpys.fit(X, TARGETS, epochs=2, shuffle=np.False_, progress=np.True_)
    assert capsys.readouterr().out.count("epoch") == told == 2
    for p, q in zip(plain.parameters, numpys.parameters, strict=True):
        np.testing.assert_array_equal(p, q)
    assert len(plain.gradient(X, TARGETS, split=np.True_)) == 2


def test_progress_prints_a_line_an_epoch(capsys):
    classifier().fit(X, LABELS, epochs=3, validation=0.2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[2].startswith("epoch 3/3  loss ")
    assert "validation accuracy" in lines[2]
    assert lines[2].endswith("samples/s")
    regressor().fit(X, TARGETS, epochs=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_partial_fit_goes_on_where_the_last_call_ended(optimizer):
    schedule = schedules.InverseScaling(0.05)
    options = {"batch_size": 20, "optimizer": optimizer, "learning_rate": schedule}
    whole, parts = regressor(), regressor()
    history = whole.fit(X, TARGETS, epochs=3, shuffle=False, **options)
    losses = [parts.partial_fit(X, TARGETS, shuffle=False, **options) for _ in range(3)]
    assert losses == history.loss
    assert same_parameters(whole, parts)


def test_partial_fit_keeps_its_state_through_a_change_of_batch_size():
    whole, parts = regressor(), regressor()
    options = {"shuffle": False, "optimizer": "adam"}
    whole.fit(X[:40], TARGETS[:40], epochs=1, batch_size=20, **options)
    parts.partial_fit(X[:40], TARGETS[:40], batch_size=20, **options)
    whole.partial_fit(X[40:], TARGETS[40:], batch_size=10, **options)
    parts.partial_fit(X[40:], TARGETS[40:], batch_size=10, **options)
    assert same_parameters(whole, parts)
    step, slots = parts._holder.engine.get_optimizer_state()
    assert step == 4
    assert all(s.any() for slot in slots for s in slot)


def test_engine_is_kept_while_the_plan_is():
    model = regressor()
    model.fit(X, TARGETS, epochs=1)
    engine = model._holder.engine
    model.predict(X)
    model.fit(X, TARGETS, epochs=2)
    assert model._holder.engine is engine
    before = model.predict(X)
    model._holder.use(replace(model.plan, optimizer=fastbp.optimizers.get("adam"), batch_size=8))
    assert model._holder.engine is not engine
    np.testing.assert_array_equal(model.predict(X), before)


def test_batch_larger_than_the_data_is_the_data():
    a, b = regressor(), regressor()
    a.fit(X, TARGETS, epochs=2, batch_size=2**62)
    b.fit(X, TARGETS, epochs=2, batch_size=60)
    assert same_parameters(a, b)


# Copies, threads of the caller


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("trained", [False, True])
def test_a_copy_goes_on_alike_and_apart(clone, trained):
    model = regressor(dropout=0.2)
    if trained:
        model.fit(X, TARGETS, **TRAIN)
    twin = clone(model)
    assert same_parameters(model, twin)
    options = {"optimizer": "adam", "batch_size": 8}
    assert model.partial_fit(X, TARGETS, **options) == twin.partial_fit(X, TARGETS, **options)
    assert same_parameters(model, twin)
    twin.partial_fit(X, TARGETS)
    assert not same_parameters(model, twin)


def test_predictions_from_several_threads_at_once():
    model = classifier()
    expected = model.predict_proba(X)
    wrong = []

    def work():
        for _ in range(50):
            if not np.array_equal(model.predict_proba(X), expected):
                wrong.append(True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
