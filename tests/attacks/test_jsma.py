import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import JSMA, craft, registry
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(3, 16)).astype(np.float32)
GREY = np.full((3, 4, 4, 1), 0.5, np.float32)


def linear(bias, image):
    return WEIGHTS @ (image.reshape(-1) - 0.5) + bias


BIAS = np.array([3.0, 1.0, 0.0], np.float32)
LABELS = np.zeros(3, np.int32)


def by_hand(target, theta=1.0, gamma=1.0, signs=None):
    """Papernot's loop as it is written, pair by pair; with two signs "maximal"."""
    image, steps = np.full(16, 0.5, np.float32), 0
    while True:
        if (WEIGHTS @ (image - 0.5) + BIAS).argmax() == target:
            return image, steps
        best, pair = 0.0, None
        raised, others = WEIGHTS[target], WEIGHTS.sum(0) - WEIGHTS[target]
        full = (image != 0.5).sum() + 2 > gamma * 16
        for sign in signs or [np.sign(theta)]:
            for p in range(16):
                for q in range(p + 1, 16):
                    gain = sign * (raised[p] + raised[q])
                    loss = sign * (others[p] + others[q])
                    open_ = all(
                        (0.5 <= image[i] < 1 if sign > 0 else 0.5 >= image[i] > 0)
                        and (not full or image[i] != 0.5)
                        for i in (p, q)
                    )
                    if open_ and gain > 0 and loss < 0 and -gain * loss > best:
                        best, pair, move = -gain * loss, [p, q], sign * abs(theta)
        if pair is None:
            return image, steps
        image[pair] = np.clip(image[pair] + move, 0, 1)
        steps += 1


@pytest.mark.parametrize("theta", [1.0, 0.2, -1.0])
@pytest.mark.parametrize("target", [1, 2])
def test_the_pairs_are_those_of_the_paper(target, theta):
    crafted = craft(
        JSMA(theta, gamma=1.0),
        linear,
        BIAS,
        GREY[:1],
        LABELS[:1],
        targets=[target],
        key=KEY,
        tile=1,
    )
    image, steps = by_hand(target, theta)
    success = bool(crafted.success[0])
    assert success == ((WEIGHTS @ (image - 0.5) + BIAS).argmax() == target)
    expected = image if success else GREY[0].ravel()
    np.testing.assert_allclose(crafted.images[0].ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("theta", [1.0, -0.2])
def test_both_ways_takes_the_more_salient_one(theta):
    attack = JSMA(theta, gamma=1.0, both_ways=True)
    crafted = craft(attack, linear, BIAS, GREY[:1], LABELS[:1], targets=[1], key=KEY)
    image, _ = by_hand(1, theta, signs=[1, -1])
    assert crafted.success[0] and (image < 0.5).any() and (image > 0.5).any()
    np.testing.assert_allclose(crafted.images[0].ravel(), image, atol=1e-6)


def dark(bias, image):
    """The second class is that of dark images."""
    return jnp.stack([image.sum() - bias, bias - image.sum()])


def test_only_lowered_pixels_reach_a_dark_class():
    white = np.ones((1, 4, 4, 1), np.float32)
    found = {
        attack: craft(attack, dark, 14.5, white, [0], key=KEY)
        for attack in (JSMA(), JSMA(theta=-1.0), JSMA(both_ways=True))
    }
    assert [bool(made.success[0]) for made in found.values()] == [False, True, True]
    assert {float(made.distance[0]) for made in found.values()} == {0.0, 2.0}


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 2, 1), (1, 13, 1)])
def test_a_small_image_moves_a_pair(shape):
    """0.145 of 13 values is less than two."""
    grey = np.full((1, *shape), 0.5, np.float32)
    darkest = float(grey.sum()) + 0.3
    crafted = craft(
        JSMA(),
        lambda bias, image: -dark(bias, image),
        darkest,
        grey,
        [0],
        key=KEY,
    )
    assert crafted.success[0]
    assert float(crafted.distance[0]) == min(grey.size, 2)


def test_no_more_pixels_than_gamma_allows():
    attack = JSMA(gamma=0.3)
    crafted = craft(
        attack, linear, 100 * BIAS, GREY[:1], LABELS[:1], targets=[1], key=KEY
    )
    assert not crafted.success[0]
    np.testing.assert_array_equal(crafted.images, GREY[:1])
    enough = craft(attack, linear, BIAS / 2, GREY[:1], LABELS[:1], targets=[1], key=KEY)
    assert enough.success[0]
    assert 2 <= float(enough.distance[0]) <= 0.3 * 16


def test_the_best_of_all_classes_is_no_worse_than_any():
    all_classes = craft(
        JSMA(gamma=1.0, classes="all"), linear, BIAS, GREY[:1], LABELS[:1], key=KEY
    )
    nearest = craft(JSMA(gamma=1.0), linear, BIAS, GREY[:1], LABELS[:1], key=KEY)
    changed = [(by_hand(t)[0] != 0.5).sum() for t in (1, 2)]
    assert float(all_classes.distance[0]) == min(changed)
    assert float(nearest.distance[0]) == changed[0]


def two_classes(scale, image):
    """Its second logit is constant: the slopes of the other say everything."""
    score = scale * (WEIGHTS[0] @ (image.reshape(-1) - 0.5) + 0.9)
    return jnp.stack([score, 0 * score])


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_two_classes_take_the_steepest_pixels(scale):
    crafted = craft(
        JSMA(theta=-1.0, gamma=1.0), two_classes, scale, GREY[:1], LABELS[:1], key=KEY
    )
    reached = np.cumsum(np.sort(np.maximum(WEIGHTS[0], 0))[::-1] / 2)
    fewest = 1 + np.argmax(reached > 0.9)
    assert crafted.success[0]
    # Pixels move in pairs.
    assert float(crafted.distance[0]) == fewest + fewest % 2


def test_an_adversarial_image_stays_as_it_is():
    crafted = craft(JSMA(), linear, BIAS, GREY, LABELS + 1, key=KEY)
    assert crafted.success.all()
    np.testing.assert_array_equal(crafted.images, GREY)


def test_the_registry_reads_it():
    assert registry.build("jsma(theta=0.2)") == JSMA(theta=0.2)


@pytest.mark.parametrize(
    ("field", "value"),
    [("theta", 0.0), ("gamma", 0.0), ("steps", 0)],
)
def test_misuse_is_named(field, value):
    with pytest.raises(UsageError, match=f"JSMA.{field} is {value!r}"):
        JSMA(**{field: value})
