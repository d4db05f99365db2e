"""Functions as defences: what is traced, what is called, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Networks
from robust_manifold.evaluation.cascades.judged import views_of
from robust_manifold.robustness.functions import (
    FunctionDefence,
    OpaqueDefence,
    defence_of,
)
from tests.robustness.pixels import (
    IMAGES,
    PARAMS,
    apply,
    levels,
    levels_in_numpy,
    noisy,
    noisy_in_numpy,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("function", "kind", "keyed"),
    [
        (levels, FunctionDefence, False),
        (noisy, FunctionDefence, True),
        (levels_in_numpy, OpaqueDefence, False),
        (noisy_in_numpy, OpaqueDefence, True),
        (lambda image, strength=2: image * strength / 2, FunctionDefence, False),
        (functools.partial(noisy, KEY), FunctionDefence, False),
    ],
)
def test_whether_it_can_be_traced_and_takes_a_key_is_seen(function, kind, keyed):
    found = defence_of(function, IMAGES[0], KEY)
    assert type(found) is kind and found.keyed == keyed
    # Equal functions are compiled once.
    assert found == defence_of(function, IMAGES[0], KEY)


def test_out_of_jaxs_sight_is_what_the_function_makes_of_each_image():
    @jax.jit
    def purified(keys, images):
        def each(key, image):
            return OpaqueDefence(noisy_in_numpy, True).purify(key, {}, image).image

        return jax.vmap(each)(keys, images)

    keys = jax.random.split(KEY, 5)
    words = np.asarray(jax.random.key_data(keys))
    made = [noisy_in_numpy(*pair) for pair in zip(words, IMAGES, strict=False)]
    np.testing.assert_array_equal(purified(keys, IMAGES[:5]), np.float32(made))


def test_no_gradient_passes_what_jax_does_not_see():
    opaque = OpaqueDefence(levels_in_numpy)

    def total(adversary):
        view = adversary.view(opaque, Networks(), apply)
        params = defenses.DefenseParams({}, PARAMS)
        return jax.grad(lambda image: view(params, image, KEY)[0])

    own = jax.grad(lambda image: opaque.purify(KEY, {}, image).image.sum())
    assert not own(jnp.asarray(IMAGES[0])).any()
    straight = total(defenses.StraightThrough())(jnp.asarray(IMAGES[0]))
    np.testing.assert_array_equal(straight.reshape(-1), PARAMS[:, 0])
    with pytest.raises(UsageError, match="'unrolled': one that JAX can trace"):
        defenses.Unrolled().check_meets(opaque)
    assert views_of(opaque, (1e-3,)) == (
        defenses.StraightThrough(),
        defenses.Oblivious(),
    )


def _draws(image):
    return image + np.random.default_rng().normal(size=image.shape)


def _in_place(image):
    image[:] = 0
    return image


def test_a_function_may_write_into_its_image():
    before = IMAGES[0].copy()
    found = defence_of(_in_place, IMAGES[0], KEY)
    assert isinstance(found, OpaqueDefence)
    assert not np.asarray(found.purify(KEY, {}, jnp.asarray(before)).image).any()
    np.testing.assert_array_equal(IMAGES[0], before)


REFUSED = {
    "no argument": (lambda: 1, r"takes \(\); allowed: image -> image"),
    "three": (lambda a, b, c: a, r"takes \(a, b, c\); allowed"),
    "the key last": (lambda image, key: image, r"\(image, key\); allowed.*key first"),
    "another shape": (lambda image: image[0], r"gives \(2, 1\) for an image of shape"),
    "a number": (lambda image: float(image.sum()), r"gives \(\) for an image"),
    "an error": (lambda image: image.nowhere, "fails on one image.*nowhere"),
    "a hidden key": (_draws, "another image when it is called again; allowed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_function_is_refused_in_a_sentence(name):
    function, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as error:
        defence_of(function, IMAGES[0], KEY)
    assert "\n" not in str(error.value)
