"""The numerical parts against independent computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import OptimizeResult, check_grad
from scipy.stats import norm, rankdata

from optuna_deepweeds.samplers import gaussian_process
from optuna_deepweeds.samplers.acquisition import log_expected_improvement
from optuna_deepweeds.samplers.blend import Blend, earned_weights
from optuna_deepweeds.samplers.dngo import NetworkSurrogate, train_networks
from optuna_deepweeds.samplers.forest import RegressionForest
from optuna_deepweeds.samplers.gaussian_process import (
    GaussianProcess,
    Kernel,
    fit_kernel,
    representatives,
)
from optuna_deepweeds.samplers.targets import average_ranks, clipped_values, normal_scores


@pytest.mark.parametrize("sd", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("z", [-6.0, -2.0, -1.0, -0.999, 0.0, 0.7, 4.0])
def test_log_expected_improvement_agrees_with_quadrature(z: float, sd: float) -> None:
    incumbent = 1.5
    mean = incumbent + z * sd
    integral, _ = quad(
        lambda u: (mean + sd * u - incumbent) * norm.pdf(u), -z, -z + 12.0, epsabs=0, limit=200
    )
    got = log_expected_improvement(np.array([mean]), np.array([sd]), incumbent)[0]
    assert got == pytest.approx(np.log(integral), abs=1e-6), (z, sd)


def test_log_expected_improvement_stays_finite_and_ordered_in_the_far_tail() -> None:
    z = -np.logspace(-1, 7, 400)
    values = log_expected_improvement(z, np.ones_like(z), 0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) < 0).all()
    # There is no step where the formulas for the tail and the far tail meet.
    low, high = log_expected_improvement(np.array([-1e3 - 1e-7, -1e3 + 1e-7]), np.ones(2), 0.0)
    assert high - low == pytest.approx(2e-4, abs=1e-4)


def _data(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(3).random((n, 4))
    return X, _truth(X)


def _truth(X: np.ndarray) -> np.ndarray:
    return np.sin(4 * X[:, 0]) + X[:, 1] ** 2


@pytest.mark.parametrize("min_samples_leaf", [1, 4])
def test_forest_mean_and_variance_are_those_over_its_trees(min_samples_leaf: int) -> None:
    X, y = _data()
    forest = RegressionForest(n_trees=7, min_samples_leaf=min_samples_leaf)
    forest.fit(X, y, np.random.default_rng(0))
    points = np.random.default_rng(1).random((9, 4))
    mean, variance = forest.predict(points)
    for i, point in enumerate(points[:, None]):
        predictions = [tree.predict(point)[0] for tree in forest._trees]
        within = [tree.tree_.impurity[tree.apply(point)[0]] for tree in forest._trees]
        assert mean[i] == pytest.approx(np.mean(predictions))
        assert variance[i] == pytest.approx(max(np.var(predictions) + np.mean(within), 1e-6))


def test_out_of_bag_predictions_come_from_trees_grown_without_the_observation() -> None:
    X, y = _data(30)
    forest = RegressionForest(n_trees=6).fit(X, y, np.random.default_rng(0))
    wanted = np.array([7, 0, 21])
    for i, expected in zip(wanted, forest.out_of_bag(wanted), strict=True):
        without = [
            float(tree.predict(X[i : i + 1])[0])
            for tree, rows in zip(forest._trees, forest._bags, strict=True)
            if i not in rows
        ]
        assert expected == pytest.approx(np.mean(without) if without else y.mean())


def test_process_interpolates_and_grows_uncertain_away_from_data() -> None:
    F, y = _data()
    y -= y.mean()
    process = GaussianProcess(F, y, fit_kernel(F, y))
    mean, variance = process.predict(F)
    assert mean == pytest.approx(y, abs=0.05)
    assert process.predict(F + 3.0)[1].min() > 10 * variance.max()


def test_process_foretells_each_observation_from_the_others() -> None:
    F, y = _data(20)
    kernel = Kernel(np.full(4, 0.6), 0.3, 0.6, np.arange(4))
    process = GaussianProcess(F, y, kernel)
    K = kernel.covariances(F, F) + 0.6 * np.eye(len(F))
    for row, foretold in zip(process.rows, process.leave_one_out(), strict=True):
        others = np.arange(len(y)) != row
        weights = np.linalg.solve(K[np.ix_(others, others)], K[others, row])
        assert foretold == pytest.approx(y.mean() + weights @ (y[others] - y.mean()), abs=1e-6)


def test_representatives_are_the_best_and_what_lies_apart() -> None:
    rng = np.random.default_rng(0)
    crowd = rng.normal(0.5, 0.01, size=(300, 3))
    corners = np.array([[a, b, c] for a in (0.0, 1.0) for b in (0.0, 1.0) for c in (0.0, 1.0)])
    F = np.concatenate([crowd, corners])
    y = np.concatenate([rng.random(300), np.full(8, -1.0)])
    rows = representatives(F, y, 40)
    assert len(set(rows.tolist())) == 40
    assert set(range(300, 308)) <= set(rows.tolist())
    assert set(np.argsort(-y)[:20].tolist()) <= set(rows.tolist())
    assert sorted(representatives(F, y, 400).tolist()) == list(range(308))


def test_parts_of_a_blend_earn_their_weights_by_foresight() -> None:
    y = np.random.default_rng(0).normal(size=50)
    good, poor = y + 0.1, y + 0.5
    weights = earned_weights([good, poor], y)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] > 0.99
    assert earned_weights([poor, poor], y) == pytest.approx([0.5, 0.5])
    assert np.isfinite(earned_weights([y, y], y)).all()


class _Constant:
    """A surrogate that says the same everywhere."""

    def __init__(self, mean: float, variance: float) -> None:
        self._mean, self._variance = mean, variance

    def predict(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(X), self._mean), np.full(len(X), self._variance)


@pytest.mark.parametrize(
    ("second", "weights", "expected"),
    [
        # E[variance] + Var[mean] = 2.5 + 0.25 * 1.5**2 + 0.75 * 0.5**2
        ((2.0, 3.0), [0.25, 0.75], (1.5, 3.25)),
        ((9.0, 5.0), [0.99, 0.01], (0.0, 1.0)),  # with hardly any weight it is not asked
    ],
)
def test_a_blend_is_the_mixture_of_its_parts(
    second: tuple[float, float], weights: list[float], expected: tuple[float, float]
) -> None:
    blend = Blend([_Constant(0.0, 1.0), _Constant(*second)], np.array(weights))
    for got, wanted in zip(blend.predict(np.zeros((2, 1))), expected, strict=True):
        assert got.tolist() == [wanted, wanted]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_covariance_is_that_of_all_parameters_and_of_each_alone(dtype: type) -> None:
    rng = np.random.default_rng(0)
    A, B = rng.integers(0, 3, (30, 4)) / 2.0, rng.integers(0, 3, (20, 4)) / 2.0
    lengths, groups = np.array([0.4, 0.9, 0.9, 2.0]), np.array([0, 1, 1, 2])
    kernel = Kernel(lengths, 0.3, 0.1, groups)

    def matern(r: np.ndarray) -> np.ndarray:
        return (1 + 5**0.5 * r + 5 / 3 * r**2) * np.exp(-(5**0.5) * r)

    squares = ((A[:, None] - B[None]) / lengths) ** 2
    alone = [matern(np.sqrt(1.5 * squares[:, :, groups == g].sum(axis=2))) for g in range(3)]
    expected = 0.7 * matern(np.sqrt(squares.sum(axis=2))) + 0.1 * np.sum(alone, axis=0)
    covariance = kernel.covariances(A, B, dtype)
    assert covariance.dtype == dtype
    assert covariance == pytest.approx(expected, abs=1e-6)


def test_the_fit_of_a_kernel_tells_parameters_that_act_alone_from_those_that_interact() -> None:
    F = np.random.default_rng(0).random((80, 3))
    waves = np.sin(5 * F)
    acting, interacting = (
        fit_kernel(F, y - y.mean()).alone for y in (waves.sum(axis=1), waves.prod(axis=1))
    )
    assert acting > 0.8
    assert interacting < 0.5


@pytest.mark.parametrize("groups", [None, np.array([0, 0, 1, 2])])
def test_process_finds_which_inputs_matter(groups: np.ndarray | None) -> None:
    F, y = _data()
    lengths = fit_kernel(F, y - y.mean(), groups).lengths
    assert lengths[:2].max() < lengths[2:].min()
    # Columns of one parameter share their length.
    assert (lengths[0] == lengths[1]) == (groups is not None)


@pytest.mark.parametrize("groups", [None, np.array([0, 1, 1, 2])])
def test_the_fit_of_a_kernel_follows_a_correct_gradient(
    monkeypatch: pytest.MonkeyPatch, groups: np.ndarray | None
) -> None:
    F, y = _data(15)
    errors = []

    def check(loss: Any, start: np.ndarray, **_options: Any) -> OptimizeResult:
        errors.append(check_grad(lambda t: loss(t)[0], lambda t: loss(t)[1], start + 0.3))
        return OptimizeResult(x=start)

    monkeypatch.setattr(gaussian_process, "minimize", check)
    fit_kernel(F, y, groups)
    assert errors and max(errors) < 1e-3


def _network(F: np.ndarray, y: np.ndarray, n_trained: int | None = None) -> NetworkSurrogate:
    """Networks of the first observations, with heads that have seen all."""
    rng = np.random.default_rng(0)
    networks = train_networks(F[:n_trained], y[:n_trained], rng, n_networks=3)
    return NetworkSurrogate(networks, F, y)


def test_network_learns_a_smooth_function_and_is_surer_at_the_data() -> None:
    F, y = _data(100)
    network = _network(F, y)
    points = np.random.default_rng(5).random((200, 4))
    assert np.corrcoef(network.predict(points)[0], _truth(points))[0, 1] > 0.95
    at_data, away = network.predict(F)[1], network.predict(F + 1.5)[1]
    assert np.median(away) > 4 * np.median(at_data)


def test_heads_of_trained_networks_take_new_observations() -> None:
    F, y = _data(100)
    few, many = _network(F[:50], y[:50]), _network(F, y, n_trained=50)
    assert ((many.predict(F)[0] - y) ** 2).mean() < ((few.predict(F)[0] - y) ** 2).mean()


def test_network_takes_constant_values() -> None:
    F, _ = _data(20)
    mean, variance = _network(F, np.full(20, 2.0)).predict(F)
    assert mean == pytest.approx(2.0, abs=0.05)
    assert (variance > 0).all()


def test_ranks_compare_columns_in_turn_and_share_ties() -> None:
    outcomes = np.array([[2.0, 5.0], [0.0, 9.0], [2.0, 7.0], [0.0, 9.0]])
    assert average_ranks(outcomes).tolist() == [3.0, 1.5, 4.0, 1.5]
    values = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    assert average_ranks(values[:, None]) == pytest.approx(rankdata(values))


def test_normal_scores_are_standardised_and_blind_to_monotone_changes() -> None:
    values = np.random.default_rng(0).lognormal(size=40)
    scores, of_logs = (normal_scores(average_ranks(v[:, None])) for v in (values, np.log(values)))
    assert (scores.mean(), scores.std()) == pytest.approx((0.0, 1.0))
    assert scores == pytest.approx(of_logs)
    assert normal_scores(average_ranks(np.ones((5, 1)))).tolist() == [0.0] * 5


def test_clipped_values_keep_the_differences_between_good_ones() -> None:
    values = np.r_[np.linspace(0.0, 1.0, 11), -1e6, np.nan, np.inf, -np.inf]
    clipped = clipped_values(values)
    assert clipped.std() == pytest.approx(1.0)
    assert (np.diff(clipped[:11]) > 0.05).all()
    assert clipped[11] == clipped[12] == clipped[14] == clipped.min()
    assert clipped[13] == clipped[10] == clipped.max()


@pytest.mark.parametrize("values", [np.full(4, 3.0), np.full(4, np.nan), np.empty(0)])
def test_clipped_values_without_differences_are_zero(values: np.ndarray) -> None:
    assert not clipped_values(values).any()
