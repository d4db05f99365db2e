"""What holds for every registered training of a classifier."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.training import ClassifierTraining, classifier_trainings
from tests.training.networks import SHAPE, linear, weights
from tests.training.pairs import BATCH, KEY, MODEL, SPANNER, params_of_spanner

PAIRS = "pairs=3, every=2, search=overpowered(eta=0.5, steps=5, restarts=1)"
TEXTS = [
    "cross_entropy",
    "adversarial(attack=pgd(epsilon=0.1, steps=2))",
    "trades(epsilon=0.1, steps=2)",
    "fast_fgsm(epsilon=0.1)",
    "multi_steepest(linf=0.1, l2=0.3, l1=1.0, steps=2)",
    "noisy(sigma=0.2)",
    f"enhanced_inc({PAIRS})",
    f"overpowered_adversarial(attack=pgd(epsilon=0.1, steps=2), {PAIRS})",
]
OF_CODEBOOKS = [
    "certified(own=2, others=3)",
    "certified(own=2, others=3, box=True, blur=0.5, "
    "views=transformations(rotation=5.0))",
    "certified_on_manifold(norm='linf', solver=adam(steps=3))",
]
OF_NUMBERS = [
    "squared_error",
    "squared_error(attack=pgd(epsilon=0.1, steps=2), clean_share=0.5)",
]
CODEBOOK = models.build("codebook(per_class=3)", image_shape=SHAPE, classes=3)


def model_of(text):
    return CODEBOOK if text in OF_CODEBOOKS else MODEL


def _init(text, steps=5, **given):
    training = classifier_trainings.build(text).with_spanner(SPANNER)
    return training, training.init(
        model_of(text), KEY, steps, spanner=params_of_spanner(), **given
    )


def test_the_list_is_whole():
    every = TEXTS + OF_CODEBOOKS + OF_NUMBERS
    assert {text.split("(")[0] for text in every} == set(classifier_trainings.names)
    for name in classifier_trainings.names:
        numbers = any(text.split("(")[0] == name for text in OF_NUMBERS)
        assert classifier_trainings[name].numbers == numbers


@pytest.mark.parametrize("text", TEXTS + OF_CODEBOOKS + OF_NUMBERS)
def test_texts_and_specs_are_the_same(text):
    training = classifier_trainings.build(text)
    again = classifier_trainings.build(classifier_trainings.to_string(training))
    assert again == training and hash(again) == hash(training)
    name = text.split("(")[0]
    assert classifier_trainings.to_string(classifier_trainings.build(name)) == name


@pytest.mark.parametrize("text", TEXTS + OF_CODEBOOKS)
def test_steps_train_measure_and_compile_once(text):
    programs = ClassifierTraining.step._cache_size()
    for _ in range(2):
        training, state = _init(text)
        (before,) = map(np.array, jax.tree.leaves(training.train_params(state)))
        for _ in range(3):
            state, metrics = training.step(model_of(text), 5, KEY, state, *BATCH)
    assert ClassifierTraining.step._cache_size() - programs == 1
    assert state.step == 3
    chex.assert_tree_all_finite((state, metrics))
    chex.assert_shape(list(metrics), ())
    assert metrics._fields[:2] == ("loss", "accuracy")
    (after,) = jax.tree.leaves(training.train_params(state))
    assert not np.array_equal(after, before)


def test_steps_may_stand_in_a_scan():
    text = TEXTS[4]
    training, state = _init(text)
    for _ in range(3):
        state, _ = training.step(MODEL, 5, KEY, state, *BATCH)

    def body(state, _):
        return training.step(MODEL, 5, KEY, state, *map(jnp.asarray, BATCH))

    _, begun = _init(text)
    scanned, _ = jax.jit(lambda begun: jax.lax.scan(body, begun, length=3))(begun)
    chex.assert_trees_all_close(scanned, state, atol=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_a_training_goes_on_from_given_weights(text):
    given = {"params": {"w": np.full((4, 3), 0.25, np.float32)}}
    training, state = _init(text, start=given)
    for params in (state.params, training.train_params(state)):
        np.testing.assert_array_equal(weights(params), given["params"]["w"])
    # Two of them, since the state is donated and what was given must outlive it.
    kept = jax.tree.map(jnp.asarray, given)
    for _ in range(2):
        training, state = _init(text, start=kept)
        training.step(MODEL, 5, KEY, state, *BATCH)
    np.testing.assert_array_equal(weights(kept), given["params"]["w"])


@pytest.mark.parametrize("text", [TEXTS[0], TEXTS[5]])
def test_weights_that_do_not_fit_are_refused_in_one_sentence(text):
    for given in (
        linear((3, 2, 1), (3,)).init(KEY),
        {"params": {"v": np.ones((4, 3), np.float32)}},
        {"params": {"w": np.full((4, 3), np.nan, np.float32)}},
    ):
        with pytest.raises(ValueError, match=r"start of \w+: The weights do not fit"):
            _init(text, start=given)


@pytest.mark.parametrize("text", TEXTS + OF_CODEBOOKS + OF_NUMBERS)
def test_zero_steps_are_refused(text):
    with pytest.raises(ValueError, match=r"steps of \w+ is 0; allowed: 1 or more"):
        _init(text, steps=0)
