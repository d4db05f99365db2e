"""The searches in a generator's range check what they are handed, as `craft` does."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks
from robust_manifold.attacks import AttackWarning
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from tests.attacks import linear_manifold as linear

KEY = jax.random.key(0)
PARAMS = linear.make(2)
IMAGES, LABELS = linear.images_off_range(PARAMS, 2, 0.1)
PAIR = attacks.Overpowered(0.3, steps=1, restarts=1)
SEARCH = attacks.LatentSearch(steps=1, restarts=1)
GENERATE = linear.SPANNER.generate
MATRIX, OFFSET, _, _ = linear.arrays(PARAMS)
LATENTS = (np.float64(IMAGES).reshape(2, -1) - OFFSET) @ np.linalg.pinv(MATRIX).T


def untyped(function):
    """Returns a function without the checks of types that tests add to it."""
    return getattr(function, "__wrapped__", function)


def find_pairs(**changes):
    given = {
        "spec": PAIR,
        "spanner": linear.SPANNER,
        "classify": linear.CLASSIFY,
        "params": PARAMS,
        "n": 2,
        "key": KEY,
    } | changes
    return untyped(attacks.find_pairs)(**given)


def find_neighbours(**changes):
    given = {
        "spec": PAIR,
        "spanner": linear.SPANNER,
        "classify": linear.CLASSIFY,
        "params": PARAMS,
        "images": IMAGES,
        "labels": LABELS,
        "key": KEY,
    } | changes
    return untyped(attacks.find_neighbours)(**given)


def find_on_manifold(**changes):
    given = {
        "search": SEARCH,
        "norm": "l2",
        "epsilon": 0.1,
        "spanner": linear.SPANNER,
        "classify": linear.CLASSIFY,
        "params": PARAMS,
        "images": IMAGES,
        "labels": LABELS,
        "latents": LATENTS,
        "key": KEY,
    } | changes
    return untyped(attacks.find_on_manifold)(**given)


SEARCHES = {"pairs": find_pairs, "near": find_neighbours, "latent": find_on_manifold}


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other):
        return self is other

    def __call__(self, params, image):
        return linear.CLASSIFY(params, image)


def defended(params, image):
    return linear.CLASSIFY(params.classifier, image)


def scalar(params, image):
    return linear.CLASSIFY(params, image)[0]


def one_class(params, image):
    return linear.CLASSIFY(params, image)[:1]


def batched(params, images):
    return images.reshape(len(images), -1) @ params["W"] + params["c"][None]


def broken(params, image):
    return linear.CLASSIFY(params, image) * jnp.nan


def blind(params, image):
    return linear.CLASSIFY(params, jax.lax.stop_gradient(image))


def spanner(latent_shape=(3,), generate=GENERATE, **more):
    return Spanner(generate, latent_shape, **more)


MISUSE = {
    "a scalar": ({"classify": scalar}, r"classify gives \(\) for one image; allowed"),
    "one class": ({"classify": one_class}, r"classify gives \(1,\) for one image"),
    "a batch": ({"classify": batched}, "classify takes a batch of images; allowed"),
    "a number": ({"classify": 3}, "classify is 3; allowed: a function"),
    "no hash": ({"classify": Unhashable()}, "classify cannot be hashed; allowed"),
    "an integer key": ({"key": 0}, "key is 0; allowed: a key such as"),
    "no key": ({"key": None}, "key is None; allowed: a key such as"),
    "two keys": ({"key": jax.random.split(KEY)}, r"key is an array \(2,\) of type"),
    "a size": ({"spanner": spanner(3)}, "latent_shape is 3; allowed: one positive"),
    "two axes": ({"spanner": spanner((3, 1))}, r"latent_shape is \(3, 1\); allowed"),
    "another size": ({"spanner": spanner((5,))}, r"generate fails on one latent of"),
    "a function": ({"spanner": GENERATE}, r"spanner is .*; allowed: a Spanner"),
    "a flat image": (
        {"spanner": spanner(generate=lambda p, z: GENERATE(p, z).reshape(-1))},
        r"generate gives \(16,\) for one latent; allowed: one image \[height",
    ),
    "a wrong encoder": (
        {"spanner": spanner(encode=lambda p, image: jnp.zeros(4))},
        r"encode gives \(4,\); allowed: \(6,\), mean and log",
    ),
    "no prior": ({"spanner": spanner(prior="normal")}, "prior is 'normal'; allowed"),
    "bare parameters": (
        {"params": PARAMS.classifier},
        r"params are of type dict; allowed: ManifoldParams\(spanner, classifier\)",
    ),
    "the generator's own": (
        {"params": PARAMS._replace(spanner=PARAMS.spanner.generator)},
        r"the spanner's parameters are of type dict; allowed: SpannerParams",
    ),
    "a bool for a count": ({"tile": True}, "tile is True; allowed: a whole number"),
    "a loop": ({"loop": ""}, "loop is ''; allowed: scan, python or None"),
}


@pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("changes, words", MISUSE.values(), ids=MISUSE)
def test_misuse_is_one_sentence(find, changes, words):
    with pytest.raises(UsageError, match=words) as error:
        find(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)
def test_inside_a_compiled_function_it_says_so(find):
    with pytest.raises(UsageError, match="key is traced, as inside jax.jit"):
        jax.jit(lambda key: find(key=key))(KEY)


TWO_AND_NAN = np.array([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]])

MISUSE_OF_LATENT = [
    ({"search": "latent"}, "search is 'latent'; allowed: a latent attack"),
    ({"epsilon": None}, "epsilon is None; allowed: a finite number, 0 or more"),
    ({"epsilon": "0.1"}, "epsilon is '0.1'; allowed: a finite number"),
    ({"epsilon": True}, "epsilon is True; allowed: a finite number"),
    ({"latents": TWO_AND_NAN}, r"latents\[1\] holds a number that is not finite"),
    ({"latents": np.zeros((2, 4))}, r"latents have shape \(2, 4\) .*: \(2, 3\)"),
    ({"latents": np.zeros(3)}, r"latents have shape \(3,\)"),
    ({"latents": "z"}, "latents have shape .* and type <U1"),
    ({"latents": [[0], [0, 1]]}, "latents are of type list, and no array"),
    ({"apply": lambda p, i: jnp.zeros(5)}, "apply gives 5 logits and classify 2"),
    ({"apply": Unhashable()}, "apply cannot be hashed"),
    ({"apply": lambda p, i: batched(p.classifier, i)}, "apply takes a batch of im"),
    ({"apply": lambda p, i: scalar(p.classifier, i)}, r"apply gives \(\) for one"),
    ({"labels": [0, 2]}, r"labels lie in \[0, 2\]; allowed: 0 to 1"),
    ({"labels": None}, "labels have shape"),
    ({"images": [[0.0], [0.0, 1.0]]}, "images are of type list, and no array"),
]


@pytest.mark.parametrize("changes, words", MISUSE_OF_LATENT, ids=lambda x: str(x)[:30])
def test_misuse_of_the_latent_attack(changes, words):
    with pytest.raises(UsageError, match=words):
        find_on_manifold(**changes)


@pytest.mark.parametrize("n", [0, True, 1.5, "2", None])
def test_a_number_of_pairs_is_whole(n):
    with pytest.raises(UsageError, match=f"n is {n!r}; allowed: a whole number"):
        find_pairs(n=n)


def test_numbers_of_other_libraries_are_taken():
    plain = find_pairs()
    spec = attacks.Overpowered(jnp.float32(0.3), steps=np.int64(1), restarts=1)
    found = find_pairs(spec=spec, n=np.int64(2))
    np.testing.assert_allclose(found.distances, plain.distances, rtol=1e-5)
    made = find_on_manifold(epsilon=jnp.float32(0.1))
    np.testing.assert_array_equal(made.images, find_on_manifold().images)


@pytest.mark.parametrize("find", SEARCHES.values(), ids=SEARCHES)
def test_what_no_search_can_overcome_is_told(find):
    with pytest.warns(AttackWarning, match=r"classify gives NaN logits for \d+ of"):
        find(classify=broken)
    with pytest.warns(AttackWarning, match="the gradients of classify are zero for"):
        find(classify=blind)
    changes = {"epsilon": 8.0}
    if find is not find_on_manifold:
        changes = {"spec": dataclasses.replace(PAIR, eta=8.0)}
    with pytest.warns(AttackWarning, match="looks like a budget for pixels from 0"):
        find(**changes)


def test_a_defence_that_gives_nan_is_told():
    with pytest.warns(AttackWarning, match="apply gives NaN logits for 2 of 2 clean"):
        made = find_on_manifold(apply=lambda p, i: defended(p, i) * jnp.nan)
    assert not made.success.any()


def test_a_loss_that_wants_more_classes_gives_way_to_the_margin():
    dlr = dataclasses.replace(SEARCH, loss="dlr")
    with pytest.warns(AttackWarning, match="does not suit 2 classes"):
        made = find_on_manifold(search=dlr)
    np.testing.assert_array_equal(made.images, find_on_manifold().images)
