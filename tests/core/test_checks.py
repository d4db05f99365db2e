import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.checks import checked_images, checked_labels
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
