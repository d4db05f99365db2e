"""The sticker: where it lies, what it costs, closed forms, and views of it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import Patch, SquareMask, StickersMask, Transformations
from robust_manifold.attacks.base import Problem
from robust_manifold.attacks.masks import Mask, pixels_of
from robust_manifold.attacks.patch import Judged, best_judged
from robust_manifold.attacks.stickers import non_printability, total_variation
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(4)
STILL = Transformations()
MOVING = Transformations(rotation=10.0, shift=0.1, brightness=0.1)


def _linear(weights, image):
    """Two classes; the second has the higher logit where <weights, image> > 0."""
    return jnp.stack([jnp.zeros((), image.dtype), jnp.sum(weights * image)])


def _craft(attack, params, images, labels, apply=_linear, **kwargs):
    return attacks.craft(attack, apply, params, images, labels, key=KEY, **kwargs)


@pytest.mark.parametrize(
    ("mask", "rows", "columns"),
    [
        # sqrt(8 * 12) = 9.8 pixels are the whole.
        (SquareMask(0.5), range(2, 7), range(4, 9)),
        (SquareMask(0.25, row=0.0, column=1.0), range(0, 2), range(10, 12)),
        (SquareMask(0.01), range(4, 5), range(6, 7)),
    ],
)
def test_squares_lie_where_they_should(mask, rows, columns):
    expected = np.zeros((8, 12), bool)
    expected[np.ix_(rows, columns)] = True
    np.testing.assert_array_equal(mask.pixels(8, 12), expected)


@pytest.mark.parametrize("shape", [(2, 128), (128, 2)])
def test_a_square_that_does_not_fit_keeps_its_area(shape):
    pixels = SquareMask(0.5).pixels(*shape)
    assert pixels.sum() == 64
    assert pixels.any(np.argmax(shape)).all()
    assert SquareMask(1.0).pixels(*shape).all()


def test_stickers_are_two_bars():
    pixels = StickersMask(0.5, 0.1, upper=0.25, lower=0.75).pixels(20, 20)
    rows = np.flatnonzero(pixels.any(1))
    np.testing.assert_array_equal(rows, [4, 5, 14, 15])
    np.testing.assert_array_equal(np.flatnonzero(pixels.any(0)), np.arange(5, 15))


@pytest.mark.parametrize("value", [0.0, 1.1, float("nan")])
def test_sizes_of_masks_are_checked(value):
    with pytest.raises(UsageError, match="SquareMask.size is .*; allowed: above 0"):
        SquareMask(size=value)
    with pytest.raises(UsageError, match="StickersMask.thickness is .*; allowed: "):
        StickersMask(thickness=value)


@pytest.fixture(scope="module")
def linear():
    """A linear classifier, and images of class 0 that a sticker can turn."""
    rng = np.random.default_rng(2)
    weights = jnp.asarray(rng.normal(size=(6, 6, 1)), jnp.float32)
    images = (0.5 - 0.3 * np.sign(weights)) + np.zeros((3, 1, 1, 1))
    return weights, images.astype(np.float32), np.zeros(3, int)


def test_on_a_linear_classifier_every_pixel_goes_to_its_end(linear):
    weights, images, labels = linear
    attack = Patch(SquareMask(0.5), steps=30, transformations=STILL, learning_rate=0.1)
    crafted = _craft(attack, weights, images, labels)
    mask = attack.mask.pixels(6, 6)
    sticker = np.asarray(crafted.images)[:, mask]
    np.testing.assert_array_equal(sticker, (weights[mask] > 0)[None].repeat(3, 0))
    np.testing.assert_array_equal(crafted.images[:, ~mask], images[:, ~mask])
    np.testing.assert_array_equal(crafted.distance, [9.0, 9.0, 9.0])


def test_a_target_is_reached_from_the_other_side(linear):
    weights, images, labels = linear
    attack = Patch(SquareMask(1.0), steps=20, transformations=STILL, learning_rate=0.1)
    to = _craft(attack, weights, images, labels, targets=labels + 1)
    away = _craft(attack, weights, images, labels)
    assert to.success.all()
    np.testing.assert_array_equal(to.images, away.images)


def test_where_nothing_has_a_gradient_the_sticker_stays_grey(linear):
    weights, images, labels = linear
    with pytest.warns(attacks.AttackWarning, match="gradients of apply are zero"):
        crafted = _craft(
            Patch(SquareMask(0.5), steps=3, transformations=STILL),
            0 * weights,
            images,
            labels,
        )
    assert np.isfinite(crafted.images).all()
    mask = SquareMask(0.5).pixels(6, 6)
    np.testing.assert_array_equal(crafted.images[:, mask], 0.5)


def test_no_logit_no_success(linear):
    weights, images, labels = linear
    with pytest.warns(attacks.AttackWarning, match="gradients of apply are zero"):
        crafted = _craft(
            Patch(SquareMask(0.5), steps=2, transformations=STILL),
            weights,
            images,
            labels,
            # Finite on the clean images, which have no pixel at 0.5.
            apply=_broken_under_a_sticker,
        )
    assert not crafted.success.any()
    assert np.isfinite(crafted.images).all()


def _broken_under_a_sticker(weights, image):
    covered = (image[2:4, 2:4] == 0.5).any()
    return jnp.where(covered, jnp.nan, 0.0) + 0 * _linear(weights, image)


@pytest.mark.parametrize(
    ("attack", "forwards", "backwards"),
    [
        (
            Patch("stickers", steps=3, samples=2, evaluation_samples=4),
            3 * (2 + 5) + 5,
            3 * 2,
        ),
        (Patch("stickers", steps=3, transformations=STILL), 3 * (1 + 1) + 1, 3),
        (Patch("stickers", steps=3, transformations=STILL, positions=4), 4 * 7, 4 * 3),
    ],
    ids=["moving", "still", "positions"],
)
def test_costs(attack, forwards, backwards):
    assert attack.cost(classes=10) == (forwards, backwards)


@pytest.mark.parametrize("toy", [4], indirect=True)
def test_more_steps_never_fool_fewer_of_the_fixed_views(toy):
    attack = Patch(SquareMask(0.5), steps=6, transformations=MOVING, samples=4)

    def shares(image, label):
        problem = _problem(toy, image, label)

        def step(state, key):
            state = attack.step(problem, key, state)
            return state, state.positions.best.share[0]

        keys = jax.random.split(KEY, attack.steps)
        return jax.lax.scan(step, attack.begin(problem, KEY), keys)[1]

    found = np.asarray(jax.jit(jax.vmap(shares))(toy.images, toy.labels))
    assert (np.diff(found, axis=1) >= 0).all()
    assert (found[:, -1] > found[:, 0]).any()


def _problem(toy, image, label):
    classify = lambda image: toy.apply(toy.params, image)  # noqa: E731
    return Problem(classify, image, label, jnp.zeros(()))


def test_the_best_has_the_highest_share_then_success_then_loss():
    share = jnp.array([0.5, 0.75, 0.75, 0.75, 0.25])
    adversarial = jnp.array([True, False, True, True, True])
    loss = jnp.array([9.0, 8.0, -jnp.inf, 1.0, 10.0])
    judged = Judged(jnp.arange(5.0).reshape(5, 1, 1, 1), share, adversarial, loss)
    assert best_judged(judged).image == 3
    rows = [jax.tree.map(lambda leaf, r=r: leaf[r], judged) for r in range(5)]
    assert rows[3].better_of(rows[1]).image == 3
    assert rows[1].better_of(rows[3]).image == 3
    # On a tie the earlier one stays.
    assert rows[3].better_of(rows[3]._replace(image=jnp.ones((1, 1, 1)))).image == 3


def test_other_positions_lie_whole_on_the_image():
    attack = Patch(StickersMask(0.5, 0.2), positions=20)
    image = jnp.zeros((9, 10, 1))
    masks = np.asarray(attack._masks(KEY, image))[..., 0]
    own = attack.mask.pixels(9, 10)
    np.testing.assert_array_equal(masks[0], own)
    assert len(np.unique(masks, axis=0)) > 5
    top, left = (np.flatnonzero(own.any(axis))[0] for axis in (1, 0))
    for mask in masks:
        # The same two bars, moved: nothing is cut off, nothing wraps round.
        assert mask.sum() == own.sum()
        down = np.flatnonzero(mask.any(1))[0] - top
        right = np.flatnonzero(mask.any(0))[0] - left
        np.testing.assert_array_equal(mask, np.roll(own, (down, right), (0, 1)))
        for axis in (0, 1):
            spans = [np.ptp(np.flatnonzero(m.any(axis))) for m in (mask, own)]
            assert spans[0] == spans[1]


def test_non_printability_is_the_distance_to_the_nearest_colour():
    sticker = jnp.array([[[0.1, 0.0, 0.0], [1.0, 1.0, 0.7]]])
    mask = jnp.ones((1, 2, 1))
    greys = non_printability(sticker, mask, (0.0, 1.0))
    assert float(greys) == pytest.approx(0.4, rel=1e-6)
    coloured = non_printability(sticker, mask, ((0.1, 0.0, 0.0), (1.0, 1.0, 1.0)))
    assert float(coloured) == pytest.approx(0.3, rel=1e-6)
    slope = jax.grad(non_printability)(jnp.zeros((1, 2, 1)), mask, (0.0, 1.0))
    np.testing.assert_array_equal(slope, 0)


def test_total_variation_counts_neighbours_under_the_mask_alone():
    sticker = jnp.array([[0.0, 1.0], [0.5, 9.0]])[..., None]
    mask = jnp.array([[1.0, 1.0], [1.0, 0.0]])[..., None]
    assert float(total_variation(sticker, mask)) == 1.5


@pytest.mark.parametrize(
    ("penalty", "measure"),
    [
        ({"printability": 3.0}, lambda s, m: non_printability(s, m, (0.3, 0.7))),
        ({"smoothness": 3.0}, total_variation),
    ],
    ids=["printability", "smoothness"],
)
@pytest.mark.parametrize("toy", [4], indirect=True)
def test_penalties_lower_what_they_penalise(penalty, measure, toy):
    def mean(**more):
        attack = Patch(
            SquareMask(0.5),
            steps=10,
            transformations=STILL,
            printable=(0.3, 0.7),
            **more,
        )
        crafted = _craft(attack, toy.params, toy.images, toy.labels, toy.apply)
        mask = jnp.asarray(attack.mask.pixels(6, 6), jnp.float32)[..., None]
        return np.mean([measure(image, mask) for image in crafted.images])

    assert mean(**penalty) < 0.5 * mean()


@pytest.mark.parametrize("toy", [4], indirect=True)
def test_views_unseen_by_the_attack_are_fooled_as_well(toy):
    attack = Patch(SquareMask(0.8), steps=30, transformations=MOVING, samples=4)
    crafted = _craft(attack, toy.params, toy.images, toy.labels, toy.apply)
    still = Patch(SquareMask(0.8), steps=30, transformations=STILL)
    unmoved = _craft(still, toy.params, toy.images, toy.labels, toy.apply)

    def fooled(images):
        return attacks.physical_success(
            toy.apply,
            toy.params,
            toy.images,
            images,
            toy.labels,
            MOVING,
            key=jax.random.key(99),
            views=50,
        )

    found = fooled(crafted.images)
    assert found.views == 50
    assert found.attacked.sum() > found.clean.sum()
    assert found.attacked.sum() > fooled(unmoved.images).attacked.sum()


@pytest.mark.parametrize("toy", [4], indirect=True)
def test_views_of_still_images_are_all_alike(toy):
    images = np.asarray(toy.images)
    found = attacks.physical_success(
        toy.apply,
        toy.params,
        images,
        images[::-1],
        toy.labels,
        STILL,
        key=KEY,
        views=3,
    )
    reversed_labels = toy.labels[::-1]
    np.testing.assert_array_equal(found.clean, 0)
    np.testing.assert_array_equal(found.attacked, 3 * (reversed_labels != toy.labels))
    reached = attacks.physical_success(
        toy.apply,
        toy.params,
        images,
        images[::-1],
        toy.labels,
        STILL,
        key=KEY,
        views=3,
        targets=reversed_labels,
    )
    np.testing.assert_array_equal(reached.attacked, 3)


def test_configs_write_the_parts_as_calls():
    text = (
        "patch(mask=stickers(length=0.4), steps=5, "
        "transformations=transformations(rotation=5.0))"
    )
    attack = attacks.registry.build(text)
    assert attack.mask == StickersMask(length=0.4)
    assert attack == Patch(
        "stickers(length=0.4)", 5, transformations=Transformations(5.0)
    )
    assert attacks.registry.build(attacks.registry.to_string(attack)) == attack


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"samples": 0},
        {"evaluation_samples": 0},
        {"positions": 0},
        {"learning_rate": 0.0},
        {"printability": -1.0},
        {"smoothness": float("nan")},
        {"printable": ()},
        {"printable": (1.5,)},
        {"printable": (0.5, (0.1, 0.2, 0.3))},
        {"printable": ("red",)},
        {"printable": (((0.1,),),)},
    ],
    ids=str,
)
def test_fields_are_checked(wrong):
    (field,) = wrong
    with pytest.raises(UsageError, match=f"Patch.{field} is .*; allowed: "):
        Patch("stickers", **wrong)


def test_colours_are_those_of_the_images():
    attack = Patch("stickers", printable=([0.1, 0.2, 0.3], [0.5] * 3))
    assert hash(attack) == hash(
        Patch("stickers", printable=((0.1, 0.2, 0.3), (0.5,) * 3))
    )
    attack.check_images(3)
    with pytest.raises(UsageError, match="allowed: grey levels, or tuples of 1 level"):
        attack.check_images(1)


@dataclasses.dataclass(frozen=True)
class Given(Mask):
    """A mask of the user's own, whatever the image."""

    shape: tuple[int, ...]
    kind: str = "bool"

    def pixels(self, height, width):
        return np.ones(self.shape, self.kind)


class Nothing(Mask):
    def pixels(self, height, width):
        return np.zeros((height, width), bool)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (Given((2, 2)), r"gives an array \(2, 2\) of type bool that covers 4 pixels"),
        (Given((4, 4, 1)), r"gives an array \(4, 4, 1\) of type bool"),
        (Given((4, 4), "float32"), r"of type float32 .*; allowed: bools of the shape"),
        (Nothing(), r"that covers 0 pixels; allowed: bools of the shape \(4, 4\)"),
    ],
    ids=["size", "rank", "type", "nothing"],
)
def test_a_mask_of_the_users_own_fits_the_image(mask, words):
    untyped = getattr(pixels_of, "__wrapped__", pixels_of)
    with pytest.raises(UsageError, match=words):
        untyped(mask, 4, 4)
    assert pixels_of(Given((4, 4)), 4, 4).all()
