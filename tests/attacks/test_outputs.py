"""What is told of a classifier after a look at clean images, and what is not."""

import dataclasses
import functools
import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.attacks import (
    FGSM,
    PGD,
    AttackWarning,
    AutoAttack,
    CarliniWagner,
    DeepFool,
    Expectation,
    Square,
    craft,
    craft_grid,
)
from robust_manifold.attacks.outputs import check_outputs, hopeless_classes
from robust_manifold.runtime import weight_files
from tests.attacks.toys import make_toy

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(16, 3)), jnp.float32)
IMAGES = RNG.uniform(0.1, 0.9, size=(8, 4, 4, 1)).astype(np.float32)
PRETRAINED = pathlib.Path(__file__).parents[2] / "pretrained"


def linear(params, image):
    return (image.reshape(-1) - 0.5) @ params


def purified(params, image):
    """Behind a defence that rounds pixels to 0, 0.5 or 1."""
    return linear(params, jnp.round(2 * image) / 2)


def straight_through(params, image):
    rounded = image + jax.lax.stop_gradient(jnp.round(2 * image) / 2 - image)
    return linear(params, rounded)


def own_labels(apply, params=WEIGHTS, images=IMAGES):
    logits = jax.vmap(functools.partial(apply, params))(images)
    return np.argmax(np.asarray(logits), axis=-1)


def told(call):
    """Returns the sentences of a call's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(issubclass(one.category, AttackWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_a_purifier_without_gradients_is_told_and_its_view_is_not():
    labels = own_labels(purified)
    attack = functools.partial(
        craft, PGD(0.3), purified, WEIGHTS, IMAGES, labels, key=KEY
    )
    (sentence,) = told(attack)
    assert sentence.startswith("the gradients of apply are zero for 8 of 8 clean image")
    assert "view=" in sentence and "evaluation.audit" in sentence
    seeing = attack(view=straight_through)
    assert seeing.success.all()


@pytest.mark.parametrize("attack", [FGSM(0.1), DeepFool(), CarliniWagner(steps=2)])
def test_every_attack_that_asks_for_gradients_tells(attack):
    labels = own_labels(purified)
    options = {"key": KEY, "tile": 8}
    (sentence,) = told(
        lambda: craft(attack, purified, WEIGHTS, IMAGES, labels, **options)
    )
    assert "zero for 8 of 8" in sentence


def test_a_grid_tells_once():
    labels, budgets = own_labels(purified), [0.0, 0.1, 0.2]
    (sentence,) = told(
        lambda: craft_grid(
            FGSM(0.0), purified, WEIGHTS, IMAGES, labels, budgets, key=KEY
        )
    )
    assert "zero for 8 of 8" in sentence


def test_an_attack_that_asks_for_no_gradient_looks_at_none():
    labels, attack = own_labels(purified), Square(0.01, queries=2)
    assert not told(lambda: craft(attack, purified, WEIGHTS, IMAGES, labels, key=KEY))


def half_blind(params, image):
    """Without a gradient where the first pixel is 1, with a NaN one where it is 0."""
    first = image[0, 0, 0]
    root = jnp.sqrt(first) * jnp.arange(3) * 1e-3
    logits = linear(params, image) + root
    return jnp.where(first == 1, jax.lax.stop_gradient(logits), logits)


def test_the_share_is_that_of_the_images_that_are_right():
    images = IMAGES.copy()
    images[:3, 0, 0], images[6:, 0, 0] = 1, 0
    labels = own_labels(half_blind, images=images)
    wrong = labels.copy()
    wrong[:2] = (wrong[:2] + 1) % 3
    (sentence,) = told(
        lambda: craft(FGSM(0.1), half_blind, WEIGHTS, images, wrong, key=KEY)
    )
    # Of the three without a gradient two are wrong already.
    assert "zero for 1 of 6 clean images" in sentence
    assert "and are NaN or infinite for 2 of 6 clean images" in sentence


def test_a_zero_gradient_of_the_view_names_the_view():
    labels = own_labels(linear)
    (sentence,) = told(
        lambda: craft(
            FGSM(0.1), linear, WEIGHTS, IMAGES, labels, key=KEY, view=purified
        )
    )
    assert "the gradients of the view are zero" in sentence
    assert "Give the view gradients" in sentence


def test_targets_that_are_reached_already_do_not_count():
    labels = own_labels(purified)
    targets = (labels + 1) % 3
    (sentence,) = told(
        lambda: craft(
            FGSM(0.1), purified, WEIGHTS, IMAGES, labels, key=KEY, targets=targets
        )
    )
    assert "zero for 8 of 8" in sentence


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A random classifier."""

    inner: object

    def __call__(self, params, image, key):
        return self.inner(params, image + 0.01 * jax.random.normal(key, image.shape))


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_random_classifiers(fixed, samples):
    keys = jax.random.split(KEY, len(IMAGES)) if fixed else None
    for inner, expected in ((purified, 1), (linear, 0)):
        found = told(
            lambda inner=inner: craft(
                FGSM(0.1),
                Expectation(Noisy(inner)),
                WEIGHTS,
                IMAGES,
                own_labels(inner),
                key=KEY,
                view=Expectation(Noisy(inner), samples),
                fixed_keys=keys,
            )
        )
        assert len(found) == expected


def masked(mask):
    @functools.cache
    def made(mask):
        return lambda params, image: jnp.append(linear(params, image), mask)

    return made(mask)


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("mask", [-np.inf, -1e9, LOWEST])
def test_classes_that_can_never_win_are_told(mask):
    labels = own_labels(linear)
    attack = FGSM(0.1, loss="margin")
    (sentence,) = told(
        lambda: craft(attack, masked(mask), WEIGHTS, IMAGES, labels, key=KEY)
    )
    assert sentence.startswith("apply can never predict the classes 3 of 4: on all 8")
    *_, sentence = told(
        lambda: craft(
            attack, masked(mask), WEIGHTS, IMAGES, labels, key=KEY, targets=[3] * 8
        )
    )
    assert "as 8 of 8 targets would have it" in sentence


def test_one_class_alone_is_told_without_a_word_on_gradients():
    """The margin over no class at all has none, which is not the classifier's fault."""

    def apply(params, image):
        return linear(params, image) + jnp.asarray([-jnp.inf, 0, -jnp.inf])

    labels = np.ones(len(IMAGES), int)
    (sentence,) = told(
        lambda: check_outputs(apply, WEIGHTS, IMAGES, labels, key=KEY, gradients=True)
    )
    assert sentence.startswith("apply can never predict the classes 0, 2 of 3")


@pytest.mark.parametrize("mask", [-1e9, -1e30, LOWEST])
@pytest.mark.parametrize("added", [False, True])
def test_finite_masks_that_leave_one_class_are_told(mask, added):
    """Whether they replace the logits or are added to them, as float32 rounds."""
    own = np.asarray(IMAGES.reshape(8, -1) @ WEIGHTS)
    masked = own[:, 1:] * added + np.float32(mask)
    logits = np.concatenate([own[:, :1], masked], axis=1)
    np.testing.assert_array_equal(hopeless_classes(logits), [False, True, True])
    two = logits[:, :2]
    np.testing.assert_array_equal(hopeless_classes(two), [False, True])
    one = np.concatenate([two, np.full((8, 1), -np.inf)], axis=1)
    np.testing.assert_array_equal(hopeless_classes(one), [False, True, True])


def test_a_class_that_is_right_does_not_make_the_others_hopeless():
    """On images of one class alone, and by hard decisions, a logit may stand still."""
    own = np.asarray(IMAGES.reshape(8, -1) @ WEIGHTS)
    hard = np.where(np.arange(3) == 1, 0.0, -1e9) + np.zeros((8, 1))
    sure = np.asarray(jax.nn.log_softmax(jnp.asarray(own * 1e6 + [9e9, 0, 0])))
    reference = np.append(own[:, :1], np.zeros((8, 1)), axis=1)
    for logits in (hard, hard[:1], own[:1] + [0, -1e9, -1e9], sure, reference):
        assert not hopeless_classes(np.asarray(logits, np.float64)).any()


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
@pytest.mark.parametrize("n", [1, 8])
def test_plain_logits_have_no_hopeless_classes(scale, n):
    logits = scale * RNG.normal(size=(n, 1000))
    sure = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)), np.float64)
    for given in (logits, sure, sure - 1e4 * np.arange(1000)):
        assert not hopeless_classes(given).any()
    given = np.where(np.arange(1000) % 2, -np.inf, logits)
    np.testing.assert_array_equal(hopeless_classes(given), np.arange(1000) % 2)


def test_many_classes_are_not_listed():
    logits = np.where(np.arange(1000) < 3, 0, -1e9)[None] + np.zeros((2, 1))

    def apply(params, image):
        return jnp.asarray(logits[0]) + params * image.sum()

    (sentence,) = told(
        lambda: check_outputs(apply, jnp.float32(1), IMAGES[:2], key=KEY)
    )
    assert "classes 3, 4, 5, 6 and 993 more of 1000" in sentence


def test_latents_are_looked_at_like_images():
    """A search of latents looks through its generator, with the predicted classes."""
    latents = RNG.normal(size=(8, 2)).astype(np.float32)

    def through(rounds, params, latent):
        image = jax.nn.sigmoid(latent @ params[0]).reshape(4, 4, 1)
        return (purified if rounds else linear)(params[1], image)

    params = (jnp.asarray(RNG.normal(size=(2, 16)), jnp.float32), WEIGHTS)
    for rounds in (False, True):
        found = told(
            lambda rounds=rounds: check_outputs(
                functools.partial(through, rounds),
                params,
                latents,
                key=KEY,
                gradients=True,
                what="first latents",
            )
        )
        assert len(found) == rounds
    assert "zero for 8 of 8 first latents" in found[0]


def test_the_look_counts_as_no_query():
    labels = own_labels(linear)
    crafted = craft(PGD(0.1, steps=3), linear, WEIGHTS, IMAGES, labels, key=KEY)
    cost = PGD(0.1, steps=3).cost(3)
    np.testing.assert_array_equal(crafted.queries.forwards, [cost.forwards] * 8)
    np.testing.assert_array_equal(crafted.queries.backwards, [cost.backwards] * 8)


def published(name):
    """Returns a network of the folder of published weights, and its parameters."""
    stored = weight_files.read(PRETRAINED / f"{name}.safetensors")
    shape = (28, 28, 1)
    model = models.build(stored.metadata["model"], image_shape=shape, classes=10)
    return model, models.from_table(model, stored.table)


@functools.cache
def digits():
    """Returns images of the published generator, as good as digits."""
    model, params = published("mnist_dcgan")
    latents = jax.random.normal(KEY, (12, *model.input_shape))
    return np.asarray(jnp.clip(model.apply(params, latents), 0, 1))


@pytest.mark.parametrize("name", ["mnist_small_cnn", "mnist_small_cnn_pgd"])
def test_nothing_is_told_of_the_published_classifiers(name):
    model, params = published(name)
    labels = own_labels(model.apply, params, digits())
    options = {"key": KEY, "loop": "python", "tile": 16}
    assert not told(
        lambda: craft(
            AutoAttack(0.3, steps=2, queries=5, targets=2),
            model.apply,
            params,
            digits(),
            labels,
            **options,
        )
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_nothing_is_told_of_the_toys(classes):
    toy = make_toy(classes)
    attack = AutoAttack(0.1, steps=5, queries=20)
    for scale in (1e-6, 1.0, 1e6):
        params = toy.params | {"scale": jnp.float32(scale) * toy.params["scale"]}
        assert not told(
            lambda params=params: craft(
                attack, toy.apply, params, toy.images, toy.labels, key=KEY, tile=8
            )
        )
