"""What is handed in: classifiers, defences, networks; and what draws at random."""

import jax
import jax.numpy as jnp
import pytest

from robust_manifold import defenses
from robust_manifold.attacks import Expectation
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner, SpannerParams
from robust_manifold.robustness.subject import digest_of, subject_of
from tests.robustness.pixels import (
    CLASSIFIER,
    IMAGES,
    PARAMS,
    apply,
    levels,
    noisy,
    noisy_in_numpy,
)

KEY = jax.random.key(0)
SPANNER = Spanner(lambda params, z: (z[:4] * params).reshape(2, 2, 1), (4,))
GENERATOR = {"generator": (SPANNER, SpannerParams(jnp.float32(0.5)))}
INC = "invert_and_classify(solver=adam(steps=2), restarts=1)"


def subject(classifier=CLASSIFIER, defence=None, networks=None):
    return subject_of(classifier, defence, networks, IMAGES, KEY)


@pytest.mark.parametrize(
    ("defence", "networks", "name", "random", "donors"),
    [
        (None, None, "none", False, 0),
        ("bit_depth(bits=2)", None, "bit_depth(bits=2)", False, 1),
        (defenses.BitDepth(2), None, "bit_depth(bits=2)", False, 1),
        (levels, None, "levels", False, 1),
        (noisy, None, "noisy", True, 1),
        (noisy_in_numpy, None, "noisy_in_numpy", True, 1),
        # Its restarts begin at random; its own generator is a donor.
        (INC, GENERATOR, INC, True, 2),
    ],
)
def test_whatever_it_is_handed_in_as(defence, networks, name, random, donors):
    found = subject(defence=defence, networks=networks)
    assert (found.name, found.random, len(found.donors)) == (name, random, donors)


REFUSED = {
    "a function": (
        {"classifier": apply},
        r"classifier is <function.*allowed: a pair \(apply, params\)",
    ),
    "a random one": (
        {"classifier": (Expectation(apply), PARAMS)},
        "is an Expectation; allowed: a classifier that draws nothing",
    ),
    "of batches": (
        {"classifier": (lambda p, x: x.reshape(-1, 4) @ p, PARAMS)},
        "apply takes a batch of images; allowed: a function of ONE image",
    ),
    "a number": ({"defence": 3}, "defence is 3; allowed: None, a defence of robust"),
    "a name": ({"defence": "bits"}, "Unknown defence 'bits'"),
    "no network": ({"defence": INC}, "networks has the roles none; allowed"),
    "no pair": (
        {"networks": {"generator": SPANNER}},
        "networks is .*allowed: pairs of a network and its parameters by role",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_something_else_is_refused_in_a_sentence(name):
    arguments, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as error:
        subject(**arguments)
    assert "\n" not in str(error.value)


def test_a_checksum_is_of_values_places_and_types():
    trees = [{"a": 1.0}, {"b": 1.0}, {"a": 2.0}, {"a": 1}, {"a": [1.0]}, KEY]
    found = [digest_of(tree) for tree in trees]
    assert len(set(found)) == len(trees)
    assert found == [digest_of(tree) for tree in trees]
