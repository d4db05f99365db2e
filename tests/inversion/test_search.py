"""Which runs go on, when an image stops, and where an encoder sends them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import inversion, models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner, SpannerParams
from robust_manifold.core.prior import ClassesInTurn, Normal
from robust_manifold.inversion import (
    LBFGS,
    Adam,
    GradientDescent,
    LevenbergMarquardt,
    Restarts,
    Status,
    invert_one,
)

KEY = jax.random.key(0)
STAY = GradientDescent(steps=4, learning_rate=1e-30)


def _invert(linear, images=None, **kwargs):
    settings = {"solver": STAY, "restarts": 4, "latent_shape": (3,)} | kwargs
    images = linear.images if images is None else images
    return inversion.invert(linear.generate, linear.params, images, key=KEY, **settings)


def _encode(params, image):
    """The least-squares latent, and a deviation of 0.01."""
    mean = params["pinv"] @ (image.reshape(-1) - params["b"])
    return jnp.concatenate([mean, jnp.full(3, 2 * np.log(0.01))])


def _encoder_params(linear):
    pinv = np.linalg.pinv(np.asarray(linear.params["A"], float).T)
    return {"pinv": jnp.asarray(pinv, jnp.float32), "b": linear.params["b"]}


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_the_better_half_goes_on(linear, penalty):
    """By error and penalty; a look at a latent comes before the step from it."""
    settings = {"solver": LevenbergMarquardt(6, damping=3.0, penalty=penalty)}
    whole = _invert(linear, **settings)
    halved = _invert(linear, restarts=Restarts(4, halve_at=(1,)), **settings)
    first = np.asarray(_invert(linear).restart_errors)
    differs = False
    for image in range(5):
        worth = first[image].copy()
        for restart in range(4):
            key = jax.random.fold_in(jax.random.fold_in(KEY, image), restart)
            square = jnp.mean(jax.random.normal(key, (3,)) ** 2)
            worth[restart] += penalty * float(square)
        kept = np.sort(np.argsort(worth)[:2])
        differs |= set(kept) != set(np.argsort(first[image])[:2])
        status = np.asarray(halved.restart_status[image])
        np.testing.assert_array_equal(np.flatnonzero(status == Status.FINISHED), kept)
        np.testing.assert_allclose(
            halved.restart_errors[image, kept], whole.restart_errors[image, kept], 1e-5
        )
        dropped = np.flatnonzero(status == Status.DROPPED)
        assert len(dropped) == 2
        np.testing.assert_allclose(
            halved.restart_errors[image, dropped], first[image, dropped], rtol=1e-5
        )
    assert differs == bool(penalty)


@pytest.mark.parametrize("solver", [LBFGS(60), LevenbergMarquardt(60)], ids=str)
def test_a_way_out_of_infinity_is_found(solver):
    """Steps that lead to infinite objectives are taken back."""
    solution = solver(
        lambda z: jnp.exp(jnp.exp(6 * z)).reshape(1, 1, 1),
        jnp.full((1, 1, 1), 1e4),
        jnp.full((1,), 0.3),
    )
    assert float(solution.error) < 1.0


def test_a_constraint_and_a_penalty_leave_the_class_alone():
    prior = ClassesInTurn(Normal(1.0, 2.0), 2)
    latent = jnp.array([5.0, 3.0, 9.0, -9.0])
    for text in ("box(reach=0.5)", "shell(0.0, 0.5)"):
        constraint = inversion.constraints_registry.build(text)
        np.testing.assert_array_equal(constraint.project(latent, prior)[2:], [9, -9])
        allowed = constraint.tangent(constraint.project(latent, prior), -latent, prior)
        np.testing.assert_array_equal(allowed(jnp.ones(4))[2:], [1, 1])
        assert (np.asarray(allowed(jnp.ones(4))[:2]) < 1).any()
    problem = inversion.InversionProblem(
        lambda z: z.reshape(1, 4, 1), jnp.zeros((1, 4, 1)), prior
    )
    np.testing.assert_allclose(problem.offsets(latent), [2.0, 1.0])
    regret = problem._replace(penalty=3.0).regret(latent)
    assert float(regret) == pytest.approx(3.0 * (4 + 1) / 2)
    found = LevenbergMarquardt(20, penalty=1e4)(
        problem.generate, problem.image, latent, prior
    )
    np.testing.assert_allclose(found.latent[:2], [1.0, 1.0], atol=1e-3)
    np.testing.assert_allclose(found.latent[2:], [0.0, 0.0], atol=1e-3)


@pytest.mark.parametrize(
    "count, kept", [(4, [4, 2, 1]), (5, [5, 3, 2]), (9, [9, 5, 3])]
)
def test_segments(count, kept):
    segments = list(Restarts(count, halve_at=(2, 5)).segments(9))
    assert [(s.steps, s.runs) for s in segments] == list(
        zip([2, 3, 4], kept, strict=True)
    )
    assert [tuple(s) for s in Restarts(4, halve_at=(2, 5)).segments(2)] == [(2, 4)]


def test_an_encoders_mean_comes_first_then_draws_about_it(linear):
    found = [
        _invert(
            linear,
            restarts=Restarts(4, encoded=encoded),
            encode=_encode,
            encoder_params=_encoder_params(linear),
        )
        for encoded in (None, 0, 3)
    ]
    by_default, none, three = (np.asarray(f.restart_errors) for f in found)
    np.testing.assert_allclose(by_default[:, 0], linear.errors, rtol=1e-4)
    np.testing.assert_array_equal(by_default[:, 1:], none[:, 1:])
    assert (none[:, 0] > 1.01 * linear.errors).all()
    np.testing.assert_array_equal(three[:, 3], none[:, 3])
    excess = three[:, 1:3] / linear.errors[:, None] - 1
    assert (excess > 1e-6).all() and (excess < 0.1).all()


def test_an_encoder_says_nothing_of_the_class():
    prior = ClassesInTurn(Normal(), 2)
    manifold = Manifold(
        lambda z: z.reshape(1, 4, 1),
        (4,),
        prior,
        lambda image: jnp.array([0.25, 0.75, -99.0, -99.0]),
    )
    found = Restarts(4, encoded=4).starts(manifold, jnp.zeros((1, 4, 1)), KEY)
    np.testing.assert_allclose(found[:, :2], [[0.25, 0.75]] * 4, atol=1e-6)
    np.testing.assert_array_equal(found[:, 2:].sum(axis=1), np.ones(4))
    assert len(np.unique(found[:, 2:], axis=0)) == 2


def test_an_encoder_of_another_size_is_refused(linear):
    with pytest.raises(UsageError, match=r"encode gives \(4,\); allowed: \(6,\)"):
        _invert(linear, encode=lambda _, image: jnp.zeros(4))


def test_an_image_stops_once_its_error_is_small():
    """One step a half nearer: the images need 1, 2, ... steps to be good enough."""
    halves = GradientDescent(steps=20, learning_rate=0.25, momentum=0.0, decay=1.0)

    def generate(params, latent):
        return latent.reshape(1, 1, 1)

    images = np.array([0.1, 0.3, 1.0], np.float32).reshape(3, 1, 1, 1)
    settings = {
        "key": KEY,
        "solver": halves,
        "restarts": Restarts(1, 0.0, enough=0.002),
        "latent_shape": (1,),
    }
    found = inversion.invert(generate, {}, images, **settings)
    np.testing.assert_array_equal(found.status, [Status.ENOUGH] * 3)
    # 0.1 / 2^2, 0.3 / 2^3 and 1 / 2^5 are the first whose squares are below; a latent
    # is looked at one step after it is found, and the last one at the end.
    for start, error in zip([0.1, 0.3, 1.0], np.asarray(found.error), strict=True):
        steps = np.arange(21)
        errors = (start / 2**steps) ** 2
        first = int(np.argmax(errors <= 0.002))
        np.testing.assert_allclose(error, errors[first + 1], rtol=1e-4)
    alone = [
        inversion.invert(generate, {}, images[k : k + 1], ids=np.array([k]), **settings)
        for k in range(3)
    ]
    np.testing.assert_array_equal([one.error[0] for one in alone], found.error)


def test_nothing_is_small_enough_by_default(linear):
    assert (np.asarray(_invert(linear).status) == Status.FINISHED).all()


def test_bfloat16_goes_through_the_generator_alone(linear):
    exact = _invert(linear, solver=LBFGS(20))
    rough = _invert(linear, solver=LBFGS(20, forward="bfloat16"))
    assert rough.image.dtype == jnp.float32
    again = np.mean((np.asarray(rough.image) - linear.images) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(rough.error, again, rtol=1e-5)
    assert (rough.error >= exact.error * (1 - 1e-5)).all()
    assert (rough.error <= exact.error * 1.05).all()
    assert (rough.error > exact.error * (1 + 1e-6)).any()
    with pytest.raises(UsageError, match="forward is 'bfloat16'"):
        invert_one(
            Manifold(lambda z: z.reshape(1, 1, 1), (1,)),
            jnp.zeros((1, 1, 1)),
            KEY,
            solver=LBFGS(forward="bfloat16"),
        )


def test_a_spanner_binds_both_networks():
    spanner = Spanner(lambda p, z: p * z, (2,), encode=lambda p, x: p + x)
    manifold = spanner.bind(SpannerParams(2.0, 3.0))
    assert manifold.generate(4.0) == 8.0 and manifold.encode(4.0) == 7.0
    assert Spanner(spanner.generate, (2,)).bind(SpannerParams(2.0)).encode is None


@pytest.mark.parametrize(
    "solver",
    [
        GradientDescent(300, 2.0),
        Adam(500, 0.05, "cosine"),
        LBFGS(20),
        LevenbergMarquardt(3),
        LevenbergMarquardt(4, linear="conjugate_gradients", iterations=4),
    ],
    ids=str,
)
def test_the_search_can_be_differentiated(linear, solver):
    """An attack on the whole defence needs this."""

    def error(image):
        manifold = Manifold(lambda z: linear.generate(linear.params, z), (3,))
        return invert_one(manifold, image, KEY, solver=solver, restarts=2).error

    image = jnp.asarray(linear.images[0])
    gradient = jax.grad(error)(image)
    # Of the squared distance from the range, the gradient is the residual itself.
    projection = _invert(linear, linear.images[:1], solver=LevenbergMarquardt(3)).image
    expected = 2 * (linear.images[0] - np.asarray(projection[0])) / image.size
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_a_search_does_not_know_the_batch_size():
    """To the last bit: many steps would amplify what rounding does."""
    model = models.build("dcgan_generator(latent_size=8, width=2)")
    images = np.random.default_rng(0).uniform(size=(9, 28, 28, 1)).astype(np.float32)
    whole, *others = (
        inversion.invert(
            model.apply,
            model.init(KEY),
            images,
            key=KEY,
            latent_shape=(8,),
            solver="lbfgs(steps=12)",
            restarts="restarts(count=2, halve_at=(4,))",
            batch_size=batch_size,
            tile=4,
        )
        for batch_size in (100, 7, 1)
    )
    for other in others:
        for one, two in zip(whole, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_defaults_and_texts():
    assert inversion.restarts_registry.to_string(Restarts(7)) == "7"
    text = inversion.restarts_registry.to_string(inversion.DEFAULT_RESTARTS)
    assert inversion.as_restarts(text) == inversion.DEFAULT_RESTARTS
    spec = dataclasses.replace(inversion.DEFAULT_SOLVER, constraint="box(2.0)")
    text = inversion.registry.to_string(spec)
    assert inversion.as_solver(text) == spec


def _trap(params, latent):
    """z to the right of 0; to its left 0.1, where the first step leads to NaN."""
    trapped = latent[0] < 0
    # The root of 0 is 0, but its slope times 0 is NaN.
    root = jnp.sqrt(jnp.where(trapped, 0 * latent[0], 1.0))
    pixel = jnp.where(trapped, 0.1 + root, params + latent[0])
    return pixel.reshape(1, 1, 1)


def _with_traps(solver, restarts, images=8):
    """Inverts black images, about half of whose starts are trapped."""
    return inversion.invert(
        _trap,
        jnp.float32(0.0),
        np.zeros((images, 1, 1, 1), np.float32),
        key=KEY,
        solver=solver,
        restarts=restarts,
        latent_shape=(1,),
    )


def test_runs_that_can_go_on_are_followed_before_those_that_died():
    """Half-way a trapped run is the better one, but it will never improve."""
    halves = GradientDescent(steps=20, learning_rate=0.25, momentum=0.0, decay=1.0)
    whole = _with_traps(halves, 4)
    halved = _with_traps(halves, Restarts(4, halve_at=(1, 2)))
    died = np.asarray(whole.restart_status) == Status.NON_FINITE
    some = ~died.all(axis=1)
    assert some.any() and (died.sum(axis=1) >= 2)[some].any()
    # Each start is halved by every step, and its square is the error.
    assert (np.asarray(halved.error)[some] < 1e-9).all()
    np.testing.assert_allclose(np.asarray(halved.error)[~some], 0.01, rtol=1e-5)
    kept = np.asarray(halved.restart_status) == Status.FINISHED
    assert not (kept & died).any() and (kept.sum(axis=1)[some] == 1).all()


def test_what_a_run_found_before_it_died_is_not_lost():
    """The others stay where they are, and are farther away."""
    stay = dataclasses.replace(STAY, steps=3)
    whole = _with_traps(stay, 4)
    halved = _with_traps(stay, Restarts(4, halve_at=(1, 2)))
    np.testing.assert_array_equal(halved.error, whole.error)
    np.testing.assert_allclose(halved.latent, whole.latent, rtol=1e-6)
    np.testing.assert_array_equal(halved.status, whole.status)
    ended = np.asarray(halved.restart_status) == Status.NON_FINITE
    died = np.asarray(whole.restart_status) == Status.NON_FINITE
    np.testing.assert_array_equal(ended, died)
    assert died.any() and not died.all()
    np.testing.assert_allclose(np.asarray(halved.restart_errors)[died], 0.01, rtol=1e-5)
    # Once an image has enough, that stays so when its run is no longer followed.
    restarts = Restarts(4, halve_at=(1, 2), enough=0.02)
    enough = _with_traps(stay, restarts)
    np.testing.assert_array_equal(enough.error, whole.error)
    search = inversion.Search(stay, restarts)
    manifold = Manifold(lambda z: _trap(jnp.float32(0.0), z), (1,))
    key = jax.random.fold_in(KEY, int(np.argmax(died.any(axis=1))))
    image = jnp.zeros((1, 1, 1))
    state = search.searched(manifold, image, key)
    assert bool(search.has_enough(state)) and int(state.taken) <= 1
    winner = int(search.winner(manifold, image, state))
    found = search.finish(manifold, image, state)
    assert float(found.restart_errors[winner]) == float(found.error)
