"""Against foolbox, in float64: equal weights, equal settings, equal images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import CarliniWagner, ElasticNet, craft

pytestmark = pytest.mark.slow

foolbox = pytest.importorskip("foolbox")
KEY = jax.random.key(0)
# A power of two: foolbox rounds the constant to float32.
CONST = 2.0**-7


def apply(params, image):
    hidden = jnp.tanh(image.reshape(-1) @ params["w1"])
    return 4.0 * (hidden @ params["w2"])


def batch(images):
    """A batch for foolbox, of a classifier of one image."""
    params = weights()
    return jax.vmap(lambda image: apply(params, image))(images)


def weights():
    rng = np.random.default_rng(0)
    return {"w1": rng.normal(size=(36, 16)) / 2, "w2": rng.normal(size=(16, 4))}


def digits():
    images = np.random.default_rng(1).uniform(0.1, 0.9, size=(8, 6, 6, 1))
    images[4:, 0], images[4:, 1] = 0.0, 1.0
    return images


def compare(ours, theirs, targeted):
    with jax.enable_x64(True):
        params, images = weights(), digits()
        labels = np.asarray(batch(images)).argmax(-1)
        targets = (labels + 1) % 4 if targeted else None
        criterion = (
            foolbox.criteria.TargetedMisclassification(jnp.asarray(targets))
            if targeted
            else foolbox.criteria.Misclassification(jnp.asarray(labels))
        )
        model = foolbox.models.JAXModel(batch, bounds=(0, 1))
        expected = theirs.run(model, jnp.asarray(images), criterion)
        crafted = craft(ours, apply, params, images, labels, key=KEY, targets=targets)
        assert crafted.success.any()
        found = np.asarray(crafted.success)
        # Where foolbox finds nothing it returns a black image.
        assert np.array_equal(found, np.asarray(expected).any(axis=(1, 2, 3)))
        np.testing.assert_allclose(
            np.asarray(crafted.images)[found], np.asarray(expected)[found], atol=1e-9
        )


@pytest.mark.parametrize(
    ("targeted", "confidence", "rounds", "steps"),
    [(True, 0.5, 4, 8), (False, 0.0, 10, 4)],
)
def test_carlini_wagner_l2(targeted, confidence, rounds, steps):
    settings = {
        "binary_search_steps": rounds,
        "steps": steps,
        "confidence": confidence,
        "initial_const": CONST,
        "abort_early": False,
    }
    ours = CarliniWagner(learning_rate=0.05, normalise=False, **settings)
    theirs = foolbox.attacks.L2CarliniWagnerAttack(stepsize=0.05, **settings)
    compare(ours, theirs, targeted)


@pytest.mark.parametrize(
    ("targeted", "confidence", "rule"),
    [(False, 0.0, "elastic_net"), (True, 0.5, "l1")],
)
def test_elastic_net(targeted, confidence, rule):
    settings = {
        "binary_search_steps": 4,
        "steps": 8,
        "confidence": confidence,
        "initial_const": CONST,
        "abort_early": False,
    }
    ours = ElasticNet(
        learning_rate=0.02, normalise=False, decision_rule=rule, **settings
    )
    theirs = foolbox.attacks.EADAttack(
        initial_stepsize=0.02,
        decision_rule={"l1": "L1", "elastic_net": "EN"}[rule],
        **settings,
    )
    compare(ours, theirs, targeted)
