"""The codebook's logits by their formula, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.certification import Codebook, class_distances, codebook_of
from robust_manifold.core.errors import UsageError

SHAPE = (3, 2, 2)
MODEL = models.build("codebook(per_class=4)", image_shape=SHAPE, classes=3)
PARAMS = MODEL.init(jax.random.key(0))
IMAGES = np.random.default_rng(0).random((7, *SHAPE), np.float32)
LOGITS = MODEL.apply(PARAMS, jnp.asarray(IMAGES))


def test_logits_are_minus_the_squares_of_the_nearest_distances():
    prototypes = np.asarray(PARAMS["params"]["prototypes"])
    assert prototypes.shape == (3, 4, *SHAPE)
    assert prototypes.min() >= 0 and prototypes.max() <= 1
    apart = IMAGES[:, None, None] - prototypes[None]
    squared = np.sum(apart**2, axis=(3, 4, 5)).min(axis=2)
    np.testing.assert_allclose(LOGITS, -squared, rtol=1e-4)
    one = MODEL.apply(PARAMS, jnp.asarray(IMAGES[0]))
    np.testing.assert_allclose(one, -squared[0], rtol=1e-4)


def test_batches_agree_and_training_changes_nothing():
    images = jnp.asarray(IMAGES[:6])
    nested = MODEL.apply(PARAMS, images.reshape(2, 3, *SHAPE))
    np.testing.assert_allclose(nested.reshape(6, 3), LOGITS[:6], rtol=1e-5)
    mapped = jax.vmap(MODEL.apply, (None, 0))(PARAMS, images)
    np.testing.assert_allclose(mapped, LOGITS[:6], rtol=1e-5)
    trained, params = MODEL.train(PARAMS, images, jax.random.key(1))
    np.testing.assert_allclose(trained, LOGITS[:6], rtol=1e-5)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, PARAMS))
    with pytest.raises(UsageError, match="no features; allowed: a dense layer"):
        MODEL.features(PARAMS, images)


def test_what_is_certified_is_what_classifies():
    codebook = codebook_of(PARAMS)
    distances = class_distances(codebook, IMAGES)
    np.testing.assert_allclose(-(distances**2), LOGITS, rtol=1e-4)
    np.testing.assert_array_equal(codebook.labels, np.repeat([0, 1, 2], 4))


def test_a_logit_s_gradient_leads_to_the_nearest_prototype():
    prototypes = np.asarray(PARAMS["params"]["prototypes"])
    image = jnp.asarray(IMAGES[0])
    squared = np.sum((IMAGES[0][None, None] - prototypes) ** 2, axis=(2, 3, 4))
    for label in range(3):
        slope = jax.grad(lambda x: MODEL.apply(PARAMS, x)[label])(image)  # noqa: B023
        nearest = prototypes[label, np.argmin(squared[label])]
        np.testing.assert_allclose(slope, 2 * (nearest - IMAGES[0]), atol=1e-5)


def test_parameters_of_another_model_are_no_codebook():
    other = models.build("linear", image_shape=SHAPE, classes=3)
    with pytest.raises(UsageError, match="params have no prototypes; allowed"):
        codebook_of(other.init(jax.random.key(0)))
    assert isinstance(codebook_of(PARAMS), Codebook)


def test_a_codebook_without_prototypes_is_refused():
    with pytest.raises(UsageError, match="per_class is 0; allowed: 1 or more"):
        models.build("codebook(per_class=0)", image_shape=SHAPE)
