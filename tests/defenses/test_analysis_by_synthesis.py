"""Analysis by synthesis on linear decoders, whose bounds have a closed form.

With G_c(z) = a_c + B_c z the best bound is the log likelihood of x under the normal
distribution of mean a_c and covariance B_c B_c^T + deviation^2 I, without a constant.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner, SpannerParams
from robust_manifold.core.prior import STANDARD_NORMAL, ClassesInTurn
from robust_manifold.defenses import AnalysisBySynthesis, DefenseParams, Networks

KEY = jax.random.key(0)
CLASSES, SIZE, PIXELS, SHAPE = 3, 2, 6, (2, 3, 1)
RNG = np.random.default_rng(0)
MEANS = RNG.uniform(0.3, 0.7, (CLASSES, PIXELS)).astype(np.float32)
BASES = RNG.normal(0, 0.2, (CLASSES, PIXELS, SIZE)).astype(np.float32)
IMAGE = jnp.asarray(RNG.uniform(0.2, 0.8, SHAPE), jnp.float32)
PARAMS = DefenseParams({"generator": SpannerParams((MEANS, BASES))}, None)
DEVIATION = 0.3


def generate(params, latent):
    return generate_class(params, latent[:SIZE], jnp.argmax(latent[SIZE:]))


def generate_class(params, latent, number):
    means, bases = (jnp.asarray(leaf) for leaf in params)
    return (means[number] + bases[number] @ latent).reshape(SHAPE)


def networks(*, own):
    """A conditional generator, with one of each class's own or without."""
    return Networks(
        generator=Spanner(
            generate,
            (SIZE + CLASSES,),
            ClassesInTurn(STANDARD_NORMAL, CLASSES),
            generate_class=generate_class if own else None,
        )
    )


def abs_with(**fields):
    # One step of Levenberg-Marquardt is a least squares solution, but for its damping.
    solver = "levenberg_marquardt(steps=12)"
    given = {"solver": solver, "draws": 50, "deviation": DEVIATION, "classes": CLASSES}
    return AnalysisBySynthesis(**(given | fields))


def exact(image, deviation=DEVIATION):
    """The bounds, and their slopes in the image."""
    bounds, slopes = [], []
    for mean, basis in zip(MEANS, BASES, strict=True):
        spread = basis @ basis.T + deviation**2 * np.eye(PIXELS)
        away = np.asarray(image).reshape(-1) - mean
        solved = np.linalg.solve(spread.astype(float), away)
        bounds.append(-away @ solved / 2)
        slopes.append(-solved)
    return np.asarray(bounds), np.asarray(slopes)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("solver", ["levenberg_marquardt(steps=12)", "lbfgs(steps=30)"])
def test_logits_are_the_bounds(own, solver):
    defence = abs_with(solver=solver, scale=0.25)
    bound = networks(own=own).bind(PARAMS.networks)
    found = jax.jit(lambda x: defence.defend(KEY, bound, None, x))(IMAGE)
    want, _ = exact(IMAGE)
    np.testing.assert_allclose(found.output, want / 4, rtol=1e-4)
    np.testing.assert_allclose(found.details.bounds, want, rtol=1e-4)
    np.testing.assert_array_equal(found.purified, IMAGE)
    best = int(np.argmax(want))
    latent = found.details.latents[best]
    np.testing.assert_allclose(
        found.details.image, generate_class((MEANS, BASES), latent, best), rtol=1e-5
    )


@pytest.mark.parametrize("view", ["straight_through", "unrolled"])
def test_slopes_are_those_of_the_closed_form(view):
    """What the minimum is worth moves as if the latents stood still."""
    adversary = defenses.adversaries.build(view)
    apply = adversary.view(abs_with(), networks(own=True), _same)
    slopes = jax.jit(jax.jacrev(lambda x: apply(PARAMS, x, KEY)))(IMAGE)
    _, want = exact(IMAGE)
    np.testing.assert_allclose(slopes.reshape(CLASSES, PIXELS), want, rtol=2e-3)


def test_a_search_that_ends_early_is_led_through_by_unrolling_alone():
    """One small step is far from the minimum, and latents then move with the image."""
    defence = abs_with(solver="gradient_descent(steps=1, learning_rate=0.05)", draws=1)
    slopes = {}
    for view in ("straight_through", "unrolled"):
        adversary = defenses.adversaries.build(view)
        apply = adversary.view(defence, networks(own=True), _same)
        slopes[view] = jax.jacrev(lambda x, f=apply: f(PARAMS, x, KEY))(IMAGE)
    apply = defenses.defended_apply(defence, networks(own=True), _same)
    flat, step = IMAGE.reshape(-1), 1e-2
    moved = [
        (
            apply(PARAMS, (flat + step * unit).reshape(SHAPE), KEY)
            - apply(PARAMS, (flat - step * unit).reshape(SHAPE), KEY)
        )
        / (2 * step)
        for unit in jnp.eye(PIXELS)
    ]
    want = np.stack(moved, axis=1)
    unrolled = slopes["unrolled"].reshape(CLASSES, PIXELS)
    np.testing.assert_allclose(unrolled, want, rtol=2e-3, atol=2e-3)
    fixed = slopes["straight_through"].reshape(CLASSES, PIXELS)
    assert np.abs(fixed - want).max() > 0.01


def test_binary_pixels_are_what_is_explained():
    defence = abs_with(binary=True)
    bound = networks(own=True).bind(PARAMS.networks)
    found = defence.defend(KEY, bound, None, IMAGE)
    rounded = np.where(IMAGE > 0.5, 1.0, 0.0)
    np.testing.assert_array_equal(found.purified, rounded)
    np.testing.assert_allclose(found.output, exact(rounded)[0], rtol=1e-4)
    through = defenses.adversaries.build("straight_through")
    apply = through.view(defence, networks(own=True), _same)
    slopes = jax.jacrev(lambda x: apply(PARAMS, x, KEY))(IMAGE)
    want = exact(rounded)[1]
    np.testing.assert_allclose(slopes.reshape(CLASSES, PIXELS), want, rtol=2e-3)


def test_the_best_draw_is_where_the_search_begins():
    """A step of length 0 leaves it there."""
    draws = 200
    defence = abs_with(
        solver="gradient_descent(steps=1, learning_rate=1e-30)", draws=draws
    )
    bound = networks(own=True).bind(PARAMS.networks)
    found = defence.purify(KEY, bound, IMAGE).details
    drawn = np.asarray(jax.random.normal(jax.random.key(0), (draws, SIZE)))
    for number in range(CLASSES):
        away = MEANS[number] + drawn @ BASES[number].T - np.asarray(IMAGE).reshape(-1)
        regret = (drawn**2).sum(1) / 2
        bounds = -(away**2).sum(1) / (2 * DEVIATION**2) - regret
        np.testing.assert_allclose(found.bounds[number], bounds.max(), rtol=1e-4)


def test_its_cost():
    """Two passes a step for each class, and two of each bound."""
    defence = AnalysisBySynthesis(solver="gradient_descent(steps=7)")
    assert defence.passes(8 + 10) == 10 * (7 * 2 + 2)
    assert defence.unrolled_passes(8 + 10) == 3 * 10 * (7 * 2 + 2)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"draws": 0}, "draws is 0; allowed: a whole number, 1 or more"),
        ({"classes": 1}, "classes is 1; allowed: a whole number, 2 or more"),
        ({"deviation": 0.0}, "deviation is 0.0; allowed: a finite number above 0"),
        ({"scale": float("inf")}, "scale is inf; allowed: a finite number above 0"),
        ({"solver": "adam(penalty=0.1)"}, "penalty 0.1; allowed: 0, the deviation"),
        ({"solver": "adam(forward='bfloat16')"}, "'bfloat16'; allowed: 'float32'"),
    ],
)
def test_what_is_refused(fields, sentence):
    with pytest.raises(UsageError, match="AnalysisBySynthesis") as error:
        abs_with(**fields)
    assert sentence in str(error.value)


def test_a_generator_without_these_classes_is_refused():
    with pytest.raises(UsageError, match=r"classes is 10; allowed: 3, the generator's"):
        defenses.defended_apply(abs_with(classes=10), networks(own=True), _same)
    plain = Spanner(lambda params, z: (params @ z).reshape(SHAPE), (SIZE,))
    with pytest.raises(UsageError, match="knows of no classes; allowed: a class-cond"):
        defenses.defended_apply(abs_with(), Networks(generator=plain), _same)
    bound = Networks(generator=plain).bind({"generator": SpannerParams(BASES[0])})
    with pytest.raises(UsageError, match="knows of no classes; allowed: a class-cond"):
        abs_with().defend(KEY, bound, None, IMAGE)


def _same(params, image):
    del params
    return image


def test_a_manifold_of_one_class():
    whole = networks(own=False).bind(PARAMS.networks)["generator"]
    alone = networks(own=True).bind(PARAMS.networks)["generator"]
    assert isinstance(whole, Manifold)
    latent = jnp.asarray([0.5, -1.0])
    for number in range(CLASSES):
        want = generate_class((MEANS, BASES), latent, number)
        for manifold in (whole, alone):
            one = manifold.of_class(number)
            assert (one.latent_shape, one.prior) == ((SIZE,), STANDARD_NORMAL)
            np.testing.assert_allclose(one.generate(latent), want, rtol=1e-6)
    for number in (-1, CLASSES):
        with pytest.raises(UsageError, match=f"number is {number}; allowed: 0 to 2"):
            whole.of_class(number)


def test_its_text_reads_back():
    defence = dataclasses.replace(abs_with(binary=True), scale=0.5)
    text = defenses.registry.to_string(defence)
    assert defenses.registry.build(text) == defence
