import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import FGSM, PGD, AttackWarning, craft
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
IMAGES = np.full((3, 2, 2, 1), 0.5, np.float32)
LABELS = np.array([0, 1, 1])


def apply(params, image):
    score = params * (image.sum() - 2.0)
    return jnp.stack([-score, score])


@dataclasses.dataclass(frozen=True)
class Counted(FGSM):
    """FGSM that counts its traces."""

    traces: ClassVar[list] = []

    def step(self, problem, key, state):
        self.traces.append(1)
        return super().step(problem, key, state)


def test_equal_specs_compile_once():
    """One trace is compiled, one tells how much memory an image needs.

    Another budget is the same program.
    """
    for params in (1.0, 2.0, 3.0):
        craft(Counted(0.25), apply, jnp.float32(params), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 2
    craft(Counted(0.125), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 2
    craft(Counted(0.25, loss="ce"), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert len(Counted.traces) == 4


def test_everything_by_hand():
    crafted = craft(FGSM(0.1), apply, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    expected = np.array([0.6, 0.4, 0.4], np.float32)
    np.testing.assert_allclose(crafted.images[:, 0, 0, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(crafted.success, [True, True, True])
    np.testing.assert_allclose(crafted.distance, [0.1] * 3, rtol=1e-6)
    np.testing.assert_allclose(crafted.logits[:, 1], [0.4, -0.4, -0.4], rtol=1e-5)
    np.testing.assert_array_equal(crafted.queries.forwards, [1, 1, 1])
    np.testing.assert_array_equal(crafted.queries.backwards, [1, 1, 1])


def test_progress():
    calls = []
    craft(
        FGSM(0.1),
        apply,
        jnp.float32(1.0),
        IMAGES,
        LABELS,
        key=KEY,
        batch_size=2,
        on_chunk=lambda *a: calls.append(a),
    )
    # With several devices a chunk holds at least one image for each.
    assert calls[-1] == (3, 3)


def _broken(params, image):
    return jnp.array([1.0, jnp.nan]) + params * image.sum()


def test_nan_logits_are_no_success():
    with pytest.warns(AttackWarning, match="NaN logits for 3 of 3 clean images"):
        crafted = craft(
            PGD(0.1), _broken, jnp.float32(1.0), IMAGES, LABELS * 0, key=KEY
        )
    assert not crafted.success.any()
    np.testing.assert_array_equal(crafted.images, IMAGES)
    assert np.isnan(crafted.logits).any()


def _scalar(params, image):
    return params * image.sum()


def _one_class(params, image):
    return params * image.sum()[None]


def _batched(params, image):
    return params * image[..., 0]


def _pair(params, image):
    return apply(params, image), image


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (_scalar, "allowed: a vector of logits"),
        (_one_class, "(1,)"),
        (_batched, "(2, 2)"),
        (_pair, "tuple"),
    ],
)
def test_bad_classifiers_give_one_sentence(function, words):
    with pytest.raises(UsageError) as error:
        craft(FGSM(0.1), function, jnp.float32(1.0), IMAGES, LABELS, key=KEY)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES[0], LABELS, "images have shape"),
        ((IMAGES * 255).astype(np.uint8), LABELS, "type uint8"),
        (IMAGES * 255, LABELS, "from 127.5 to 127.5"),
        (IMAGES * np.nan, LABELS, "no NaN"),
        (IMAGES, LABELS[:2], "labels have shape (2,)"),
        (IMAGES, LABELS + 1, "since the classifier has 2 classes"),
        (IMAGES, LABELS * 1.0, "type float64"),
    ],
)
def test_bad_data_give_one_sentence(images, labels, words):
    with pytest.raises(UsageError) as error:
        craft(FGSM(0.1), apply, jnp.float32(1.0), images, labels, key=KEY)
    assert words in str(error.value)
