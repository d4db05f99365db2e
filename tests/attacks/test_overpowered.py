"""The overpowered attack against closed forms, and without its authors' faults."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks.losses import ObjectiveValue
from robust_manifold.attacks.overpowered import TwoSided, pair_starts
from robust_manifold.attacks.overpowered_many import without_bound
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from tests.attacks import linear_manifold as linear

KEY = jax.random.key(0)
SPEC = attacks.Overpowered(
    0.3, steps=200, restarts=4, loss="logits", supremum=True, learning_rate=0.1
)
CHANGE = attacks.Overpowered(0.3, steps=200, restarts=4, learning_rate=0.1)


def pairs(spec, params, n=3, **options):
    return attacks.find_pairs(
        spec, linear.SPANNER, linear.CLASSIFY, params, n, key=KEY, **options
    )


def norms(images, kind):
    delta = (np.float64(images)[:, 0] - np.float64(images)[:, 1]).reshape(
        len(images), -1
    )
    return np.linalg.norm(delta, ord=2 if kind == "l2" else np.inf, axis=1)


def optimum(params, eta):
    """The largest ||W'A d||^2 under ||A d|| <= eta, a generalised eigenvalue."""
    matrix, _, weights, _ = linear.arrays(params)
    basis = np.linalg.qr(matrix)[0]
    return (eta * np.linalg.norm(weights.T @ basis, ord=2)) ** 2


def separations(found):
    logits = np.float64(found.logits)
    return np.sum((logits[:, 0] - logits[:, 1]) ** 2, axis=-1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3], ids=str)
def test_the_supremum_is_the_generalised_eigenvalue(scale):
    params = linear.make(3, scale)
    for eta in (0.05, 0.3):
        found = pairs(dataclasses.replace(SPEC, eta=eta), params)
        ratio = separations(found) / optimum(params, eta)
        assert found.feasible.all()
        assert (ratio >= 0.99).all() and (ratio <= 1.0001).all(), ratio


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_what_is_found_is_near_and_of_two_classes(norm):
    params = linear.make(3, 20.0)
    spec = dataclasses.replace(CHANGE, eta=0.1, norm=norm)
    found = pairs(spec, params)
    assert found.found.all()
    # By norms and classes computed anew, in another precision, without a tolerance.
    assert (norms(found.images, norm) <= 0.1).all()
    np.testing.assert_allclose(found.distances, norms(found.images, norm), rtol=1e-5)
    matrix, offset, weights, bias = linear.arrays(params)
    images = np.float64(found.latents) @ matrix.T + offset
    np.testing.assert_allclose(
        images, np.float64(found.images).reshape(images.shape), atol=1e-6
    )
    classes = np.argmax(images @ weights + bias, axis=-1)
    assert (classes[:, 0] != classes[:, 1]).all()


def test_the_losses_of_two_logit_vectors():
    first, second = jnp.asarray([3.0, 0.0, 1.0]), jnp.asarray([0.0, 2.0, 1.0])
    p, q = np.float64(jax.nn.softmax(first)), np.float64(jax.nn.softmax(second))
    expected = {
        "logits": 13.0,
        "probabilities": np.sum((p - q) ** 2),
        "symmetric_ce": -np.sum(p * np.log(q)) - np.sum(q * np.log(p)),
        # The odds p / (1 - p) of class 0 and of class 1, in parallel.
        "margin": -np.log((1 - p[0]) / p[0] + (1 - q[1]) / q[1]),
    }
    for name, loss in attacks.PAIR_LOSSES.items():
        for pair in ((first, second), (second, first)):
            np.testing.assert_allclose(loss(*pair), expected[name], rtol=1e-5)
    # Of one class, the margin falls as that class leads by more.
    lead = [attacks.PAIR_LOSSES["margin"](k * first, k * first) for k in (1.0, 2.0)]
    assert 0 > lead[0] > lead[1]


def test_where_no_class_changes_nothing_is_found():
    # Constant but for a slope that ranks the classes alike everywhere.
    params = linear.make(3)
    rising = jnp.asarray([0.0, 1e3, 2e3])
    params = params._replace(classifier=params.classifier | {"c": rising})
    found = pairs(CHANGE, params)
    assert found.feasible.all() and not found.found.any()


def test_what_is_too_far_apart_is_never_found():
    """Faults of the authors: a mask without effect."""

    def generate(params, latent):
        return linear.SPANNER.generate(params, jnp.sign(latent))

    # The images are corners: distinct ones are farther apart than the bound.
    params = linear.make(3, 20.0)
    spanner = Spanner(generate, (linear.SIZE,))
    spec = dataclasses.replace(CHANGE, eta=0.1, steps=20, restarts=1)
    with pytest.warns(attacks.AttackWarning, match="gradients of classify are zero"):
        found = attacks.find_pairs(spec, spanner, linear.CLASSIFY, params, 8, key=KEY)
    assert not found.found.any()
    apart = np.asarray(found.distances) > 0
    assert apart.any()
    np.testing.assert_array_equal(found.feasible, ~apart)
    # Their classes do differ: only the bound speaks against them.
    assert (found.logits[:, 0].argmax(-1) != found.logits[:, 1].argmax(-1)).any()


def test_the_bound_is_a_plain_norm_over_all_pixels():
    """Faults of the authors: three conventions; a mean would allow sqrt(pixels)."""
    found = pairs(SPEC, linear.make(3))
    reached = norms(found.images, "l2")
    assert (reached > 0.29).all() and (reached <= 0.3).all()


def test_a_pair_does_not_depend_on_its_batch():
    """Faults of the authors: a loss that is averaged over the batch."""
    params = linear.make(3)
    told = []
    whole = pairs(CHANGE, params, 5, on_chunk=lambda done, n: told.append((done, n)))
    assert told[-1] == (5, 5)
    alone = pairs(CHANGE, params, 1, ids=np.array([3]), batch_size=1)
    jax.tree.map(
        lambda all, one: np.testing.assert_array_equal(all[3:4], one), whole, alone
    )
    assert len(np.unique(whole.distances)) > 1


def test_the_images_start_apart_since_equal_ones_never_part():
    """Faults of the authors: z' starts equal to z under a symmetric loss."""
    params = linear.make(3)
    manifold = linear.SPANNER.bind(params.spanner)
    starts = pair_starts(CHANGE, manifold, KEY)
    assert len(np.unique(np.asarray(starts), axis=None)) == starts.size

    spec = dataclasses.replace(SPEC, loss="symmetric_ce")
    contest = TwoSided(
        spec, manifold, lambda image: linear.CLASSIFY(params.classifier, image)
    )
    climbs = jax.vmap(spec.ascent.begin)(starts.at[:, 1].set(starts[:, 0]))
    step = jax.jit(lambda c: spec.moved(contest, manifold, jnp.float32(0.3), c))
    for _ in range(5):
        climbs = step(climbs)
    # The two halves of a program need not round alike.
    apart = climbs.latents[:, 0] - climbs.latents[:, 1]
    assert jnp.abs(apart).max() < 1e-5 < jnp.abs(starts[:, 0] - starts[:, 1]).min()


def test_the_multiplier_is_never_negative():
    params = linear.make(3)
    manifold = linear.SPANNER.bind(params.spanner)
    # Nothing drives the images apart, so that they stay far inside the bound.
    contest = TwoSided(SPEC, manifold, lambda image: jnp.zeros(3))
    climbs = jax.vmap(SPEC.ascent.begin)(pair_starts(SPEC, manifold, KEY))

    def step(climbs, _):
        climbs = SPEC.moved(contest, manifold, jnp.float32(10.0), climbs)
        return climbs, climbs.multiplier

    _, multipliers = jax.lax.scan(step, climbs, length=50)
    assert (multipliers >= 0).all() and (multipliers[-1] == 0).all()
    # It rises where the bound is exceeded.
    move = jax.jit(lambda c: SPEC.moved(contest, manifold, jnp.float32(0.01), c))
    tight = move(climbs)
    assert (tight.multiplier > climbs.multiplier).all()


def one_sided(params, images, labels, eta, norm="l2", **changes):
    spec = dataclasses.replace(CHANGE, eta=eta, norm=norm, **changes)
    return attacks.find_neighbours(
        spec, linear.SPANNER, linear.CLASSIFY, params, images, labels, key=KEY
    )


def test_the_boundary_is_reached_by_the_shortest_move_in_the_range():
    params = linear.make(2)
    matrix, offset, weights, bias = linear.arrays(params)
    images, labels = linear.images_off_range(params, 4, off=0.2)
    inside = (np.float64(images).reshape(4, -1) - offset) @ np.linalg.pinv(matrix).T
    lead = (inside @ matrix.T + offset) @ (weights[:, 1] - weights[:, 0])
    lead = np.abs(lead + bias[1] - bias[0])
    basis = np.linalg.qr(matrix)[0]
    slope = np.linalg.norm(basis.T @ (weights[:, 1] - weights[:, 0]))
    shortest = np.sqrt(0.2**2 + (lead / slope) ** 2)
    for place, least in enumerate(shortest):
        row = slice(place, place + 1)
        near = one_sided(params, images[row], labels[row], float(1.01 * least))
        assert near.found.all() and near.feasible.all()
        far = one_sided(params, images[row], labels[row], float(0.999 * least))
        assert far.feasible.all() and not far.found.any()
    # The highest loss within a bound, too: the lead that the move gains.
    eta = 2 * shortest.max()
    near = one_sided(params, images, labels, float(eta))
    gain = np.asarray(near.logits)[np.arange(4), 1 - labels]
    gain = gain - np.asarray(near.logits)[np.arange(4), labels] + lead
    ratio = gain / (slope * np.sqrt(eta**2 - 0.2**2))
    assert (ratio >= 0.99).all() and (ratio <= 1.0001).all(), ratio
    delta = (np.float64(near.images) - np.float64(images)).reshape(4, -1)
    assert (np.linalg.norm(delta, axis=1) <= eta).all()


def test_one_pair_is_that_of_a_search_inside_a_compiled_step():
    params = linear.make(3, 20.0)

    @jax.jit
    def search(params, keys):
        manifold = linear.SPANNER.bind(params.spanner)
        classify = lambda image: linear.CLASSIFY(params.classifier, image)  # noqa: E731
        return jax.vmap(lambda key: CHANGE.pair(key, manifold, classify))(keys)

    found = search(params, jax.random.split(KEY, 3))
    assert found.found.all() and (norms(found.images, "l2") <= 0.3).all()
    assert found.latents.shape == (3, 2, linear.SIZE)
    image, label = linear.images_off_range(params, 1, off=0.1)
    near = jax.jit(
        lambda image: CHANGE.neighbour(
            KEY,
            linear.SPANNER.bind(params.spanner),
            lambda image: linear.CLASSIFY(params.classifier, image),
            image,
            jnp.int32(label[0]),
        )
    )(image[0])
    assert bool(near.found) and near.latent.shape == (linear.SIZE,)


def test_bounds_share_a_program_and_a_search_may_end_early():
    assert without_bound(SPEC) == without_bound(dataclasses.replace(SPEC, eta=1.0))
    params = linear.make(3, 20.0)
    quick = dataclasses.replace(CHANGE, stop=True, steps=100_000)
    assert pairs(quick, params).found.all()


def test_a_generator_of_64_bits_is_searched_in_64():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: jnp.asarray(a, float), linear.make(3, 20.0))
        spec = dataclasses.replace(CHANGE, eta=0.1, steps=1, restarts=1)
        found = pairs(spec, params, 1)
        assert found.latents.dtype == found.images.dtype == jnp.float64


def test_of_a_random_classifier_no_lucky_draw_counts():
    """What was chosen by one key is judged by another, however many there are."""

    def guessing(params, image, key):
        # To every image and key another class.
        draw = jax.random.normal(key, image.shape)
        lead = jnp.sin(1e4 * jnp.sum(draw * image))
        return jnp.stack([lead, -lead])

    spec = dataclasses.replace(CHANGE, eta=4.0, steps=1, restarts=8)
    random = attacks.Expectation(guessing)
    params = linear.make(2)
    found = attacks.find_pairs(spec, linear.SPANNER, random, params, 64, key=KEY)
    assert found.feasible.all() and found.found.mean() < 0.75
    images, labels = np.float32(found.images[:, 0]).clip(0, 1), np.zeros(64, int)
    near = attacks.find_neighbours(
        spec, linear.SPANNER, random, params, images, labels, key=KEY
    )
    assert near.feasible.all() and near.found.mean() < 0.75


def test_a_text_describes_the_attack():
    built = attacks.overpowered_registry.build("overpowered(eta=2, loss='logits')")
    assert built == attacks.Overpowered(2.0, loss="logits")


@pytest.mark.parametrize(
    "wrong",
    [
        {"eta": 0.0},
        {"steps": 0},
        {"restarts": 0},
        {"penalty": -1.0},
        {"learning_rate": float("nan")},
    ],
    ids=str,
)
def test_what_is_not_allowed_is_named(wrong):
    (field,) = wrong
    with pytest.raises(UsageError, match=rf"Overpowered\.{field} is .*; allowed"):
        attacks.Overpowered(**{"eta": 1.0} | wrong)


def test_images_of_another_shape_are_refused():
    params = linear.make(2)
    with pytest.raises(UsageError, match=r"images have the shape \(2, 8, 1\)"):
        one_sided(params, np.zeros((1, 2, 8, 1), np.float32), [0], 0.3)
    with pytest.raises(UsageError, match="n is 0"):
        pairs(CHANGE, params, 0)


@pytest.mark.parametrize("text", ["norm='l1'", "loss='ce'"])
def test_names_that_do_not_exist_are_refused(text):
    with pytest.raises(UsageError, match=f"overpowered.{text[:4]}: .*; known"):
        attacks.overpowered_registry.build(f"overpowered(eta=1, {text})")


def test_a_loss_that_was_nan_at_first_is_beaten_later():
    """Both images are near enough; the first has no loss, the second has one."""

    class Broken:
        """NaN at the start, and a finite loss wherever a step leads."""

        def images(self, latents):
            return jnp.zeros((2, 2, 2, 1)) + 0 * latents.sum()

        def evaluate(self, images):
            return self.told.pop(0)

    ascent = CHANGE.ascent
    contest = Broken()
    worse = jnp.asarray(jnp.nan)
    contest.told = [
        ObjectiveValue(worse, jnp.bool_(False)),
        ObjectiveValue(jnp.asarray(-3.0), jnp.bool_(False)),
    ]
    climb = ascent.begin(jnp.zeros((1, 3)))
    climb = ascent.step(contest, jnp.float32(0.3), jnp.zeros((1, 3)), climb)
    best = ascent.finish(contest, jnp.float32(0.3), climb)
    assert bool(best.feasible) and float(best.evaluation.loss) == -3.0
