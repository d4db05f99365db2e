"""The active test: closed forms, weakened attacks, defences with keys, real digits."""

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, data, defenses, models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.core.networks import Networks
from robust_manifold.evaluation import BinarisationResult, binarisation_test
from robust_manifold.evaluation.audits.binarisation import (
    Planted,
    Readout,
    leads_of,
    planted_found,
    widest_gap,
)
from robust_manifold.runtime import weight_files

KEY = jax.random.key(0)
EPSILON = 0.1
RNG = np.random.default_rng(0)
IMAGES = np.float32(RNG.uniform(size=(24, 5, 5, 1)))
WEIGHTS = [
    jnp.asarray(RNG.normal(size=shape) / math.sqrt(shape[0]), jnp.float32)
    for shape in ((25, 48), (48, 48), (48, 32))
]


def features(params, image):
    """A network of three layers, too bent for a single step."""
    hidden = image.reshape(-1) - 0.5
    for weights in params:
        hidden = jax.nn.relu(2 * hidden @ weights)
    return hidden


def linear(params, image):
    return (image.reshape(-1) - 0.5) @ params


def rounded(params, image):
    return features(params, jnp.round(8 * image) / 8)


def binarised(attack, apply=features, params=WEIGHTS, images=IMAGES, **options):
    options = {"key": KEY, "inner": 64, "plant": 100} | options
    with warnings.catch_warnings():
        # Of gradients that vanish: the test itself tells of them.
        warnings.simplefilter("ignore", attacks.AttackWarning)
        return binarisation_test(attack, apply, params, images, **options)


# The plane.


def test_the_widest_gap_from_a_square_is_known():
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    for point, direction in (((3.0, 0.4), (1, 0)), ((2.0, 2.0), (0.5**0.5, 0.5**0.5))):
        found = widest_gap(square, np.array(point))
        np.testing.assert_allclose(found, direction, atol=1e-12)
    assert widest_gap(square, np.array([0.5, 0.9])) is None
    assert widest_gap(square, np.array([1.0, 0.5])) is None
    assert widest_gap(np.zeros((4, 2)), np.zeros(2)) is None


@pytest.mark.parametrize("size", [3, 40, 300])
def test_no_other_direction_has_a_wider_gap(size):
    rng = np.random.default_rng(size)
    others, planted = rng.uniform(-1, 1, (90, size)), rng.choice([-2.0, 2.0], size)
    found = widest_gap(others, planted)
    assert np.linalg.norm(found) == pytest.approx(1)
    widest = np.min((planted - others) @ found)
    near = found + 0.03 * rng.normal(size=(500, size)) / math.sqrt(size)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    assert np.min((planted - others) @ near.T, axis=0).max() < widest + 1e-9
    # It is the distance of the hull: the others that touch it balance each other.
    touching = others[(planted - others) @ found < widest + 1e-6]
    assert len(touching) <= size + 1


@pytest.mark.parametrize("climbs", ["margin", "ce"])
def test_a_loss_is_above_0_where_the_second_class_leads(climbs):
    readout = Readout(jnp.array([2.0, 0.0]), jnp.array([1.0, 5.0]), jnp.float32(0.5))
    criterion = Planted(climbs)
    for value, lead in ((0.0, -1.5), (0.74, -0.02), (0.76, 0.02), (4.0, 6.5)):
        output = jnp.array([value, 7.0])
        assert readout.lead(output) == pytest.approx(lead, abs=1e-6)
        assert bool(criterion.succeeds(output, readout)) == (lead > 0)
        assert (criterion.loss(output, readout) > 0) == (lead > 0)
    two = jnp.array([0.0, -1.5])
    loss = criterion.loss(jnp.zeros(2), readout)
    wanted = jax.nn.logsumexp(two) - math.log(2) if climbs == "ce" else -1.5
    assert loss == pytest.approx(wanted)


# What is planted.


def test_a_linear_map_gives_a_step_its_share_of_the_way():
    params = jnp.asarray(RNG.normal(size=(25, 12)), jnp.float32)
    images = np.float32(RNG.uniform(0.3, 0.7, size=(8, 5, 5, 1)))

    def rate(share, closeness):
        step = attacks.PGD(
            EPSILON, steps=1, step_size=share * EPSILON, random_start=False
        )
        found = binarised(step, linear, params, images, closeness=closeness)
        assert found.kept.all()
        return found.rate

    # The planted image is the corner of the gradient's signs, and a step ends on the
    # way there; the other points are next to nothing along it.
    assert rate(1.0, 0.999) == 1
    assert rate(0.7, 0.9) == 0
    assert rate(0.85, 0.7) == 1


def test_without_a_search_few_steps_pass_wherever_there_is_a_gradient():
    few = attacks.APGD(EPSILON, steps=5)
    published = {"plant": 0, "closeness": 0.999}
    assert binarised(few, **published).rate >= 0.95
    assert binarised(few).rate < 0.9
    assert binarised(few, rounded, **published).rate == 0


@pytest.mark.parametrize("norm, epsilon", [("linf", EPSILON), ("l2", 0.4), ("l1", 2.0)])
def test_an_attack_that_goes_to_the_end_finds_what_is_there(norm, epsilon):
    restarts = 3 if norm == "l1" else 1
    found = binarised(attacks.APGD(epsilon, norm, steps=50, restarts=restarts))
    assert found.kept.all() and found.rate >= 0.95 and found.random_rate == 0
    assert planted_found(found, "APGD").verdict == "PASS"


def with_loss_times(factor):
    """A cross-entropy of logits that are so many times as far apart as usual."""
    ce = attacks.APGD(EPSILON, steps=50, loss="ce")
    return ce, {"leads": np.full(24, 5.0 * factor)}


WEAK = {
    "5 steps": (attacks.APGD(EPSILON, steps=5), {}),
    "5 steps, four times": (attacks.APGD(EPSILON, steps=5, restarts=4), {}),
    "small steps": (attacks.PGD(EPSILON, steps=50, step_size=1e-4), {}),
    "ends at step 1": (attacks.APGD(EPSILON, steps=1), {}),
    "cross-entropy of large logits": with_loss_times(1000),
    "a single step": (attacks.FGSM(EPSILON), {}),
}


@pytest.mark.parametrize("name", WEAK)
def test_an_attack_that_is_weakened_is_found_out(name):
    attack, options = WEAK[name]
    check = planted_found(binarised(attack, **options), "the attack")
    assert check.verdict == "FLAG" and check.value < 0.9
    assert check.sentence.endswith("What it does not find need not be absent.")


def test_a_cross_entropy_of_logits_of_their_usual_size_is_none():
    attack, options = with_loss_times(1)
    assert planted_found(binarised(attack, **options), "it").verdict == "PASS"


def test_losses_of_more_classes_and_ensembles_are_taken():
    for loss in ("dlr", "targeted_dlr", "difference"):
        assert binarised(attacks.APGD(EPSILON, loss=loss)).rate >= 0.95
    assert binarised(attacks.Square(EPSILON, queries=20)).rate < 0.95


def test_the_result_is_that_of_its_key():
    first, again = (binarised(attacks.APGD(EPSILON, steps=5)) for _ in range(2))
    np.testing.assert_array_equal(first.found, again.found)


# Defences.


def noisy(params, image, key):
    return features(params, image + 0.2 * jax.random.normal(key, image.shape))


def test_a_random_one_keeps_the_key_that_the_attack_knows():
    attack = attacks.APGD(EPSILON, steps=50)
    known = jax.random.split(jax.random.key(3), 24)
    for keys in (None, known):
        found = binarised(attack, attacks.Expectation(noisy), fixed_keys=keys)
        assert found.rate >= 0.95


@pytest.mark.parametrize("adversary, finds", [("straight_through", 1), ("unrolled", 0)])
def test_a_purifier_is_read_behind_and_seen_through_a_view(adversary, finds):
    """Rounding has no gradient; taken for the identity it can be attacked."""
    defence = defenses.registry.build("bit_depth(bits=5)")
    setting = defence, Networks(), features
    view = defenses.adversaries.build(adversary).view(*setting)
    found = binarised(
        attacks.APGD(EPSILON, steps=50),
        attacks.Expectation(defenses.defended_apply(*setting)),
        defenses.DefenseParams({}, WEIGHTS),
        view=attacks.Expectation(view),
    )
    assert found.kept.all()
    assert found.rate >= 0.9 if finds else found.rate <= 0.1


# The verdict.


def result(found, n=20, kept=20, at_random=0):
    places = np.arange(n)
    return BinarisationResult(places < kept, places < found, places < at_random)


@pytest.mark.parametrize(
    "made, verdict",
    [
        (result(20), "PASS"),
        (result(19), "PASS"),
        (result(18), "FLAG"),
        # One image is luck, where each counts for more than the share allowed.
        (result(9, kept=10), "PASS"),
        (result(8, kept=10), "FLAG"),
        (result(3, kept=3), "SKIPPED"),
        (result(20, at_random=11), "SKIPPED"),
        (result(10, at_random=11), "FLAG"),
    ],
)
def test_a_share_is_held_to_what_a_sound_attack_finds(made, verdict):
    check = planted_found(made, "the attack")
    assert check.verdict == verdict and check.sentence.endswith(".")


def test_leads_are_those_of_the_logits():
    logits = np.array([[3.0, 1.0, -4.0], [2.0, 2.0, 0.0], [5.0, -np.inf, -np.inf]])
    np.testing.assert_array_equal(leads_of(logits), [2, 1, 1])


@pytest.mark.parametrize(
    "attack, options, says",
    [
        (attacks.DeepFool(), {}, "allowed: an attack with a budget"),
        (attacks.APGD(0.1), {"inner": 1}, "inner is 1; allowed: a whole number, 2"),
        (attacks.APGD(0.1), {"plant": -1}, "plant is -1; allowed: a whole number, 0"),
        (attacks.APGD(0.1), {"closeness": 1.0}, "closeness is 1.0; allowed: between"),
    ],
)
def test_misuse_is_one_sentence(attack, options, says):
    with pytest.raises(UsageError, match=says):
        binarised(attack, **options)


# Real digits.


@functools.cache
def digits():
    try:
        test = data.load("tfds:mnist").test
    except UsageError as error:
        pytest.skip(str(error))
    return data.to_float(test.images[:48])


@pytest.mark.slow
@pytest.mark.parametrize("norm, epsilon", [("linf", 0.2), ("l2", 1.5)])
@pytest.mark.parametrize("name", ["mnist_small_cnn", "mnist_small_cnn_pgd"])
def test_the_published_networks_tell_a_full_attack_from_weak_ones(name, norm, epsilon):
    images, model = digits(), models.build("small_cnn")
    table = weight_files.read(f"pretrained/{name}.safetensors").table
    params = models.from_table(model, table)

    def check(attack, factor=1.0):
        logits = np.asarray(jax.vmap(model.apply, (None, 0))(params, images))
        found = binarisation_test(
            attack,
            model.features,
            params,
            images,
            key=KEY,
            leads=factor * leads_of(logits),
        )
        assert found.kept.all() and found.random_rate < 0.1
        return planted_found(found, "the attack").verdict

    assert check(attacks.APGD(epsilon, norm, steps=50)) == "PASS"
    assert check(attacks.APGD(epsilon, norm, steps=50, loss="ce")) == "PASS"
    assert check(attacks.APGD(epsilon, norm, steps=5)) == "FLAG"
    assert check(attacks.APGD(epsilon, norm, steps=1)) == "FLAG"
    assert check(attacks.APGD(epsilon, norm, steps=50, loss="ce"), 1000.0) == "FLAG"


INC = (
    "invert_and_classify(solver=levenberg_marquardt(steps=4), "
    "restarts=restarts(count=2, encoded=1))"
)


def published(name):
    weights = weight_files.read(f"pretrained/{name}.safetensors")
    model = models.build(weights.metadata["model"], image_shape=(28, 28, 1), classes=10)
    return model, models.from_table(model, weights.table)


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps, factor, verdict", [(50, 1, "PASS"), (5, 1, "FLAG"), (50, 1000, "FLAG")]
)
def test_an_inversion_tells_a_full_attack_from_weak_ones(steps, factor, verdict):
    """As a run puts it behind a defence, on validation digits."""
    try:
        held_out = data.load("tfds:mnist", validation_examples=5000).validation
    except UsageError as error:
        pytest.skip(str(error))
    images = data.to_float(held_out.images[:16])
    generator, spanned = published("mnist_vae_decoder")
    encoder, encoded = published("mnist_vae_encoder")
    model, params = published("mnist_small_cnn")
    spanner = Spanner(
        generator.apply, generator.input_shape, generator.starts, encoder.apply
    )
    setting = defenses.registry.build(INC), Networks(generator=spanner), model.features
    view = defenses.Implicit().view(*setting)
    logits = np.asarray(jax.vmap(model.apply, (None, 0))(params, images))
    loss = "margin" if factor == 1 else "ce"
    found = binarised(
        attacks.APGD(0.1, steps=steps, restarts=4, loss=loss),
        attacks.Expectation(defenses.defended_apply(*setting)),
        defenses.DefenseParams({"generator": SpannerParams(spanned, encoded)}, params),
        images,
        view=attacks.Expectation(view),
        leads=factor * leads_of(logits),
        plant=200,
        closeness=0.8,
    )
    assert found.kept.all() and found.random_rate < 0.1
    assert planted_found(found, "the attack").verdict == verdict
