"""Maximum-entropy weights: the projection of prior weights onto mean shares and caps.

Find the weights w over n points c_i (rows of fractions) that stay as close to a prior q, often
the uniform weights, as mean shares t allow:

    minimise  Σ w_i log(w_i / q_i)   subject to   Σ w_i c_i = t,  0 ≤ w_i ≤ cap_i.

The answer is exponential tilting clipped at the cap, w_i = min(q_i exp(λ·c_i), cap_i), where λ,
one number per class whatever n is, minimises a smooth convex dual (Csiszár 1975, "I-divergence
geometry of probability distributions and minimization problems"; Boyd & Vandenberghe 2004,
"Convex Optimization", section 5.2.4). Σ w_i = 1 needs no constraint of its own, because fractions
sum to one. The cap is inside the dual, so capped weights are the projection itself, not a tilt
that is cut off and rescaled.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

TOLERANCE = 1e-4
"""A target is met when every mean share is this near to it: 0.01 %, the last digit of a plan.

A target inside the reachable region is met to 1e-7; the rest of the tolerance is for targets on
its edge, where the exact weights are a limit.
"""

PROOF = 1e-5
"""An unmet target's miss is within this of the smallest there is (Euclidean, in shares)."""

# The penalty on a miss is |miss|² / 2ε. Easy first: each stage starts from the last stage's λ.
_STAGES = tuple(10.0**-power for power in range(2, 11))
_EXACT = 1e-7
# Most Newton steps of one stage and of the finish without penalty; a dozen is usual.
_STEPS, _FINISH = 200, 30


@dataclass(frozen=True, eq=False)
class Projection:
    """Weights, (n,) float64 summing to 1, and how near their mean comes to the target."""

    weights: FloatArray
    feasible: bool
    """Every mean share is within TOLERANCE of the target."""
    distance: float
    """Euclidean distance from the target to the mean."""
    bound: float
    """No weights under the cap come nearer than this: above 0, the exact target is unreachable."""
    steps: int
    """Newton steps taken."""


def project(
    fractions: FloatArray,
    target: FloatArray,
    cap: FloatArray,
    *,
    prior: FloatArray | None = None,
    nearest: bool = True,
) -> Projection:
    """The weights under ``cap`` (n,) nearest to ``prior`` (n,) with mean ``target`` (k,).

    ``fractions`` is (n, k) float64, rows and target summing to 1; the caps must sum to 1 or more;
    the prior is positive, of any total, uniform when None. For a target out of reach the weights
    are those whose mean is nearest to it (Euclidean, to within PROOF) and, of those, nearest to
    the prior; without ``nearest`` they are any, which is faster when all that matters is whether
    the target can be met.
    """
    prior = np.ones(len(fractions)) if prior is None else prior
    # A share of exactly 0 is met by weight 0 only, which no finite λ gives: such points go first,
    # and where the rest cannot meet the target, nothing can.
    clean = ~(fractions[:, target == 0] > 0).any(axis=1)
    if clean.all():
        return _project(fractions, target, cap, prior, nearest=nearest)
    steps = 0
    if cap[clean].sum() >= 1:
        part = _project(fractions[clean], target, cap[clean], prior[clean], nearest=False)
        steps = part.steps
        if part.feasible:
            weights = np.zeros(len(fractions))
            weights[clean] = part.weights
            return replace(part, weights=weights)
    if not nearest:
        return Projection(np.minimum(cap, 1 / len(cap)), False, np.inf, 0.0, steps)
    whole = _project(fractions, target, cap, prior, reachable=False)
    return replace(whole, steps=steps + whole.steps)


def _project(
    fractions: FloatArray,
    target: FloatArray,
    cap: FloatArray,
    prior: FloatArray,
    *,
    nearest: bool = True,
    reachable: bool = True,
) -> Projection:
    """Minimise the dual by trust-region Newton steps.

    In x = w/q it reads Σ q_i φ*(λ·c_i) − λ·t, with φ*(s) = e^s − 1 up to s = log(cap/q) and the
    tangent there beyond. The term ε|Pλ|²/2 added to it is |miss|²/2ε in the primal; P leaves out
    the direction of the total, so the weights still sum to 1. ε shrinks until the target
    is in reach (then ε = 0 finishes) or until a separating direction proves that it is not.
    """
    from scipy.optimize import minimize  # slow to import, and most commands plan nothing

    live = fractions.any(axis=0) | (target > 0)
    c, t = np.ascontiguousarray(fractions[:, live]), target[live]
    k = len(t)
    q = prior / prior.sum()
    top = cap / q
    log_top = np.log(top)
    inside = np.eye(k) - 1 / k

    def value(lam: FloatArray, eps: float) -> tuple[float, FloatArray]:
        s = c @ lam
        x = np.exp(np.minimum(s, log_top))
        beyond = top * np.maximum(s - log_top, 0)
        pull = eps * (inside @ lam)
        weights = q * x
        return float(
            weights.sum() - 1 + q @ beyond - t @ lam + lam @ pull / 2
        ), weights @ c - t + pull

    def curvature(lam: FloatArray, eps: float) -> FloatArray:
        s = c @ lam
        weights = np.where(s < log_top, q * np.exp(np.minimum(s, log_top)), 0)
        # The ridge keeps the step's factorisation sound where all weights are 0 or at the cap.
        ridge = 1e-12 * np.eye(k)
        return np.asarray((c * weights[:, None]).T @ c + eps * inside + ridge, dtype=np.float64)

    lam, steps, bound = np.zeros(k), 0, 0.0

    def descend(start: FloatArray, eps: float) -> tuple[FloatArray, FloatArray]:
        nonlocal steps
        limit = _STEPS if eps else _FINISH
        options = {"gtol": 1e-9, "maxiter": limit, "max_trust_radius": 1e12}
        result = minimize(
            value, start, (eps,), "trust-exact", jac=True, hess=curvature, options=options
        )
        steps += result.nit
        return result.x, _weights(c @ result.x, log_top, q)

    for eps in _STAGES:
        lam, weights = descend(lam, eps)
        miss = t - weights @ c
        distance = float(np.linalg.norm(miss))
        if distance > 0:
            bound = max(bound, _separation(c, t, cap, miss / distance))
        if bound > 0 and (not nearest or distance - bound <= PROOF):
            break
        if bound == 0 and distance <= 1e-3 and reachable:
            exact = descend(lam, 0.0)[1]
            rest = t - exact @ c
            if np.abs(rest).max() <= _EXACT:
                return Projection(exact, True, float(np.linalg.norm(rest)), 0.0, steps)
    return Projection(weights, bool(np.abs(miss).max() <= TOLERANCE), distance, bound, steps)


def _weights(s: FloatArray, log_top: FloatArray, q: FloatArray) -> FloatArray:
    """q·min(exp(s + a), top) with a, the multiplier of the total, such that the sum is 1."""
    from scipy.optimize import brentq

    def excess(a: float) -> float:
        return float(q @ np.exp(np.minimum(s + a, log_top)) - 1)

    low, a = -float(s.max()) - 1, float((log_top - s).max())
    if excess(a) > 0:
        a = brentq(excess, low, a, xtol=1e-15, maxiter=1000)
    return np.asarray(q * np.exp(np.minimum(s + a, log_top)), dtype=np.float64)


def _separation(c: FloatArray, t: FloatArray, cap: FloatArray, direction: FloatArray) -> float:
    """How far along a unit ``direction`` the target lies beyond every reachable mean; else 0.

    The extreme mean fills the points that score highest, each to its cap, up to a total of 1.
    """
    score = c @ direction
    order = np.argsort(-score)
    filled = np.minimum(np.cumsum(cap[order]), 1.0)
    gap = float(t @ direction - np.diff(filled, prepend=0.0) @ score[order])
    return gap if gap > 1e-9 else 0.0
