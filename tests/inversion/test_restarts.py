import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import inversion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold
from robust_manifold.core.prior import Normal
from robust_manifold.inversion import Adam, GradientDescent, Restarts, invert_one

KEY = jax.random.key(0)
STAY = GradientDescent(steps=1, learning_rate=1e-30)


@dataclasses.dataclass(frozen=True)
class Counted(Adam):
    """Adam that counts its traces."""

    traces: ClassVar[list] = []

    def init(self, start):
        self.traces.append(self.steps)
        return super().init(start)


def _manifold(linear):
    return Manifold(lambda z: linear.generate(linear.params, z), (3,))


def _invert(linear, **kwargs):
    settings = {"solver": STAY, "restarts": 2, "latent_shape": (3,)} | kwargs
    images = settings.pop("images", linear.images)
    return inversion.invert(linear.generate, linear.params, images, key=KEY, **settings)


def test_starts_have_the_stated_scale(linear):
    """A solver that stays where it is shows its starts."""

    def start(key, scale):
        result = invert_one(
            _manifold(linear),
            jnp.asarray(linear.images[0]),
            key,
            solver=STAY,
            restarts=Restarts(1, scale),
        )
        return result.latent

    keys = jax.random.split(KEY, 500)
    wide = jax.vmap(lambda key: start(key, 1.0))(keys)
    narrow = jax.vmap(lambda key: start(key, 0.5))(keys)
    np.testing.assert_allclose(narrow, wide / 2, rtol=1e-6)
    assert float(jnp.std(wide)) == pytest.approx(1.0, abs=0.06)
    assert float(jnp.mean(wide)) == pytest.approx(0.0, abs=0.06)


def test_restarts_and_images_start_apart(linear):
    errors = np.asarray(_invert(linear, restarts=4).restart_errors)
    assert len(np.unique(errors)) == errors.size


def test_start_scale_zero_starts_at_the_origin(linear):
    result = _invert(linear, restarts=Restarts(1, 0.0))
    np.testing.assert_allclose(result.latent, np.zeros((5, 3)), atol=1e-20)


def test_starts_are_draws_of_the_prior_scaled_about_its_centre(linear):
    starts = _invert(linear, restarts=1).latent
    moved = _invert(linear, restarts=1, prior=Normal(-1.0, 2.0)).latent
    np.testing.assert_allclose(moved, 2 * np.asarray(starts) - 1, atol=1e-5)
    near = _invert(linear, restarts=Restarts(1, 0.5), prior=Normal(-1.0, 2.0))
    np.testing.assert_allclose(near.latent, np.asarray(starts) - 1, atol=1e-5)


def test_restarts_are_a_prefix_of_more_restarts(linear):
    few, many = (_invert(linear, restarts=r).restart_errors for r in (2, 5))
    np.testing.assert_array_equal(few, many[:, :2])


def test_the_best_restart_is_the_one_returned(linear):
    result = _invert(linear, restarts=6)
    best = np.argmin(result.restart_errors, axis=1)
    assert len(set(best.tolist())) > 1
    np.testing.assert_array_equal(
        result.error,
        np.take_along_axis(np.asarray(result.restart_errors), best[:, None], 1)[:, 0],
    )


def test_many_images_are_each_their_own(linear):
    """`invert` is `invert_one` with the key folded with the image's id."""
    many = _invert(linear, ids=np.arange(5) + 10)
    one = invert_one(
        _manifold(linear),
        jnp.asarray(linear.images[2]),
        jax.random.fold_in(KEY, 12),
        solver=STAY,
        restarts=2,
    )
    np.testing.assert_allclose(one.latent, many.latent[2], rtol=1e-6)
    np.testing.assert_allclose(one.restart_errors, many.restart_errors[2], rtol=1e-5)


def test_equal_specs_compile_once(linear):
    _invert(linear, solver=Counted(steps=3))
    once = Counted.traces.count(3)
    for _ in range(2):
        _invert(linear, solver=Counted(steps=3))
    assert Counted.traces.count(3) == once


def test_a_text_names_the_solver(linear):
    by_text = _invert(linear, solver="adam(steps=3)")
    by_spec = _invert(linear, solver=Adam(steps=3))
    np.testing.assert_array_equal(by_text.latent, by_spec.latent)


def test_progress_is_told_tile_by_tile(linear):
    calls = []
    _invert(linear, tile=2, on_chunk=lambda *a: calls.append(a))
    assert calls == [(2, 5), (4, 5), (5, 5)]


def test_progress(linear):
    calls = []
    _invert(linear, batch_size=2, on_chunk=lambda *a: calls.append(a))
    assert calls[-1] == (5, 5)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"restarts": 0}, "restarts is 0; allowed: 1 or more."),
        ({"latent_shape": (3, 1)}, "latent_shape is (3, 1)"),
        ({"latent_shape": (0,)}, "latent_shape is (0,)"),
        ({"restarts": "restarts(scale=-1.0)"}, "Restarts.scale is -1.0"),
        ({"restarts": "restarts(scale='wide')"}, "restarts.scale is 'wide'"),
        ({"restarts": "restarts(2, encoded=3)"}, "encoded is 3; allowed: 0 to count"),
        ({"restarts": "restarts(2, encoded=1)"}, "encoded is 1; allowed: 0 or None"),
        ({"restarts": "restarts(3, halve_at=(1, 2))"}, "halve_at is (1, 2)"),
        ({"restarts": "restarts(8, halve_at=(2, 1))"}, "halve_at is (2, 1)"),
        ({"restarts": "restarts(enough=-1)"}, "enough is -1.0"),
        ({"restarts": "+-3"}, "restarts '+-3' cannot be read"),
        ({"restarts": "-1"}, "restarts is -1; allowed: 1 or more."),
        ({"solver": "sgd"}, "Unknown solver 'sgd'"),
        ({"images": np.zeros((2, 5, 4, 1), np.float32)}, "of shape (4, 5, 1)"),
        ({"images": np.full((2, 4, 5, 1), 2.0, np.float32)}, "from 2 to 2"),
    ],
)
def test_bad_calls_give_one_sentence(linear, kwargs, words):
    with pytest.raises(UsageError) as error:
        _invert(linear, **kwargs)
    assert words in str(error.value)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        return self is other

    def __call__(self, params, latent):
        return (latent @ params["A"] + params["b"]).reshape(4, 5, 1)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"key": 0}, "key is 0; allowed: a key such as"),
        ({"key": jax.random.split(KEY)}, "key is an array (2,) of type"),
        ({"latent_shape": 3}, "latent_shape is 3; allowed: one positive size"),
        ({"latent_shape": None}, "latent_shape is None; allowed: one positive size"),
        ({"latent_shape": (5,)}, "generate fails on one latent of shape (5,)"),
        ({"restarts": True}, "restarts is True; allowed: 1 or more."),
        ({"prior": "normal"}, "prior is 'normal'; allowed: a prior, such as Normal()"),
        ({"encode": 3}, "encode is 3; allowed: a function of parameters and one im"),
        ({"generate": 3}, "generate is 3; allowed: a function of parameters and one"),
        ({"generate": Unhashable()}, "generate cannot be hashed; allowed: a function"),
        ({"generate": lambda p, z: z}, "generate gives (3,) for one latent; allowed"),
        ({"params": None}, "generate fails on one latent of shape (3,) (TypeError: "),
        ({"images": [[0.0], [0.0, 1.0]]}, "images are of type list, and no array"),
        ({"images": np.full((1, 4, 5, 1), np.nan, np.float32)}, "no NaN"),
    ],
)
def test_arguments_of_the_wrong_kind_give_one_sentence(linear, kwargs, words):
    given = {
        "generate": linear.generate,
        "params": linear.params,
        "images": linear.images,
        "key": KEY,
        "solver": STAY,
        "restarts": 1,
        "latent_shape": (3,),
    } | kwargs
    # Without the checks of types that tests add to it.
    invert = getattr(inversion.invert, "__wrapped__", inversion.invert)
    with pytest.raises(UsageError) as error:
        invert(**given)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_an_image_is_not_broadcast_against_the_generators(linear):
    untyped = getattr(invert_one, "__wrapped__", invert_one)
    with pytest.raises(UsageError, match=r"image has the shape \(4, 5\); allowed: \(4"):
        untyped(_manifold(linear), jnp.asarray(linear.images[0, :, :, 0]), KEY)
    with pytest.raises(UsageError, match="key is 0; allowed: a key such as"):
        untyped(_manifold(linear), jnp.asarray(linear.images[0]), 0)
