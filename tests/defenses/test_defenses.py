import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.defenses import DefenseGAN, InvertAndClassify, NoDefense
from robust_manifold.inversion import Adam, GradientDescent, invert_one

KEY = jax.random.key(0)
MATRIX = jnp.asarray(
    np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0].T, jnp.float32
)
IMAGE = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 3, 1)), jnp.float32)


def generate(latent):
    return (latent @ MATRIX).reshape(2, 3, 1)


def classify(image):
    return jnp.stack([image.sum(), image[0, 0, 0], -image[1, 1, 0]])


def run(defense, key=KEY):
    return defense.defend(key, generate, classify, IMAGE, (2,))


def projection():
    flat = np.asarray(IMAGE).reshape(-1)
    return (np.asarray(MATRIX).T @ (np.asarray(MATRIX) @ flat)).reshape(2, 3, 1)


PROJECTING = {
    "invert_and_classify": [
        InvertAndClassify(GradientDescent(300, 1.0), restarts=2),
        InvertAndClassify("adam(steps=500, schedule='cosine')", restarts=1),
    ],
    "defense_gan": [DefenseGAN(steps=300, restarts=2, learning_rate=1.0)],
}
ALL = [spec for specs in PROJECTING.values() for spec in specs]


def test_no_defence_is_left_out():
    assert sorted([*PROJECTING, "none"]) == defenses.registry.names


@pytest.mark.parametrize("defense", ALL, ids=str)
def test_what_is_classified_is_the_projection(defense):
    defended = run(defense)
    np.testing.assert_allclose(defended.inversion.image, projection(), atol=1e-4)
    np.testing.assert_allclose(
        defended.logits, classify(jnp.asarray(projection())), atol=1e-3
    )
    np.testing.assert_array_equal(defended.logits, classify(defended.inversion.image))
    logits = defense(KEY, generate, classify, IMAGE, (2,))
    np.testing.assert_array_equal(logits, defended.logits)
    again = defense.project(KEY, generate, IMAGE, (2,))
    np.testing.assert_array_equal(again.latent, defended.inversion.latent)


def test_none_is_the_bare_classifier():
    defended = run(NoDefense())
    assert defended.inversion is None
    np.testing.assert_array_equal(defended.logits, classify(IMAGE))
    np.testing.assert_array_equal(
        NoDefense()(KEY, generate, classify, IMAGE, (2,)), classify(IMAGE)
    )


@pytest.mark.parametrize("defense", [*ALL, NoDefense()], ids=str)
def test_specs_are_values(defense):
    text = defenses.registry.to_string(defense)
    assert defenses.registry.build(text) == defense
    assert hash(defenses.registry.build(text)) == hash(defense)
    with pytest.raises(dataclasses.FrozenInstanceError):
        defense.restarts = 1


def test_a_solver_given_as_text_is_that_solver():
    text = "invert_and_classify(solver='adam(steps=100)', restarts=4)"
    built = defenses.registry.build(text)
    assert built == InvertAndClassify(Adam(steps=100), restarts=4)
    assert built == InvertAndClassify("adam(steps=100, learning_rate=0.1)", 4)
    assert hash(built) == hash(InvertAndClassify(Adam(steps=100), restarts=4))
    assert built != InvertAndClassify(Adam(steps=101), restarts=4)
    assert defenses.registry.to_string(built) == text
    assert defenses.registry.to_string(InvertAndClassify()) == "invert_and_classify"


def test_defense_gan_is_its_recipe():
    assert DefenseGAN().solver == GradientDescent(200, 10.0, 0.7, decay=0.1)
    assert DefenseGAN().restarts == 10
    by_hand = invert_one(
        generate,
        IMAGE,
        KEY,
        solver=GradientDescent(5, 0.5, 0.7),
        restarts=3,
        latent_shape=(2,),
        start_scale=2**-0.5,
    )
    preset = DefenseGAN(5, 3, 0.5).project(KEY, generate, IMAGE, (2,))
    np.testing.assert_array_equal(preset.restart_errors, by_hand.restart_errors)


def test_the_starts_follow_the_scale():
    """One tiny step leaves the start where it was drawn."""
    solver = GradientDescent(1, 1e-30)
    one, two = (
        InvertAndClassify(solver, 1, scale).project(KEY, generate, IMAGE, (2,)).latent
        for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose(two, 3 * one, rtol=1e-6)


def test_the_key_matters():
    defense = InvertAndClassify(GradientDescent(1, 1e-3), 1)
    assert not np.array_equal(
        run(defense, jax.random.key(1)).logits, run(defense, jax.random.key(2)).logits
    )


@pytest.mark.parametrize("defense", [ALL[0], ALL[-1]], ids=str)
def test_gradients_flow_through_the_projection(defense):
    """The defended classifier of a linear generator has the projector's Jacobian."""
    jacobian = jax.jacobian(
        lambda x: defense(KEY, generate, classify, x, (2,)).reshape(3)
    )(IMAGE)
    projector = np.asarray(MATRIX).T @ np.asarray(MATRIX)
    readout = np.stack([np.ones(6), np.eye(6)[0], -np.eye(6)[4]])
    np.testing.assert_allclose(jacobian.reshape(3, 6), readout @ projector, atol=2e-3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("invert_and_classify(solver='adma')", "Did you mean 'adam'?"),
        ("invert_and_classify(solver='adam(steps=0)')", "Adam.steps is 0"),
        ("invert_and_classify(solver=3)", "solver is 3; allowed: Solver or a text."),
        ("invert_and_classify(restarts=0)", "InvertAndClassify.restarts is 0"),
        ("invert_and_classify(start_scale=-1)", "start_scale is -1.0"),
        ("defense_gan(steps=0)", "steps is 0"),
        ("defense_gan(restarts=0)", "DefenseGAN.restarts is 0"),
        ("defence_gan", "Did you mean 'defense_gan'?"),
        ("none(1)", "takes at most 0"),
    ],
)
def test_bad_fields_give_one_sentence(text, words):
    with pytest.raises(UsageError) as error:
        defenses.registry.build(text)
    assert words in str(error.value)
