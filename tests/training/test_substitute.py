"""Substitutes: what they learn from labels alone, what they ask, how images move."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from robust_manifold import attacks, models
from robust_manifold.core.errors import UsageError
from robust_manifold.training import SubstituteTraining, substitutes, train_substitute
from robust_manifold.training.optimizers import Adam
from robust_manifold.training.substitute import augmented

CLASSES, SIDE = 3, 3
SMALL = SubstituteTraining(
    "linear", seeds=64, rounds=3, epochs=40, batch_size=32, optimizer=Adam(0.1)
)


class Linear:
    """A linear target that only answers: it keeps what it was asked."""

    def __init__(self):
        weights = np.random.default_rng(3).normal(size=(SIDE * SIDE, CLASSES))
        self.weights = weights - weights.mean(axis=0)
        self.asked = []

    def __call__(self, images):
        # A tracer is no array of NumPy's: nothing of this function can be derived.
        assert type(images) is np.ndarray and images.dtype == np.float32
        self.asked.append(images)
        return self.classes(images)

    def classes(self, images):
        return np.argmax(images.reshape(len(images), -1) @ self.weights, axis=-1)


def images_of(n, seed=0, low=0.2):
    """Returns images so far from black and white that two steps of 0.1 fit."""
    drawn = np.random.default_rng(seed).uniform(low, 1 - low, (n, SIDE, SIDE, 1))
    return drawn.astype(np.float32)


@pytest.fixture(scope="module")
def learned():
    target = Linear()
    trained = train_substitute(
        target, SMALL, images_of(70), classes=CLASSES, key=jax.random.key(0)
    )
    return target, trained


def test_a_linear_target_is_learned_from_its_labels(learned):
    target, trained = learned
    held_out = images_of(400, seed=1)
    logits = trained.apply(trained.params, jnp.asarray(held_out))
    predicted = np.argmax(logits, axis=-1)
    agreement = np.mean(predicted == target.classes(held_out))
    # Chance, and the largest class alone, come to less than half.
    shares = np.bincount(target.classes(held_out), minlength=CLASSES) / 400
    assert shares.max() < 0.5 and agreement > 0.85
    assert trained.history[-1].agreement > 0.9


def test_every_label_is_counted_and_asked_for_once(learned):
    target, trained = learned
    assert SMALL.sizes == (64, 128, 256)
    assert [len(images) for images in target.asked] == [64, 64, 128]
    assert trained.queries == SMALL.queries == 256
    assert [told.queries for told in trained.history] == [64, 128, 256]
    # The first images alone are the user's, and no more of them than the spec says.
    np.testing.assert_array_equal(target.asked[0], images_of(70)[:64])


def test_images_move_by_the_step_whose_sign_flips(learned):
    target, _ = learned
    labelled = target.asked[0]
    for place, added in enumerate(target.asked[1:]):
        moved = np.abs(added - labelled)
        np.testing.assert_allclose(moved, 0.1, atol=1e-6, err_msg=str(place))
        labelled = np.concatenate([labelled, added])
    signs = [SubstituteTraining(flip_every=2).signed_step(place) for place in range(5)]
    assert signs == [0.1, 0.1, -0.1, -0.1, 0.1]
    assert SubstituteTraining(flip_every=0).signed_step(7) == 0.1


@pytest.mark.parametrize("step", [0.25, -0.25])
def test_augmentation_by_hand(step):
    model = models.build("linear", image_shape=(SIDE, SIDE, 1), classes=CLASSES)
    params = model.init(jax.random.key(5))
    (kernel,) = (leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    images, labels = images_of(7, low=0.0), np.arange(7, dtype=np.int32) % CLASSES
    # The gradient of a linear logit is its column of the kernel.
    slope = np.asarray(kernel).T[labels].reshape(images.shape)
    expected = np.clip(images + np.float32(step) * np.sign(slope), 0, 1)
    found = augmented(model, params, images, labels, step, batch_size=4)
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_where_nothing_has_a_gradient_images_stay():
    model = models.build("linear", image_shape=(SIDE, SIDE, 1), classes=CLASSES)
    for value in (0.0, np.nan):
        params = jax.tree.map(
            lambda leaf, value=value: jnp.full_like(leaf, value),
            model.init(jax.random.key(5)),
        )
        images = images_of(4)
        found = augmented(model, params, images, np.zeros(4, np.int32), 0.1)
        np.testing.assert_array_equal(found, images)


def test_equal_keys_give_equal_substitutes_and_others_do_not():
    spec = SubstituteTraining(
        "linear", seeds=8, rounds=3, epochs=1, batch_size=8, reservoir=5
    )
    asked, params = [], []
    for seed in (0, 0, 1):
        target = Linear()
        trained = train_substitute(
            target, spec, images_of(8), classes=CLASSES, key=jax.random.key(seed)
        )
        asked.append(np.concatenate(target.asked))
        params.append(ravel_pytree(trained.params)[0])
        # The reservoir holds back what doubling would ask.
        assert [len(images) for images in target.asked] == [8, 5, 5]
        assert trained.queries == spec.queries == 18
    np.testing.assert_array_equal(asked[0], asked[1])
    np.testing.assert_array_equal(params[0], params[1])
    assert (asked[0] != asked[2]).any() and (params[0] != params[2]).any()


def test_what_fools_the_substitute_is_counted_on_the_target(learned):
    target, trained = learned
    images = images_of(64, seed=2)
    labels = target.classes(images)
    weights = jnp.asarray(target.weights, jnp.float32)

    def apply(params, image):
        return image.reshape(-1) @ params

    crafted = attacks.transfer(
        attacks.FGSM(0.3),
        trained.apply,
        trained.params,
        apply,
        weights,
        images,
        labels,
        key=jax.random.key(1),
    )
    alone = attacks.craft(
        attacks.FGSM(0.3),
        trained.apply,
        trained.params,
        images,
        labels,
        key=jax.random.key(1),
    )
    np.testing.assert_array_equal(crafted.images, alone.images)
    fooled = target.classes(np.asarray(crafted.images)) != labels
    np.testing.assert_array_equal(crafted.success, fooled)
    assert fooled.mean() > 0.5


def test_texts_of_configs_are_read_and_written():
    assert substitutes.build("substitute") == SubstituteTraining()
    text = "substitute(model=small_cnn(width=4), rounds=2, optimizer=adam(0.01))"
    spec = substitutes.build(text)
    assert substitutes.build(substitutes.to_string(spec)) == spec
    assert substitutes.to_string(SubstituteTraining()) == "substitute"
    assert SubstituteTraining().sizes == (150, 300, 600, 1200, 2400, 4800)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        (
            {"model": "dcgan_generator"},
            "SubstituteTraining.model is .*; allowed: a classifier",
        ),
        ({"model": "lineer"}, "'lineer'.*'linear'"),
        ({"seeds": 0}, "SubstituteTraining.seeds is 0; allowed: 1 or more"),
        ({"rounds": 0}, "rounds is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"reservoir": -1}, "reservoir is -1; allowed: 0 or more"),
        ({"flip_every": -1}, "flip_every is -1"),
        ({"step": 0.0}, "step is 0.0; allowed: a finite number above 0"),
        ({"step": float("nan")}, "step is nan"),
    ],
)
def test_impossible_settings_are_refused(fields, named):
    with pytest.raises(UsageError, match=named):
        SubstituteTraining(**fields)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda images: np.full(len(images), 3), "`label` returned: .*0 to 2"),
        (lambda images: np.zeros(len(images)), "`label` returned: .*whole numbers"),
        (lambda images: np.zeros(3, int), r"`label` returned: .*shape \(3,\)"),
    ],
)
def test_answers_that_are_no_classes_are_refused(answer, named):
    with pytest.raises(UsageError, match=named):
        train_substitute(
            answer, SMALL, images_of(64), classes=CLASSES, key=jax.random.key(0)
        )


def test_too_few_seeds_are_refused():
    with pytest.raises(UsageError, match="seeds is 64; allowed: at most the 63 images"):
        train_substitute(
            Linear(), SMALL, images_of(63), classes=CLASSES, key=jax.random.key(0)
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": 0}, "key is 0; allowed: a key such as"),
        ({"classes": 1}, "classes is 1; allowed: a whole number, 2 or more"),
        ({"classes": None}, "classes is None; allowed: a whole number"),
        ({"label": 3}, "label is 3; allowed: a function of images"),
        ({"substitute": "substitute"}, "substitute is 'substitute'; allowed: a Subst"),
        ({"seeds": None}, "images have shape"),
    ],
)
def test_arguments_of_the_wrong_kind_are_named(changes, words):
    given = {
        "label": lambda images: np.zeros(len(images), int),
        "substitute": SubstituteTraining(seeds=2),
        "seeds": np.zeros((2, 4, 4, 1), np.float32),
        "classes": 2,
        "key": jax.random.key(0),
    } | changes
    # Without the checks of types that tests add to it.
    train = getattr(train_substitute, "__wrapped__", train_substitute)
    with pytest.raises(UsageError, match=words):
        train(**given)
