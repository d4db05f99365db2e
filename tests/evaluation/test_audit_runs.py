"""What an audit computes is shared within it, and gone with it."""

import dataclasses
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, evaluation
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.audits import budgets, ordering, search
from robust_manifold.evaluation.audits.runs import Runs


def classify(params, image):
    return params @ image.reshape(-1)


def step(classify, images, labels, epsilon):
    """Moves every pixel by the whole budget, in whichever direction."""
    classify(images)
    return np.clip(images + epsilon, 0, 1)


ATTACKS = {
    "ours": attacks.PGD(epsilon=0.1, steps=4),
    "own": evaluation.OwnAttack(step, epsilon=0.1),
}


def example():
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=(3, 12)), jnp.float32)
    images = rng.uniform(size=(4, 2, 2, 3)).astype(np.float32)
    labels = np.argmax(images.reshape(4, -1) @ np.asarray(params).T, axis=-1)
    return params, images, labels


def runs_of(attack, params, images, labels):
    return Runs(
        classify,
        params,
        images,
        labels,
        key=jax.random.key(0),
        attack=attack,
        view=None,
        undefended=None,
        queries=4,
    )


def test_an_attack_is_made_once_at_each_budget():
    runs = runs_of(ATTACKS["ours"], *example())
    assert runs.at(0.1) is runs.at(0.1) is runs.main
    assert runs.at(0.2) is not runs.main
    # Another audit has outcomes of its own.
    assert runs_of(ATTACKS["ours"], *example()).main is not runs.main


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_of_an_audit_outlives_it(attack):
    """Its images and parameters may be most of what memory holds."""
    params, images, labels = example()
    kept = weakref.ref(params)
    checks = (budgets.ZERO_BUDGET, budgets.GROWING_BUDGET, ordering.SINGLE_STEP)
    evaluation.audit(
        classify,
        params,
        images,
        labels,
        key=jax.random.key(0),
        attack=attack,
        checks=checks,
    )
    runs = runs_of(attack, params, images, labels)
    of_runs, held = weakref.ref(runs), weakref.ref(runs.main.images)
    del params, images, runs
    gc.collect()
    assert of_runs() is None and held() is None and kept() is None
    assert not any(isinstance(thing, Runs) for thing in gc.get_objects())


def in_batches(params, images):
    return images.reshape(len(images), -1) @ params.T


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": 0}, "key is 0; allowed: a key such as"),
        ({"apply": in_batches}, "apply takes a batch of images; allowed"),
        ({"view": lambda p, image: p[0, 0]}, r"view gives \(\) for one image"),
        ({"undefended": classify}, r"undefended is .*; allowed: a Network\(apply"),
        ({"examples": None}, "examples is None; allowed: 1 or more"),
        ({"queries": True}, "queries is True; allowed: 1 or more"),
        ({"labels": None}, "labels have shape"),
        ({"labels": [0]}, r"labels have shape \(1,\)"),
    ],
)
def test_what_an_audit_cannot_use_is_named(changes, words):
    params, images, labels = example()
    given = {
        "apply": classify,
        "params": params,
        "images": images,
        "labels": labels,
        "key": jax.random.key(0),
    } | changes
    # Without the checks of types that tests add to it.
    audit = getattr(evaluation.audit, "__wrapped__", evaluation.audit)
    with pytest.raises(UsageError, match=words):
        audit(**given)


@dataclasses.dataclass(frozen=True)
class Forgetful(attacks.SteppedAttack[dict]):
    """A stranger's attack that finds adversarial images, and returns the clean ones."""

    epsilon: float
    norm = "linf"
    iterations = 4

    def begin(self, problem, key):
        return {"here": problem.image}

    def step(self, problem, key, state):
        slope = jax.grad(lambda image: problem.classify(image)[problem.label])
        moved = state["here"] - problem.epsilon * jnp.sign(slope(state["here"]))
        low, high = problem.image - problem.epsilon, problem.image + problem.epsilon
        return {"here": jnp.clip(jnp.clip(moved, low, high), 0, 1)}

    def finish(self, problem, key, state):
        return problem.image

    def passes(self, classes):
        return attacks.Passes(step=attacks.Queries(1, 1))


class Telling(Forgetful):
    """The same, and it says where its image is."""

    def image_of(self, state):
        return state["here"]


@pytest.mark.parametrize(
    ("kind", "verdict"), [(Forgetful, "SKIPPED"), (Telling, "FLAG")]
)
def test_an_audit_sees_the_image_that_an_attack_tells(kind, verdict):
    params, images, labels = example()
    report = evaluation.audit(
        classify,
        params,
        images,
        labels,
        key=jax.random.key(0),
        attack=kind(0.9),
        checks=(search.SILENT_SUCCESS,),
    )
    (check,) = report
    assert check.verdict == verdict
