import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import DeepFool, Problem, hyperplane, registry
from robust_manifold.core import norms
from robust_manifold.core.errors import UsageError
from tests.attacks.single import attempt

WEIGHTS = np.random.default_rng(0).normal(size=(3, 3, 1)).astype(np.float32)
GREY = jnp.full((3, 3, 1), 0.5)
KEY = jax.random.key(0)


def linear(image):
    score = jnp.sum((image - 0.5) * WEIGHTS) + 0.2
    return jnp.stack([-score, score]) / 2


@pytest.mark.parametrize("inside_box", [True, False])
@pytest.mark.parametrize("targeted", [True, False])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_two_affine_classes_take_one_step(norm, targeted, inside_box):
    attack = DeepFool(norm, inside_box=inside_box)
    label = jnp.int32(0 if targeted else 1)
    made = attempt(attack, linear, GREY, label, targeted=targeted)
    # The clean image's logits; then one step: its gradient and the new image's.
    assert (int(made.forwards), int(made.backwards)) == (3, 1)
    distance = 0.2 / np.linalg.norm(WEIGHTS.ravel(), 2 if norm == "l2" else 1)
    size = norms.norm(made.image - GREY, norm)
    assert float(size) == pytest.approx(1.02 * (distance + 1e-4), rel=1e-4)
    assert int(jnp.argmax(linear(made.image))) == 0


def test_an_active_box_still_takes_one_step():
    """Where clipped steps come to the boundary only bit by bit."""
    image = jnp.clip(GREY - 0.5 * np.sign(WEIGHTS) * (np.abs(WEIGHTS) > 0.5), 0, 1)
    # Every step away from the label is against a face of the box, but for a few pixels.
    label = jnp.argmax(_shifted(image))
    for norm in ("l2", "linf"):
        made = attempt(DeepFool(norm), _shifted, image, label)
        assert int(made.forwards) == 3
        assert int(jnp.argmax(_shifted(made.image))) != int(label)


def _shifted(image):
    score = jnp.sum((image - 0.5) * WEIGHTS) + 2.2
    return jnp.stack([-score, score])


def test_an_adversarial_image_is_left_alone():
    made = attempt(DeepFool(), linear, GREY, jnp.int32(0))
    np.testing.assert_array_equal(made.image, GREY)
    assert (int(made.forwards), int(made.backwards)) == (1, 0)


@pytest.mark.parametrize("value", [0.0, np.nan])
@pytest.mark.parametrize("inside_box", [True, False])
def test_no_gradient_returns_the_image(value, inside_box):
    def flat(image):
        return jnp.stack([1.0, 0.0]) + value * image.sum()

    image = attempt(
        DeepFool(steps=3, inside_box=inside_box), flat, GREY, jnp.int32(0)
    ).image
    np.testing.assert_array_equal(image, GREY)


def test_only_candidates_are_looked_at():
    """The nearest boundary is that of the unlikeliest class."""

    def classify(image):
        change = jnp.sum(image - 0.5)
        return jnp.stack([1.0, 0.5 - 0.2 * change, change])

    wide = attempt(DeepFool("linf"), classify, GREY, jnp.int32(0)).image
    narrow = attempt(DeepFool("linf", candidates=2), classify, GREY, jnp.int32(0)).image
    assert float(wide.max()) > 0.5 > float(narrow.max())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_step_to_a_hyperplane_is_the_shortest(norm):
    """Against the optimality conditions, for points with pixels on the faces."""
    rng = np.random.default_rng(1)
    points = rng.uniform(size=(20, 4, 4, 1)).astype(np.float32).round(1)
    slopes = rng.normal(size=(20, 4, 4, 1)).astype(np.float32)
    slopes[:, 0, 0] = 0.0
    slopes[:, 1] = slopes[:, 2]
    room = np.where(slopes > 0, 1 - points, points)
    most = (np.abs(slopes) * room).sum((1, 2, 3))
    shares = np.linspace(0, 1.2, 20, dtype=np.float32)
    step = jax.vmap(lambda point, *rest: hyperplane.step(point, *rest, norm=norm))
    made, reached = step(points, slopes, shares * most)
    np.testing.assert_array_equal(reached, shares < 1)
    gains = np.asarray((made * slopes).sum((1, 2, 3)))
    np.testing.assert_allclose(gains, np.minimum(shares, 1) * most, rtol=1e-5)
    assert (np.asarray(points + made) >= -1e-6).all()
    assert (np.asarray(points + made) <= 1 + 1e-6).all()
    for moved, slope, free in zip(np.abs(made), np.abs(slopes), room, strict=True):
        open_ = (moved < free - 1e-6) & (slope > 0)
        if norm == "linf":
            assert np.abs(moved[open_] - moved.max()).max(initial=0) < 1e-5
        elif norm == "l2":
            speed = moved / np.where(slope > 0, slope, 1)
            assert np.abs(speed[open_] - speed.max()).max(initial=0) < 1e-4
        elif open_.any():
            assert moved[slope < slope[open_].max() - 1e-6].max(initial=0) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("deepfool('l1')", "DeepFool.norm is 'l1'; allowed: linf or l2."),
        ("deepfool(steps=0)", "DeepFool.steps is 0"),
        ("deepfool(overshoot=-0.1)", "DeepFool.overshoot is -0.1"),
        ("deepfool(candidates=1)", "DeepFool.candidates is 1"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)


def test_the_step_is_free_of_the_scale():
    attack = DeepFool()

    @jax.jit
    @jax.vmap
    def end(scale):
        def scaled(image):
            return scale * linear(image)

        problem = Problem(scaled, GREY, jnp.int32(1), jnp.float32(0))
        return attack.step(problem, KEY, attack.begin(problem, KEY)).position

    small, plain, large = end(jnp.array([1e-20, 1.0, 1e20]))
    np.testing.assert_allclose(small, plain, atol=1e-6)
    np.testing.assert_allclose(large, plain, atol=1e-6)
