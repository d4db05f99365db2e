import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.checks import (
    checked_budgets,
    checked_images,
    checked_key,
    checked_labels,
    checked_radius,
)
from robust_manifold.core.errors import UsageError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_good_images_come_back_as_jax_holds_them(dtype):
    images = np.linspace(0, 1, 8, dtype=dtype).reshape(2, 2, 2, 1)
    checked = checked_images(images)
    assert checked.dtype == jnp.asarray(0.5).dtype
    np.testing.assert_allclose(checked, images, rtol=1e-7)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((2, 2, 1), np.float32), "shape (2, 2, 1)"),
        (np.zeros((0, 2, 2, 1), np.float32), "without an empty axis"),
        (np.zeros((1, 2, 2, 1), np.uint8), "type uint8"),
        (np.full((1, 2, 2, 1), 1.5, np.float32), "from 1.5 to 1.5"),
        (np.full((1, 2, 2, 1), -0.5, np.float32), "from -0.5 to -0.5"),
        (np.full((1, 2, 2, 1), np.nan, np.float32), "no NaN"),
    ],
)
def test_bad_images_give_one_sentence(images, words):
    with pytest.raises(UsageError) as error:
        checked_images(images)
    assert words in str(error.value)
    assert "allowed" in str(error.value)


@pytest.mark.parametrize("wrapped", [lambda traced: traced, lambda traced: [traced]])
def test_traced_images_are_said_to_be_traced(wrapped):
    with pytest.raises(UsageError, match="images are traced, as inside jax.jit"):
        jax.jit(lambda images: checked_images(wrapped(images)))(jnp.zeros((1, 2, 2, 1)))


def test_good_labels_become_int32():
    checked = checked_labels([0, 2, 1], 3, 3)
    assert checked.dtype == np.int32
    np.testing.assert_array_equal(checked, [0, 2, 1])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], "shape (2,)"),
        ([0.0, 1.0, 2.0], "type float64"),
        ([0, 1, 3], "[0, 3]"),
        ([-1, 1, 2], "[-1, 2]"),
        ([[0], [1], [2]], "shape (3, 1)"),
    ],
)
def test_bad_labels_give_one_sentence(labels, words):
    with pytest.raises(UsageError) as error:
        checked_labels(labels, 3, 3)
    assert words in str(error.value)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_one_key_is_taken_of_either_form(kind):
    for key in (jax.random.key(0, impl=kind), jax.random.PRNGKey(0, impl=kind)):
        assert checked_key(key) is key
        for several in (jnp.stack([key, key]), key[None]):
            with pytest.raises(UsageError, match="key is an array .*, and only one"):
                checked_key(several)


def test_budgets_of_any_library_are_numbers():
    for budgets in ([0.25, 0.5], (0.25, np.float32(0.5)), jnp.asarray([0.25, 0.5])):
        assert checked_budgets(budgets) == [0.25, 0.5]
    for budget in (0.5, np.float32(0.5), jnp.float32(0.5)):
        assert checked_budgets(budget) == [0.5]
        assert checked_radius("epsilon", budget) == 0.5
    assert checked_radius("epsilon", np.int64(0)) == 0.0
