"""What crafted images print as, and what an ensemble tells of its members."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import APGD, AutoAttack, MemberDone, Square

KEY = jax.random.key(0)
PARAMS = jnp.eye(4, 3)
# How far the first pixel is ahead of the others is twice what breaks an image.
IMAGES = np.float32([[0.6, 0.5, 0.2, 0.1], [0.9, 0.1, 0.1, 0.1]]).reshape(2, 2, 2, 1)
LABELS = np.array([0, 0])
TEAM = AutoAttack(0.1, steps=4, queries=4, targets=2)


def apply(params, image):
    return image.reshape(-1) @ params


def crafted(attack, **options):
    return attacks.craft(attack, apply, PARAMS, IMAGES, LABELS, key=KEY, **options)


def test_crafted_images_print_as_one_line_with_what_they_come_to():
    made = crafted(attacks.FGSM(epsilon=0.1))
    assert made.summary() == (2, 1, pytest.approx(0.1, rel=1e-6), 1.0, 1.0, (1,))
    assert repr(made) == str(made) == f"Crafted({made.summary()})"
    assert str(made.summary()) == (
        "1 of 2 images broken (50.0 %), median distance 0.1; an image: outputs 1, "
        "gradients 1"
    )


def test_without_a_success_there_is_no_distance():
    found = crafted(attacks.FGSM(epsilon=0.01)).summary()
    assert (found.broken, found.members) == (0, (0,)) and np.isnan(found.distance)
    assert "distance" not in str(found)


def test_the_budgets_of_a_grid_are_counted_together():
    made = attacks.craft_grid(
        attacks.FGSM(epsilon=0.1), apply, PARAMS, IMAGES, LABELS, [0.01, 0.1], key=KEY
    )
    assert made.summary()[:2] == (4, 1)


def test_inside_of_a_program_they_print_without_numbers():
    made, told = crafted(attacks.FGSM(epsilon=0.1)), []
    jax.jit(lambda tree: told.append(repr(tree)) or tree.success)(made)
    shapes = repr(jax.eval_shape(lambda tree: tree, made))
    assert "JitTracer" in told[0] and "ShapeDtypeStruct" in shapes


def test_an_ensemble_tells_after_each_member_what_is_left():
    told: list[MemberDone] = []
    made = crafted(TEAM, on_member=told.append)
    first, *others = told
    assert (first.attack, first.given, first.broken) == (
        APGD(0.1, steps=4, stop=True),
        2,
        1,
    )
    assert isinstance(others[-1].attack, Square)
    assert [(each.given, each.broken, each.left) for each in others] == [(1, 0, 1)] * 3
    assert str(first) == (
        "apgd(epsilon=0.1, steps=4, stop=True) broke 1 of 2: 1 of 2 images are left "
        "(50.0 %)"
    )
    assert repr(made).count("by member (1, 0, 0, 0)") == 0
    assert made.summary().broken == 1


def test_a_single_attack_has_no_members_to_tell_of():
    told: list[MemberDone] = []
    crafted(APGD(0.1, steps=2), on_member=told.append)
    assert told == []
