"""Substitutes of networks that know no classes, learned from their outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.core.criterion import (
    AnyLabelWrong,
    Criterion,
    Deviates,
    SignFlips,
    Targeted,
)
from robust_manifold.core.errors import UsageError
from robust_manifold.training import SubstituteTraining, train_substitute
from robust_manifold.training.optimizers import Adam

SIDE = 3
SPEC = SubstituteTraining(
    "linear", seeds=128, rounds=2, epochs=60, batch_size=64, optimizer=Adam(0.1)
)
WEIGHTS = np.random.default_rng(3).normal(size=(SIDE * SIDE, 2)).astype(np.float32)


def images_of(n, seed=0):
    drawn = np.random.default_rng(seed).uniform(0.2, 0.8, (n, SIDE, SIDE, 1))
    return drawn.astype(np.float32)


def projected(images):
    return (images.reshape(len(images), -1) - 0.5) @ WEIGHTS


TASKS = {
    "numbers": (Deviates(0.1), lambda images: projected(images)[:, 0]),
    "in other units": (
        Deviates(100.0),
        lambda images: 5000 + 1000 * projected(images)[:, 0],
    ),
    "two numbers": (Deviates(0.1), projected),
    "angles about 0": (
        Deviates(4.0, period=360.0),
        lambda images: 40 * projected(images)[:, 0] % 360,
    ),
    "labels": (AnyLabelWrong(), lambda images: projected(images) > 0),
    "one logit": (SignFlips(), lambda images: projected(images)[:, 0] > 0),
}


def trained(criterion, label, spec=SPEC, **options):
    options = {"key": jax.random.key(0)} | options
    # Without the checks of types that tests add to it.
    train = getattr(train_substitute, "__wrapped__", train_substitute)
    return train(label, spec, images_of(128), criterion=criterion, **options)


@pytest.mark.parametrize("name", TASKS)
def test_a_linear_target_is_learned_from_its_outputs(name):
    criterion, target = TASKS[name]
    made = trained(criterion, target)
    held_out = images_of(200, seed=1)
    outputs = jax.vmap(made.apply, (None, 0))(made.params, held_out)
    wrong = jax.vmap(criterion.succeeds)(outputs, target(held_out))
    # A yes or a no tells less than a number does.
    assert np.mean(wrong) < (0.15 if target(held_out).dtype == bool else 0.02)
    assert made.history[-1].agreement > 0.9
    assert made.queries == SPEC.queries == 256


def test_what_breaks_the_substitute_breaks_the_target():
    criterion, target = TASKS["numbers"]
    made = trained(criterion, target)

    def apply(params, image):
        return (image.reshape(-1) - 0.5) @ params

    images = images_of(20, seed=2)
    reach = np.abs(WEIGHTS[:, 0]).sum()
    for share, wanted in ((0.8, False), (1.4, True)):
        found = attacks.transfer(
            attacks.PGD(share * criterion.tolerance / reach, steps=10),
            made.apply,
            made.params,
            apply,
            jnp.asarray(WEIGHTS[:, 0]),
            images,
            target(images),
            criterion=criterion,
            key=jax.random.key(1),
        )
        assert found.success.all() == found.success.any() == wanted


def test_images_move_along_the_criterion_s_loss():
    asked = []

    def target(images):
        asked.append(images)
        return projected(images)[:, 0]

    trained(TASKS["numbers"][0], target)
    signs = np.sign(asked[1] - asked[0]).reshape(128, -1)
    np.testing.assert_allclose(np.abs(asked[1] - asked[0]), 0.1, atol=1e-6)
    along = signs * np.sign(WEIGHTS[:, 0])
    # A linear network's slope is its weights', up to its sign, for every image.
    assert (np.abs(along.sum(axis=1)) >= 7).all()


class _Silent(Criterion):
    """A criterion that does not say how its outputs are learned."""

    def loss(self, output, target):
        return output - target

    def succeeds(self, output, target):
        return output > target

    def check(self, output, targets, n):
        return np.asarray(targets)


@pytest.mark.parametrize(
    "criterion, label, options, sentence",
    [
        (Deviates(0.1), lambda images: images.mean(), {}, "`label` returned: targets"),
        (Deviates(0.1), lambda images: images[1:], {}, "`label` returned: targets"),
        (Deviates(0.1), TASKS["numbers"][1], {"classes": 3}, "classes is 3 beside"),
        (AnyLabelWrong(), projected, {}, "`label` returned: targets"),
        (Targeted(), TASKS["numbers"][1], {}, "classes is None"),
        ("deviates", TASKS["numbers"][1], {}, "criterion is 'deviates'"),
    ],
)
def test_what_cannot_be_learned_is_refused(criterion, label, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        trained(criterion, label, **options)


def test_a_criterion_without_a_misfit_is_refused_before_anything_is_asked():
    asked = []
    with pytest.raises(UsageError, match="does not say how its outputs are learned"):
        trained(_Silent(), asked.append)
    assert not asked


def test_answers_of_another_shape_than_the_first_are_refused():
    asked = []

    def label(images):
        asked.append(images)
        return projected(images)[:, : len(asked)]

    with pytest.raises(UsageError, match=r"`label` returned: .*\(128, 1\)"):
        trained(Deviates(0.1), label)
