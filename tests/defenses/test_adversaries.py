"""What each adversary lets an attack differentiate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.core import batching
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.defenses import (
    Defended,
    Defense,
    DefenseParams,
    InvertAndClassify,
    Networks,
    NoDefense,
    adversaries,
    defended_apply,
)
from robust_manifold.defenses.views import with_derivative_of
from robust_manifold.inversion import (
    GradientDescent,
    ImplicitOutcome,
    Restarts,
    Search,
    unrolled,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MATRIX = np.linalg.qr(RNG.normal(size=(12, 2)))[0]
READOUT = RNG.normal(size=(12, 2)).astype(np.float32)
IMAGES = RNG.uniform(0.3, 0.7, size=(4, 3, 4, 1)).astype(np.float32)
LABELS = np.array([0, 1, 1, 0])
PARAMS = DefenseParams(
    {"generator": SpannerParams(jnp.asarray(MATRIX.T, jnp.float32))},
    jnp.asarray(READOUT),
)
PROJECTOR = MATRIX @ MATRIX.T
INC = InvertAndClassify("levenberg_marquardt(steps=4)", restarts=2)
SHORT = InvertAndClassify("gradient_descent(steps=1)", "restarts(1, encoded=0)")
BPDA = "bpda(solver=levenberg_marquardt(steps=2), restarts=restarts(1, encoded=0))"
DIFFERENTIATING = ["straight_through", "unrolled", "implicit", BPDA]


def generate(params, latent):
    return (latent @ params).reshape(3, 4, 1)


def classify(params, image):
    return jnp.sin(image.reshape(-1) @ params)


NETWORKS = Networks(generator=Spanner(generate, (2,)))
DEFENDED = defended_apply(INC, NETWORKS, classify)


def view_of(text, defence=INC, networks=NETWORKS):
    return adversaries.build(text).view(defence, networks, classify)


def jacobian(apply, image=IMAGES[0]):
    found = jax.jit(jax.jacrev(lambda x: apply(PARAMS, x, KEY)))(jnp.asarray(image))
    return np.asarray(found).reshape(2, 12)


def compiled(apply, images):
    """The logits of each image, all under one key."""
    # Outside a compiled function every call would compile the search's loops anew.
    return jax.jit(jax.vmap(apply, (None, 0, None)))(PARAMS, jnp.asarray(images), KEY)


def slopes(image):
    """The derivative of the bare classifier, [2, 12]."""
    flat = np.asarray(image).reshape(-1)
    return np.cos(flat @ READOUT)[:, None] * READOUT.T


def test_the_registry_has_all():
    assert adversaries.names == sorted(
        ["bpda", "oblivious", "straight_through", "unrolled", "implicit"]
        + ["decision", "latent", "substitute"]
    )


@pytest.mark.parametrize(
    "text, suited",
    [
        ("oblivious", "white box, scores, labels"),
        ("straight_through", "white box"),
        ("unrolled", "white box"),
        ("implicit", "white box"),
        ("bpda", "white box"),
        ("latent", "white box"),
        ("decision", "scores, labels"),
        ("substitute", "white box, scores, labels"),
    ],
)
def test_which_attacks_an_adversary_suits(text, suited):
    adversary = adversaries.build(text)
    found = [t for t in ("white box", "scores", "labels") if adversary.suits(t)]
    assert ", ".join(found) == suited
    assert adversary.title and adversary.source


@pytest.mark.parametrize("text", ["decision", "latent", "substitute"])
def test_some_have_no_view(text):
    assert view_of(text) is None


def test_oblivious_is_the_bare_classifier():
    view = view_of("oblivious")
    image = jnp.asarray(IMAGES[0])
    np.testing.assert_array_equal(view(PARAMS, image, KEY), classify(READOUT, image))


def test_oblivious_noise_is_averaged():
    image = jnp.full((2, 2, 1), 0.5)
    view = adversaries.build("oblivious(noise=0.05, draws=4000)").view(
        NoDefense(), Networks(), lambda params, image: jnp.ravel(image) ** 2
    )
    # The mean of the square of a normal number, and its slope.
    params = DefenseParams({}, None)
    np.testing.assert_allclose(view(params, image, KEY), 0.25 + 0.05**2, atol=4e-3)
    slopes = jax.jacobian(lambda image: view(params, image, KEY))(image)
    np.testing.assert_allclose(slopes.reshape(4, 4), np.eye(4), atol=8e-3)


@pytest.mark.parametrize("text", DIFFERENTIATING)
def test_a_view_has_the_defended_logits(text):
    expected = compiled(DEFENDED, IMAGES[1:2])
    np.testing.assert_allclose(
        compiled(view_of(text), IMAGES[1:2]), expected, rtol=1e-5
    )
    projection = (PROJECTOR @ IMAGES[1].reshape(-1)).reshape(3, 4, 1)
    np.testing.assert_allclose(expected[0], classify(READOUT, projection), rtol=1e-4)


@pytest.mark.parametrize("text", DIFFERENTIATING)
def test_of_a_linear_generator_derivatives_are_known(text):
    """Those of the projection are the projector; straight through, the identity."""
    projection = PROJECTOR @ IMAGES[0].reshape(-1)
    inner = np.eye(12) if text == "straight_through" else PROJECTOR
    expected = slopes(projection) @ inner
    np.testing.assert_allclose(jacobian(view_of(text)), expected, atol=1e-4)


def test_straight_through_is_the_identity_backwards():
    """To the last bit, also where the search cannot be differentiated at all."""
    value, other = jnp.array([1.0, 2.0]), jnp.array([0.1, 0.3])
    found, pull = jax.vjp(with_derivative_of, value, other)
    np.testing.assert_array_equal(found, value)
    for mine, expected in zip(
        pull(jnp.array([5.0, 7.0])), ([0, 0], [5, 7]), strict=True
    ):
        np.testing.assert_array_equal(mine, expected)
    image = jnp.asarray(IMAGES[0])
    stopping = InvertAndClassify("lbfgs(steps=9)", "restarts(2, enough=1e-6)")
    view = view_of("straight_through", stopping)
    found = stopping.defend(
        KEY, NETWORKS.bind(PARAMS.networks), lambda x: classify(READOUT, x), image
    )
    expected = jax.jacrev(lambda x: classify(READOUT, x))(found.purified)
    np.testing.assert_allclose(
        jacobian(view), expected.reshape(2, 12), rtol=1e-5, atol=1e-6
    )


def test_bpda_has_the_values_of_the_defence_and_the_slopes_of_its_stand_in():
    """Of a curved generator, where a single step ends elsewhere than the defence."""

    def bent(params, latent):
        return generate(params, latent + 0.3 * jnp.sin(3 * latent))

    networks = Networks(generator=Spanner(bent, (2,)))
    short = "solver=gradient_descent(steps=1), restarts=restarts(1, encoded=0)"
    image = jnp.asarray(IMAGES[2])
    stand_in = defended_apply(SHORT, networks, classify)
    defended = defended_apply(INC, networks, classify)
    view = view_of(f"bpda({short})", networks=networks)
    exact, short_one = (compiled(each, image[None]) for each in (defended, stand_in))
    assert np.abs(exact - short_one).max() > 0.01
    np.testing.assert_allclose(compiled(view, image[None]), exact, rtol=1e-5)
    # The classifier's slope is taken where the defence stands.
    bound = networks.bind(PARAMS.networks)
    projection = INC.purify(KEY, bound, image).image

    def shortly(x):
        return unrolled(SHORT.search, bound["generator"], x, KEY).image.reshape(-1)

    inner = jax.jit(jax.jacrev(shortly))(image).reshape(12, 12)
    expected = slopes(projection) @ inner
    np.testing.assert_allclose(jacobian(view, image), expected, atol=1e-4)


@pytest.mark.parametrize("encode", [None, lambda params, image: guess(image)])
def test_the_stand_in_starts_at_the_guess_of_an_encoder(encode):
    """And at a draw where there is none; derivatives go through the guess, too."""
    networks = Networks(generator=Spanner(generate, (2,), encode=encode))
    manifold = networks.bind(PARAMS.networks)["generator"]
    image = jnp.asarray(IMAGES[0])
    search = Search(GradientDescent(steps=10), Restarts(count=1))
    inner = jax.jit(
        jax.jacrev(lambda x: unrolled(search, manifold, x, KEY).image.reshape(-1))
    )(image)
    defence = InvertAndClassify("levenberg_marquardt(4)", "restarts(2, encoded=0)")
    projection = PROJECTOR @ IMAGES[0].reshape(-1)
    expected = slopes(projection) @ inner.reshape(12, 12)
    found = jacobian(view_of("bpda", defence, networks))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def guess(image):
    """A guess that is off, [mean, log variance]."""
    return jnp.concatenate([image.reshape(-1)[:2] * 3, jnp.zeros(2)])


def test_a_short_inversion_keeps_its_short_text():
    assert adversaries.to_string(adversaries.build("bpda")) == "bpda"


@pytest.mark.parametrize("text", DIFFERENTIATING)
def test_without_a_defence_there_is_nothing_to_get_past(text):
    view = view_of(text, NoDefense())
    assert view == defended_apply(NoDefense(), NETWORKS, classify)
    np.testing.assert_allclose(jacobian(view), slopes(IMAGES[0]), rtol=1e-4, atol=1e-5)


class Squaring(Defense):
    def defend(self, key, networks, classify, image):
        return Defended(classify(image**2))


@pytest.mark.parametrize("text", ["straight_through", "implicit", BPDA])
def test_a_defence_that_purifies_nothing_is_refused(text):
    with pytest.raises(UsageError, match=f"the adversary '{text.split('(')[0]}'"):
        view_of(text, Squaring())


def test_a_defence_that_purifies_nothing_is_differentiated_as_it_stands():
    view = view_of("unrolled", Squaring())
    flat = IMAGES[0].reshape(-1)
    expected = slopes(flat**2) * 2 * flat
    np.testing.assert_allclose(jacobian(view), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["oblivious", *DIFFERENTIATING])
def test_attacks_work_on_every_view(text):
    """And equal views are one: nothing is traced again for a second."""
    traces = []

    def counted(params, latent):
        traces.append(1)
        return generate(params, latent)

    networks = Networks(generator=Spanner(counted, (2,)))

    def crafted():
        view = view_of(text, networks=networks)
        return attacks.craft(
            attacks.PGD(0.3, steps=5),
            attacks.Expectation(defended_apply(INC, networks, classify)),
            PARAMS,
            IMAGES,
            LABELS,
            key=KEY,
            # Asking for the form of the loop would trace anew.
            loop="scan",
            tile=4,
            view=attacks.Expectation(view),
            fixed_keys=batching.keys.per_example(KEY, jnp.arange(4)),
        )

    first = crafted()
    once = len(traces)
    second = crafted()
    assert len(traces) == once > 0
    np.testing.assert_array_equal(first.images, second.images)
    both = np.concatenate([IMAGES, first.images])
    before, after = np.split(np.asarray(compiled(view_of(text), both)), 2)
    own = LABELS[:, None]
    gained = np.take_along_axis(before - after, own, 1)
    gained += np.take_along_axis(after - before, 1 - own, 1)
    assert (gained > 0.1).all()


def test_samples_are_averaged_over_keys():
    """With one step from random starts, the projection depends on the key."""
    hasty = InvertAndClassify("gradient_descent(steps=1, learning_rate=1.0)", 1)
    view = view_of("unrolled(samples=3)", hasty)
    assert adversaries.build("unrolled(samples=3)").samples == 3
    image = jnp.asarray(IMAGES[0])
    mean = jax.jit(attacks.Expectation(view, 3))(PARAMS, image, KEY)
    each = [jax.jit(view)(PARAMS, image, key) for key in jax.random.split(KEY, 3)]
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-5)
    assert not np.allclose(each[0], each[1])


def test_whether_the_theorem_holds_is_told_image_by_image():
    report = adversaries.build("implicit").report(INC, NETWORKS)
    found = batching.map_examples(report, PARAMS, IMAGES, key=KEY)
    np.testing.assert_array_equal(found.outcome, [ImplicitOutcome.SOLVED] * 4)
    # The columns are orthonormal: the Hessian of the mean square is 2 / 12.
    np.testing.assert_allclose(found.least, 1 / 6, rtol=1e-4)
    np.testing.assert_allclose(found.largest, 1 / 6, rtol=1e-4)
    assert (found.move < 1e-4).all()


@pytest.mark.parametrize(
    "text",
    [
        "oblivious",
        "oblivious(noise=0.25, draws=4)",
        "unrolled(rematerialise=False)",
        "implicit(samples=4, linear='dense')",
        "latent(steps=20)",
        "decision(samples=2, keys='fresh')",
    ],
)
def test_texts_are_specs(text):
    spec = adversaries.build(text)
    assert spec == adversaries.build(text) and hash(spec) == hash(
        adversaries.build(text)
    )
    assert adversaries.to_string(spec) == text


@pytest.mark.parametrize(
    "text, message",
    [
        ("unrolled(samples=0)", "Unrolled.samples is 0; allowed"),
        ("decision(keys='both')", "both"),
        ("implicit(damping=0.0)", "damping is 0.0; allowed"),
        ("latent(restarts=0)", "Latent.restarts is 0; allowed"),
        ("latent(learning_rate=0.0)", "Latent.learning_rate is 0.0; allowed"),
        ("oblivious(samples=2)", "samples"),
        ("oblivious(noise=-0.1)", "Oblivious.noise is -0.1; allowed"),
        ("oblivious(draws=0)", "Oblivious.draws is 0; allowed"),
    ],
)
def test_fields_are_checked(text, message):
    with pytest.raises(UsageError, match=message):
        adversaries.build(text)
