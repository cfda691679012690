import numpy as np
import pytest
import scipy.optimize

from builder.synthesis.maxent import PROOF, TOLERANCE, project


def kl(weights):
    positive = weights[weights > 0]
    return float((positive * np.log(positive * len(weights))).sum())


def random_case(seed):
    """A small problem, degenerate on purpose in some seeds: pure points, ties, zero shares."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 40)), int(rng.integers(2, 8))
    points = rng.dirichlet(np.full(k, rng.choice([0.05, 0.3, 1.0])), n)
    if seed % 4 == 1:
        points = np.eye(k)[rng.integers(0, k, n)]
    if seed % 4 == 2:
        points = np.rint(points * 4)
        points[points.sum(axis=1) == 0, 0] = 1
    points /= points.sum(axis=1, keepdims=True)
    target = rng.dirichlet(np.full(n, rng.choice([0.1, 1.0, 20.0]))) @ points
    if seed % 3 == 0:
        target = np.full(k, 1 / k)
    if seed % 11 == 0:
        target = np.where(np.arange(k) == 0, 0, target) + 1e-300
        target = np.where(target > 1e-200, target, 0)
    if not target.sum() > 0:
        target = np.eye(k)[0]
    cap = np.full(n, min(1.0, rng.choice([1.0, 1.5, 3.0, 10.0, 1e9]) / n))
    return points, target / target.sum(), cap


def smallest_miss(points, target, cap):
    """Smallest reachable max |miss|, by linear programming."""
    n, k = points.shape
    slack = np.ones((k, 1))
    solution = scipy.optimize.linprog(
        np.r_[np.zeros(n), 1],
        A_ub=np.block([[points.T, -slack], [-points.T, -slack]]),
        b_ub=np.r_[target, -target],
        A_eq=np.r_[np.ones(n), 0][None],
        b_eq=[1],
        bounds=[(0, float(c)) for c in cap] + [(0, None)],
        method="highs",
    )
    return solution.fun


def test_three_points_on_a_line_have_the_closed_form():
    # Shares 0, ½, 1 of the second class: weights ∝ 1, z, z², with mean ¾ at z² − z − 3 = 0.
    points = np.array([[1, 0], [0.5, 0.5], [0, 1]])
    z = (1 + np.sqrt(13)) / 2
    projection = project(points, np.array([0.25, 0.75]), np.ones(3))
    assert projection.feasible
    np.testing.assert_allclose(
        projection.weights, np.array([1, z, z * z]) / (1 + z + z * z), atol=1e-7
    )


def test_a_capped_point_hands_its_weight_on_by_tilting_the_others():
    # Shares 0, ½, 1, 1 with mean 0.8: free, the pure points want 0.352 each. At their cap of ⅓
    # they give ⅔, so ½ w₂ = 0.8 − ⅔.
    points = np.array([[1, 0], [0.5, 0.5], [0, 1], [0, 1]])
    projection = project(points, np.array([0.2, 0.8]), np.full(4, 1 / 3))
    assert projection.feasible
    np.testing.assert_allclose(projection.weights, [1 / 15, 4 / 15, 1 / 3, 1 / 3], atol=1e-7)


def test_a_cap_is_not_the_same_as_cutting_off_and_rescaling():
    rng = np.random.default_rng(0)
    points = rng.dirichlet(np.full(3, 0.4), 60)
    target = np.array([0.55, 0.25, 0.2])
    cap = np.full(60, 2.8 / 60)
    free = project(points, target, np.ones(60)).weights
    assert free.max() > cap[0]
    cut = np.minimum(free, cap)
    cut /= cut.sum()
    assert np.abs(cut @ points - target).max() > 0.005
    projection = project(points, target, cap)
    assert projection.feasible
    assert np.abs(projection.weights @ points - target).max() < 1e-7
    assert projection.weights.max() <= cap[0] * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_no_generic_solver_finds_weights_nearer_to_uniform(seed):
    rng = np.random.default_rng(seed)
    points = rng.dirichlet(np.full(3, 0.7), 14)
    target = 0.5 * points.mean(axis=0) + 0.5 * rng.dirichlet(np.full(14, 1.0)) @ points
    cap = np.full(14, 1.0 if seed % 2 else 2.5 / 14)
    projection = project(points, target, cap)
    generic = scipy.optimize.minimize(
        lambda w: (w * np.log(np.maximum(w, 1e-15) * 14)).sum(),
        np.full(14, 1 / 14),
        jac=lambda w: np.log(np.maximum(w, 1e-15) * 14) + 1,
        bounds=[(0, float(c)) for c in cap],
        constraints={"type": "eq", "fun": lambda w: points.T @ w - target},
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert projection.feasible == generic.success
    if projection.feasible:
        assert kl(projection.weights) <= kl(np.clip(generic.x, 0, None)) + 1e-6
        np.testing.assert_allclose(projection.weights, generic.x, atol=2e-4)


def test_random_problems_agree_with_linear_programming_on_what_can_be_met():
    met = 0
    for seed in range(300):
        points, target, cap = random_case(seed)
        projection = project(points, target, cap)
        miss = smallest_miss(points, target, cap)
        assert abs(projection.weights.sum() - 1) < 1e-9, seed
        assert (projection.weights <= cap * (1 + 1e-9)).all(), seed
        assert (projection.weights >= 0).all(), seed
        if not 1e-7 < miss < 2 * TOLERANCE:
            assert projection.feasible == (miss <= 1e-7), seed
        actual = np.linalg.norm(target - projection.weights @ points)
        assert actual == pytest.approx(projection.distance, abs=1e-9), seed
        if projection.feasible:
            met += 1
            assert np.abs(target - projection.weights @ points).max() <= TOLERANCE, seed
        else:
            # Nearest: no weights can come nearer than `bound`, and these are within PROOF of it.
            assert -1e-9 <= projection.distance - projection.bound <= PROOF + 1e-9, seed
            assert projection.bound >= miss - PROOF, seed
    assert 100 < met < 250


def test_the_nearest_mean_of_an_unreachable_target_is_the_least_squares_one():
    rng = np.random.default_rng(3)
    points = rng.dirichlet([4, 3, 0.3], 30)
    target = np.array([0.1, 0.1, 0.8])
    cap = np.full(30, 0.1)
    projection = project(points, target, cap)
    nearest = scipy.optimize.minimize(
        lambda w: ((points.T @ w - target) ** 2).sum(),
        np.full(30, 1 / 30),
        jac=lambda w: 2 * points @ (points.T @ w - target),
        bounds=[(0, 0.1)] * 30,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    assert not projection.feasible
    assert projection.distance == pytest.approx(np.sqrt(nearest.fun), abs=1e-5)


def test_a_share_of_zero_removes_the_points_that_hold_the_class():
    points = np.array([[0.5, 0.5, 0], [1, 0, 0], [0, 1, 0], [0.4, 0.5, 0.1]])
    projection = project(points, np.array([0.5, 0.5, 0]), np.ones(4))
    assert projection.feasible
    np.testing.assert_allclose(projection.weights, [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-7)


def test_caps_that_leave_no_choice_give_the_caps():
    points = np.eye(4)
    projection = project(points, np.array([0.7, 0.1, 0.1, 0.1]), np.full(4, 0.25))
    np.testing.assert_allclose(projection.weights, 0.25, atol=1e-12)
    assert not projection.feasible
    assert projection.distance == pytest.approx(np.sqrt(0.45**2 + 3 * 0.15**2))


def test_a_prior_is_what_the_weights_stay_close_to():
    points = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    prior = np.array([1, 3, 2, 8])
    projection = project(points, np.array([0.5, 0.5]), np.ones(4), prior=prior)
    assert projection.feasible
    # Within a class nothing but the prior tells points apart.
    np.testing.assert_allclose(projection.weights, [1 / 8, 3 / 8, 1 / 10, 4 / 10], atol=1e-7)
    capped = project(points, np.array([0.5, 0.5]), np.full(4, 0.3), prior=prior)
    np.testing.assert_allclose(capped.weights, [0.2, 0.3, 0.2, 0.3], atol=1e-7)


def test_a_point_of_prior_three_is_three_points_of_prior_one():
    rng = np.random.default_rng(2)
    points = rng.dirichlet(np.full(4, 0.5), 12)
    target = rng.dirichlet(np.full(12, 1.0)) @ points
    times = rng.integers(1, 4, 12)
    cap = 0.25
    once = project(points, target, cap * np.ones(12), prior=times.astype(float))
    many = project(np.repeat(points, times, axis=0), target, np.repeat(cap / times, times))
    assert once.feasible
    assert many.feasible
    np.testing.assert_allclose(once.weights, times * many.weights[np.cumsum(times) - 1], atol=1e-6)


def test_equal_points_get_equal_weights():
    points = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    projection = project(points, np.array([0.5, 0.5]), np.ones(5))
    np.testing.assert_allclose(projection.weights, [1 / 6, 1 / 4, 1 / 4, 1 / 6, 1 / 6], atol=1e-7)
