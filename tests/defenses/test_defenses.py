import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import defenses
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Manifold, Spanner, SpannerParams
from robust_manifold.core.prior import Normal, Uniform
from robust_manifold.defenses import (
    DefenseGAN,
    DefenseParams,
    InvertAndClassify,
    Networks,
    NoDefense,
)
from robust_manifold.inversion import Adam, GradientDescent, Restarts, invert_one

KEY = jax.random.key(0)
MATRIX = jnp.asarray(
    np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0].T, jnp.float32
)
IMAGE = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 3, 1)), jnp.float32)


def generate(latent):
    return (latent @ MATRIX).reshape(2, 3, 1)


def classify(image):
    return jnp.stack([image.sum(), image[0, 0, 0], -image[1, 1, 0]])


MANIFOLD = Manifold(generate, (2,))
NETWORKS = {"generator": MANIFOLD}


def run(defense, key=KEY):
    return defense.defend(key, NETWORKS, classify, IMAGE)


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
OTHERS = [
    "analysis_by_synthesis",
    "bit_depth",
    "diffusion",
    "encode_and_generate",
    "rejecting",
    "voting",
]
ALL = [spec for specs in PROJECTING.values() for spec in specs]


def test_no_defence_is_left_out():
    assert sorted([*PROJECTING, *OTHERS, "none"]) == defenses.registry.names


@pytest.mark.parametrize("defense", ALL, ids=str)
def test_what_is_classified_is_the_projection(defense):
    defended = run(defense)
    np.testing.assert_allclose(defended.purified, projection(), atol=1e-4)
    np.testing.assert_allclose(
        defended.output, classify(jnp.asarray(projection())), atol=1e-3
    )
    np.testing.assert_array_equal(defended.output, classify(defended.purified))
    logits = defense(KEY, NETWORKS, classify, IMAGE)
    np.testing.assert_array_equal(logits, defended.output)
    again = defense.purify(KEY, NETWORKS, IMAGE)
    np.testing.assert_array_equal(again.image, defended.purified)
    np.testing.assert_array_equal(again.details.latent, defended.details.latent)


def test_none_is_the_bare_classifier():
    defended = run(NoDefense())
    assert defended.purified is None and defended.details is None
    np.testing.assert_array_equal(defended.output, classify(IMAGE))
    np.testing.assert_array_equal(
        NoDefense()(KEY, NETWORKS, classify, IMAGE), classify(IMAGE)
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
    assert defenses.registry.to_string(built) == text.replace("'", "")
    assert defenses.registry.to_string(InvertAndClassify()) == "invert_and_classify"


def test_defense_gan_is_its_recipe():
    assert DefenseGAN().solver == GradientDescent(200, 10.0, 0.7, decay=0.1)
    assert DefenseGAN().restarts == 10
    by_hand = invert_one(
        MANIFOLD,
        IMAGE,
        KEY,
        solver=GradientDescent(5, 0.5, 0.7),
        restarts=Restarts(3, scale="unit"),
    )
    preset = DefenseGAN(5, 3, 0.5).purify(KEY, NETWORKS, IMAGE).details
    np.testing.assert_array_equal(preset.restart_errors, by_hand.restart_errors)


def test_the_starts_follow_the_scale():
    """One tiny step leaves the start where it was drawn."""
    solver = GradientDescent(1, 1e-30)
    one, two = (
        InvertAndClassify(solver, Restarts(1, scale))
        .purify(KEY, NETWORKS, IMAGE)
        .details.latent
        for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose(two, 3 * one, rtol=1e-6)


@pytest.mark.parametrize("prior", [Normal(-1.0, 1.0), Uniform(2.0, 3.0)])
@pytest.mark.parametrize(
    "defense, scale",
    [
        (InvertAndClassify(GradientDescent(1, 1e-30), 1), 1.0),
        (DefenseGAN(steps=1, restarts=1, learning_rate=1e-30), 2**-0.5),
    ],
    ids=["invert_and_classify", "defense_gan"],
)
def test_the_starts_come_from_the_prior(defense, scale, prior):
    """Alone and in a batch: one tiny step leaves the start where it was drawn."""
    start_key = jax.random.fold_in(KEY, 0)
    expected = prior.scaled_sample(start_key, (2,), scale)
    networks = {"generator": Manifold(generate, (2,), prior)}
    found = defense.defend(KEY, networks, classify, IMAGE).details
    np.testing.assert_allclose(found.latent, expected, rtol=1e-6)
    batch = defenses.defend(
        defense,
        Networks(generator=Spanner(lambda _, latent: generate(latent), (2,), prior)),
        lambda _, image: classify(image),
        DefenseParams({"generator": SpannerParams({})}, {}),
        IMAGE[None],
        key=KEY,
    )
    image_key = jax.random.fold_in(jax.random.fold_in(KEY, 0), 0)
    expected = prior.scaled_sample(image_key, (2,), scale)
    np.testing.assert_allclose(batch.details.latent[0], expected, rtol=1e-6)


def test_the_key_matters():
    defense = InvertAndClassify(GradientDescent(1, 1e-3), 1)
    assert not np.array_equal(
        run(defense, jax.random.key(1)).output, run(defense, jax.random.key(2)).output
    )


@pytest.mark.parametrize("defense", [ALL[0], ALL[-1]], ids=str)
def test_gradients_flow_through_the_projection(defense):
    """The defended classifier of a linear generator has the projector's Jacobian."""
    jacobian = jax.jacobian(lambda x: defense(KEY, NETWORKS, classify, x).reshape(3))(
        IMAGE
    )
    projector = np.asarray(MATRIX).T @ np.asarray(MATRIX)
    readout = np.stack([np.ones(6), np.eye(6)[0], -np.eye(6)[4]])
    np.testing.assert_allclose(jacobian.reshape(3, 6), readout @ projector, atol=2e-3)


def _generate(params, latent):
    return (latent @ params).reshape(2, 3, 1)


def _classify(params, image):
    return params * classify(image)


BATCH = np.random.default_rng(2).uniform(size=(5, 2, 3, 1)).astype(np.float32)
PARAMS = DefenseParams({"generator": SpannerParams(MATRIX)}, jnp.float32(2.0))
SPEC = Networks(generator=Spanner(_generate, (2,)))


def _defend(defense, images=BATCH, **kwargs):
    return defenses.defend(defense, SPEC, _classify, PARAMS, images, key=KEY, **kwargs)


def test_many_images_are_each_their_own():
    defense = InvertAndClassify("adam(steps=5)", restarts=2)
    many = _defend(defense, ids=np.arange(5) + 10)
    one = defense.defend(
        jax.random.fold_in(KEY, 12),
        NETWORKS,
        lambda image: 2.0 * classify(image),
        jnp.asarray(BATCH[2]),
    )
    np.testing.assert_allclose(many.output[2], one.output, atol=1e-5)
    np.testing.assert_allclose(many.purified[2], one.purified, atol=1e-6)
    chunked = _defend(defense, ids=np.arange(5) + 10, batch_size=2)
    np.testing.assert_allclose(chunked.output, many.output, atol=1e-5)


def test_many_images_without_a_defence():
    defended = _defend(NoDefense())
    assert defended.purified is None
    np.testing.assert_allclose(
        defended.output[:, 0], 2 * BATCH.sum((1, 2, 3)), rtol=1e-6
    )


def test_bad_images_give_one_sentence():
    with pytest.raises(UsageError, match="pixels from"):
        _defend(NoDefense(), BATCH * 300)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("invert_and_classify(solver='adma')", "Did you mean 'adam'?"),
        ("invert_and_classify(solver='adam(steps=0)')", "Adam.steps is 0"),
        ("invert_and_classify(solver=3)", "solver is 3; allowed: Solver or a text."),
        ("invert_and_classify(restarts=0)", "restarts is 0"),
        ("invert_and_classify(restarts=restarts(scale=-1))", "scale is -1.0"),
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
