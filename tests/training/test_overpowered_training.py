"""Overpowered adversarial training: its extra steps, and nothing else beside PGD's."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.attacks import FGSM, PGD
from robust_manifold.attacks.overpowered import Overpowered
from robust_manifold.training import (
    Adversarial,
    OverpoweredAdversarial,
    classifier_trainings,
)
from tests.training.networks import weights
from tests.training.pairs import BATCH, KEY, MODEL, SGD, Drawn, logits_of, run

ATTACK = FGSM(0.1)
SMALL = OverpoweredAdversarial(
    SGD,
    attack=ATTACK,
    weight=0.5,
    every=2,
    pairs=4,
    search=Drawn(eta=1.0, share=1.0),
)


def _adversarial_step(w, step=0):
    """Returns the weights after a step of adversarial training alone."""
    training = Adversarial(SGD, attack=ATTACK)
    given = {"params": {"w": jnp.asarray(w)}}
    state = training.init(MODEL, KEY, 10, start=given)
    state = state._replace(step=jnp.int32(step))
    state, metrics = training.step(MODEL, 10, KEY, state, *BATCH)
    return weights(state.params), metrics


@pytest.mark.parametrize(
    "search", [Overpowered(eta=0.5, steps=20, restarts=2), Drawn(eta=1.0)]
)
def test_a_step_on_pairs_then_one_of_adversarial_training(search):
    before, state, (metrics,) = run(dataclasses.replace(SMALL, search=search))
    pairs = state.more.pairs
    assert pairs.feasible.any()

    def pair_loss(w):
        first, second = jnp.moveaxis(logits_of(w, pairs), 1, 0)
        apart = jax.nn.softmax(first) * jax.nn.log_softmax(second)
        return -jnp.mean(jnp.sum(apart, axis=1))

    loss, gradient = jax.value_and_grad(pair_loss)(weights(before))
    # The pairs are constants: their step is that of the loss on them, and no more.
    expected, plain = _adversarial_step(weights(before) - 0.1 * 0.5 * gradient)
    np.testing.assert_allclose(weights(state.params), expected, atol=1e-6)
    np.testing.assert_allclose(metrics.loss, plain.loss, rtol=1e-5)
    np.testing.assert_allclose(metrics.pair_loss, loss, rtol=1e-5)
    assert metrics.feasible == pairs.feasible.mean()


def test_a_search_without_a_feasible_pair_leaves_a_plain_step():
    none = dataclasses.replace(SMALL, search=Drawn(eta=1.0, share=0.0))
    before, state, (metrics,) = run(none)
    expected, _ = _adversarial_step(weights(before))
    np.testing.assert_allclose(weights(state.params), expected, rtol=1e-6)
    assert metrics[2:] == (0, 0, 0)


def test_between_searches_steps_are_plain_and_pairs_are_kept():
    _, first, measured = run(SMALL)
    _, second, (_, later) = run(SMALL, count=2)
    chex.assert_trees_all_equal(first.more, second.more)
    expected, _ = _adversarial_step(weights(first.params), step=1)
    np.testing.assert_allclose(weights(second.params), expected, atol=1e-6)
    assert measured[0][2:] == later[2:]


def test_without_weight_it_is_adversarial_training_bit_for_bit():
    fields = {"optimizer": "adam(0.01, 'cosine')", "attack": PGD(0.1, steps=3)}
    _, plain, expected = run(Adversarial(**fields), count=3)
    none = dataclasses.replace(SMALL, **fields, weight=0.0)
    _, state, metrics = run(none, count=3)
    chex.assert_trees_all_equal(state._replace(more=()), plain)
    assert [metric[:2] for metric in metrics] == [tuple(both) for both in expected]


def test_the_schedule_ends_with_the_last_of_all_steps():
    """Of 3 steps the first and the third come after one on pairs: 5 in all."""
    cosine = dataclasses.replace(SMALL, optimizer="momentum(0.1, 'cosine')")
    _, state, _ = run(cosine, steps=3, count=3)
    counts = [leaf for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim == 0]
    assert counts == [5] and state.step == 3
    descent = cosine._descent(3)
    known = descent.init(jnp.ones(()))
    for _ in range(5):
        _, known = descent.update(jnp.ones(()), known)
    assert abs(descent.update(jnp.ones(()), known)[0]) < 1e-8


def test_texts_and_specs_are_the_same():
    text = "overpowered_adversarial(weight=0.1, search=overpowered(eta=4.0))"
    spec = classifier_trainings.build(text)
    assert classifier_trainings.to_string(spec) == text
    assert spec == OverpoweredAdversarial(weight=0.1, search=Overpowered(4.0))


def test_bad_fields_are_refused():
    with pytest.raises(ValueError, match="weight is -1.0; allowed: a finite number, 0"):
        OverpoweredAdversarial(weight=-1.0)
    with pytest.raises(ValueError, match="OverpoweredAdversarial.every is 0; allowed"):
        OverpoweredAdversarial(every=0)
    with pytest.raises(ValueError, match="Adversarial.attack is .*: a stepped attack"):
        OverpoweredAdversarial(attack="auto_attack(epsilon=0.1)")
