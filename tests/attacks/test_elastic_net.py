import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import AttackWarning, ElasticNet, craft, registry
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
# One weight is twice as large as any other, so one pixel is the l1 optimum.
WEIGHTS = RNG.uniform(-1, 1, size=16).astype(np.float32)
WEIGHTS[5] = 2.0
IMAGES = (0.5 + RNG.uniform(-0.1, 0.1, size=(8, 4, 4, 1))).astype(np.float32)
BIAS = 0.1 - (IMAGES.reshape(8, -1) - 0.5)[0] @ WEIGHTS
SCORES = (IMAGES.reshape(8, -1) - 0.5) @ WEIGHTS + BIAS
LABELS = (SCORES < 0).astype(np.int32)


def linear(scale, image):
    score = scale * ((image.reshape(-1) - 0.5) @ WEIGHTS + BIAS)
    return jnp.stack([score, 0 * score])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_a_linear_classifier_is_beaten_at_the_dual_distance(n, scale):
    crafted = craft(
        ElasticNet(), linear, scale, IMAGES[:n], LABELS[:n], key=KEY, tile=8
    )
    optimum = np.abs(SCORES[:n]) / 2
    assert crafted.success.all()
    distance = np.asarray(crafted.distance)
    assert (distance <= 1.05 * optimum).all()
    assert (distance >= (1 - 1e-4) * optimum).all()
    delta = np.asarray(crafted.images - IMAGES[:n]).reshape(n, -1)
    assert np.array_equal(delta != 0, np.arange(16) == 5 * np.ones((n, 1)))


def test_a_target_is_reached():
    crafted = craft(
        ElasticNet(),
        linear,
        1.0,
        IMAGES,
        LABELS,
        targets=1 - LABELS,
        key=KEY,
        tile=8,
    )
    assert crafted.success.all()


def test_an_adversarial_image_stays_as_it_is():
    crafted = craft(ElasticNet(), linear, 1.0, IMAGES, 1 - LABELS, key=KEY, tile=8)
    np.testing.assert_array_equal(crafted.images, IMAGES)
    np.testing.assert_array_equal(crafted.queries.backwards, np.zeros(8))


def test_without_success_the_image_stays_as_it_is():
    with pytest.warns(AttackWarning, match="gradients of apply are zero"):
        crafted = craft(ElasticNet(), linear, 0.0, IMAGES, 0 * LABELS, key=KEY, tile=8)
    assert not crafted.success.any()
    np.testing.assert_array_equal(crafted.images, IMAGES)


def test_the_registry_reads_it():
    spec = registry.build("elastic_net(decision_rule='elastic_net')")
    assert spec == ElasticNet(decision_rule="elastic_net")


@pytest.mark.parametrize(
    ("field", "value"),
    [("beta", 0.0), ("steps", 0), ("confidence", -1.0)],
)
def test_misuse_is_named(field, value):
    with pytest.raises(UsageError, match=f"ElasticNet.{field} is {value!r}"):
        ElasticNet(**{field: value})
