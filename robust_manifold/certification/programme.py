"""The nearest image that one prototype takes, up to a stated gap, and why none nearer.

An image x is taken by w_j where it is as near to it as to every prototype w_i of its
own class.  Each of these is a half-space of steps δ, 2 (w_j - w_i) · δ >= ‖x - w_j‖² -
‖x - w_i‖², so the nearest taken image solves a linear programme in ℓ∞ and ℓ1, a
quadratic one in ℓ2.  Few half-spaces matter: they are added as steps violate them.

Any weighted mean of half-spaces holds all that they share.  Its distance is therefore a
lower bound, whatever the weights, and the multipliers of the programme make it exact.
"""

from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
from jaxtyping import Float

from robust_manifold.certification.half_space import ORDER, nearest
from robust_manifold.core.norms import Norm

_FIRST, _MORE, _ROUNDS, _NEWTON = 6, 4, 40, 50
_GAP = 1e-7
"""Share of the distance by which the bounds may differ when the search ends."""


class Programme(NamedTuple):
    """One image, one prototype of another class, all of its own class."""

    normals: Float[np.ndarray, "own pixels"]
    """2 (w_j - w_i)."""
    offsets: Float[np.ndarray, " own"]
    """‖x - w_j‖² - ‖x - w_i‖²."""
    inside: Float[np.ndarray, " pixels"]
    """The step w_j - x, which every half-space holds."""
    low: Float[np.ndarray, " pixels"]
    high: Float[np.ndarray, " pixels"]
    norm: Norm
    error: float
    """The most by which an offset is rounded."""


class Bounds(NamedTuple):
    """What is known of the nearest image that a prototype takes."""

    lower: float
    """No step that is shorter is taken, rounding included."""
    upper: float
    """The length of `step`."""
    step: Float[np.ndarray, " pixels"]
    """That leads to where the prototype is as near as the own class."""


class _Solved(NamedTuple):
    weights: Float[np.ndarray, " rows"]
    step: Float[np.ndarray, " pixels"]


def solve(programme: Programme, enough: float = np.inf) -> Bounds:
    """Returns bounds of the distance; the search ends once it exceeds `enough`."""
    lengths = np.linalg.norm(programme.normals, axis=1)
    depth = _shares(programme.offsets, lengths)
    rows = np.argsort(-depth)[:_FIRST]
    upper, best = np.inf, programme.inside
    # One half-space may be enough, and costs little.
    lower = max(lower_bound(programme, rows[[k]], np.ones(1)) for k in range(len(rows)))
    if lower >= enough:
        return Bounds(lower, upper, best)
    for _ in range(_ROUNDS):
        solved = _solve_rows(programme, rows, enough)
        lower = max(lower, lower_bound(programme, rows, solved.weights))
        # An infinite bound tells that rounding alone is left of a half-space.
        lower = min(
            lower, float(np.linalg.norm(programme.inside, ORDER[programme.norm]))
        )
        step = _mended(programme, solved.step)
        length = float(np.linalg.norm(step, ORDER[programme.norm]))
        if length < upper:
            upper, best = length, step
        missing = programme.offsets - programme.normals @ solved.step
        depth = _shares(missing, lengths)
        new = np.setdiff1d(np.argsort(-depth)[:_MORE], rows)
        new = new[depth[new] > 0]
        if lower >= enough or upper <= lower * (1 + _GAP) or not new.size:
            break
        rows = np.concatenate([rows, new])
    return Bounds(min(lower, upper), upper, best)


def lower_bound(programme: Programme, rows, weights) -> float:
    """Returns a distance that no taken image is nearer than, for any weights >= 0.

    Rounding of the mean half-space is taken off its offset: each entry of the normal
    may be off by some units of the largest, which counts with the length of a step
    that is at most as long as the one to the prototype itself.
    """
    weights = np.maximum(weights, 0)
    if not np.sum(weights) > 0:
        return 0.0
    weights = weights / np.sum(weights)
    unit = np.finfo(np.float64).eps
    normal = weights @ programme.normals[rows]
    longest = programme.inside.size * np.max(np.abs(programme.inside))
    if programme.norm != "linf":
        longest = np.sqrt(programme.inside.size) * np.linalg.norm(programme.inside)
    if programme.norm == "l1":
        longest = np.sum(np.abs(programme.inside))
    entry = (len(rows) + 8) * unit * np.max(np.abs(programme.normals[rows]))
    offset = weights @ programme.offsets[rows] - programme.error - entry * longest
    found = nearest(normal, offset, programme.low, programme.high, programme.norm)
    return found.distance * (1 - 4 * (programme.inside.size + 16) * unit)


def _solve_rows(programme: Programme, rows, enough: float) -> _Solved:
    if programme.norm == "linf":
        return _widening(programme, rows, enough)
    return (_quadratic if programme.norm == "l2" else _linear)(programme, rows)


def _linear(programme: Programme, rows) -> _Solved:
    """Returns multipliers and step of the shortest in ℓ1 that some half-spaces hold."""
    normals, offsets = programme.normals[rows], programme.offsets[rows]
    n = normals.shape[1]
    # The step is the difference of two parts, each 0 or more, within the box.
    ends = np.concatenate([programme.high, -programme.low])
    found = scipy.optimize.linprog(
        np.ones(2 * n),
        A_ub=np.concatenate([-normals, normals], axis=1),
        b_ub=-offsets,
        bounds=np.stack([np.zeros(2 * n), ends], axis=1),
    )
    if found.x is None:
        # Rounding alone can leave no step: that to the prototype always is one.
        return _Solved(np.zeros(len(rows)), programme.inside)
    return _Solved(-found.ineqlin.marginals, found.x[:n] - found.x[n:])


def _widening(programme: Programme, rows, enough: float) -> _Solved:
    """Returns those in ℓ∞: a cube is widened until it meets all of the half-spaces.

    The step in the cube that lacks least is a programme of as many rows as there are
    half-spaces.  Its multipliers tell how wide the cube must be at least, by
    `nearest`; that is Newton's method on a convex function, and ends after a few.  Past
    `enough` it stops.
    """
    normals, offsets = programme.normals[rows], programme.offsets[rows]
    weights, step, width = np.eye(len(rows))[0], programme.inside, 0.0
    for _ in range(_NEWTON):
        wider = nearest(
            weights @ normals, weights @ offsets, programme.low, programme.high, "linf"
        ).distance
        if not width * (1 + 1e-9) < wider < enough:
            break
        width = wider
        ends = np.clip([-width, width], programme.low[:, None], programme.high[:, None])
        found = scipy.optimize.linprog(
            np.append(np.zeros(len(step)), 1.0),
            A_ub=np.append(-normals, -np.ones((len(rows), 1)), axis=1),
            b_ub=-offsets,
            bounds=np.append(ends, [[-np.inf, np.inf]], axis=0),
        )
        if found.x is None:
            break
        weights, step = np.maximum(-found.ineqlin.marginals, 0), found.x[:-1]
    return _Solved(weights, step)


def _quadratic(programme: Programme, rows) -> _Solved:
    """Returns those of the quadratic programme, by Newton's method on its dual.

    With multipliers u the step is clip(u · normals), and the dual is quadratic where
    no pixel comes to its bound or leaves it.  Each piece is solved by non-negative
    least squares; without a box there is one.
    """
    normals, offsets = programme.normals[rows], programme.offsets[rows]

    def at(weights):
        free = weights @ normals
        step = np.clip(free, programme.low, programme.high)
        value = weights @ offsets + np.sum(step * (step / 2 - free))
        return value, step, (free > programme.low) & (free < programme.high)

    # Half-spaces may be alike, or one of them none at all.
    ridge = 1e-12 * np.max(np.sum(normals**2, 1))
    weights = np.zeros(len(rows))
    value, step, moves = at(weights)
    for _ in range(_NEWTON):
        slope = offsets - normals @ step
        held = normals[:, moves]
        curvature = held @ held.T
        curvature[np.diag_indices_from(curvature)] += ridge
        factor = np.linalg.cholesky(curvature)
        target = scipy.linalg.solve_triangular(
            factor, slope + curvature @ weights, lower=True
        )
        try:
            wanted, _ = scipy.optimize.nnls(factor.T, target)
        except RuntimeError:
            break
        way, share = wanted - weights, 1.0
        found = at(wanted)
        while found[0] <= value and share > 1e-6:
            share /= 2
            found = at(weights + share * way)
        gain = found[0] - value
        if gain <= 0:
            break
        weights = weights + share * way
        value, step, moves = found
        if gain <= 1e-14 * abs(value):
            break
    return _Solved(weights, step)


def _mended(programme: Programme, step) -> Float[np.ndarray, " pixels"]:
    """Returns the step, moved towards the prototype until it is taken."""
    gained, most = programme.normals @ step, programme.normals @ programme.inside
    missing = programme.offsets - gained
    share = np.max(_shares(missing, most - gained), initial=0.0)
    return step + min(float(share), 1.0) * (programme.inside - step)


def _shares(parts, of) -> Float[np.ndarray, " own"]:
    """Returns parts / of, and 0 where the latter is not above 0."""
    return np.divide(parts, of, out=np.zeros_like(parts), where=of > 0)
