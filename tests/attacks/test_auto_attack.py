import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import (
    APGD,
    FAB,
    AttackWarning,
    AutoAttack,
    Square,
    craft,
    registry,
)
from robust_manifold.core.errors import UsageError
from tests.attacks.toys import make_toy

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)


def test_the_standard_version_is_the_papers():
    """Cross-entropy is climbed as the margin, of which it is a rising function."""
    assert AutoAttack(0.3).members(10) == (
        APGD(0.3, steps=100, loss="margin", stop=True),
        APGD(0.3, steps=100, loss="targeted_dlr", targets=9, stop=True),
        FAB("linf", steps=100, targets=9, epsilon=0.3),
        Square(0.3, queries=5000, rescale=False),
    )


@pytest.mark.parametrize(
    ("classes", "losses"),
    [
        (2, ["margin"]),
        (3, ["margin", "dlr"]),
        (4, ["margin", "targeted_dlr"]),
        (10, ["margin", "targeted_dlr"]),
    ],
)
def test_few_classes_have_fewer_targets(classes, losses):
    *ascents, fab, square = AutoAttack(0.3, "l2").members(classes)
    assert [ascent.loss for ascent in ascents] == losses
    for member in (*ascents[1:], fab):
        assert getattr(member, "loss", None) == "dlr" or member.targets == classes - 1
    for member in (*ascents, fab, square):
        assert member.norm == "l2" and member.epsilon == 0.3
        assert member.for_classes(classes) == member


def test_rand_has_the_ascents_alone_and_ends_none_early():
    members = AutoAttack(0.3, version="rand").members(10)
    assert [member.loss for member in members] == ["margin", "dlr"]
    assert not any(member.stop for member in members)
    assert len(AutoAttack(0.3, version="rand").members(2)) == 1


def test_the_verdict_is_the_same_at_every_scale_of_the_logits():
    toy = make_toy(4)
    # A budget at which some images stand.
    attack = AutoAttack(0.04, steps=10, queries=50)
    verdicts = []
    for scale in (1.0, 100.0, 1000.0):
        params = toy.params | {"scale": scale * toy.params["scale"]}
        found = craft(attack, toy.apply, params, toy.images, toy.labels, key=KEY)
        verdicts.append(np.asarray(found.success))
    assert verdicts[0].any() and not verdicts[0].all()
    np.testing.assert_array_equal(verdicts[0], verdicts[1])
    np.testing.assert_array_equal(verdicts[0], verdicts[2])


def test_a_masked_gradient_leaves_the_work_to_square():
    """Rounded logits have no gradients: the member that needs none breaks them."""
    weights = np.random.default_rng(0).normal(size=(4, 4, 1)).astype(np.float32)

    def rounded(params, image):
        score = jnp.round(params * jnp.sum((image - 0.5) * weights))
        return jnp.stack([10.0 - score, score - 10.0])

    image = np.full((1, 4, 4, 1), 0.5, np.float32)
    # Of the largest score, 20 times a half is not reached by chance.
    params = jnp.float32(20 / (0.2 * np.abs(weights).sum()))
    attack = AutoAttack(0.2, steps=3, queries=400)
    with pytest.warns(AttackWarning, match="gradients of apply are zero"):
        found = craft(attack, rounded, params, image, [0], key=KEY)
    assert found.success.all()
    # With two classes: Auto-PGD, FAB, Square.
    np.testing.assert_array_equal(found.member, [2])
    assert int(found.queries.forwards[0]) > 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auto_attack(-1)", "AutoAttack.epsilon is -1"),
        ("auto_attack(0.1, norm='l0')", "AutoAttack.norm is 'l0'"),
        ("auto_attack(0.1, version='plus')", "'plus'"),
        ("auto_attack(0.1, steps=0)", "AutoAttack.steps is 0"),
        ("auto_attack(0.1, queries=0)", "AutoAttack.queries is 0"),
        ("auto_attack(0.1, targets=0)", "AutoAttack.targets is 0"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        registry.build(text)
    assert words in str(error.value)
