"""What adversaries' questions cost, by hand."""

import pytest

from robust_manifold import defenses

SIZE = 64
DEFENCE = defenses.registry.build(
    "invert_and_classify(solver=adam(steps=10), restarts=restarts(count=4, "
    "halve_at=(4,)))"
)
# Four starts take 4 steps and two of them 6 more, there and back.
SEARCH = 2 * (4 * 4 + 2 * 6)
VIEWS = {
    "oblivious": (1, 1),
    "substitute": (1, 1),
    "decision(samples=2)": (2 * (SEARCH + 1), 2),
    "straight_through": (SEARCH + 1, 1),
    # The best start's ten steps again, their values once more, and back.
    "unrolled": (SEARCH + 1, 1 + 4 * 20),
    "unrolled(rematerialise=False, samples=3)": (3 * (SEARCH + 1), 3 * (1 + 3 * 20)),
    # A product with the Hessian a dimension, or an iteration.
    "implicit(iterations=8)": (SEARCH + 1, 1 + 4 * 64),
    "implicit(linear='conjugate_gradients', iterations=8)": (SEARCH + 1, 1 + 4 * 8),
    # Five steps of one start: searched, and led through.
    "bpda(solver=adam(steps=5), restarts=1)": (SEARCH + 1, 1 + 10 + 40),
}


def test_each_draw_of_noise_is_a_pass():
    noisy = defenses.Oblivious(noise=0.25, draws=3)
    for defence in (DEFENCE, defenses.NoDefense()):
        assert defenses.view_passes(noisy, defence, SIZE) == (3, 3)
        assert defenses.view_passes(defenses.Oblivious(draws=3), defence, SIZE) == (
            1,
            1,
        )


@pytest.mark.parametrize("text", VIEWS)
def test_questions_to_a_defence(text):
    adversary = defenses.adversaries.build(text)
    assert defenses.view_passes(adversary, DEFENCE, SIZE) == VIEWS[text]
    bare = defenses.NoDefense()
    assert defenses.view_passes(adversary, bare, SIZE) == (1, 1)


def test_classifying_and_searching():
    assert defenses.classifying_passes(DEFENCE, SIZE) == SEARCH + 1
    assert defenses.classifying_passes(defenses.NoDefense(), SIZE) == 1
    latent = defenses.adversaries.build("latent(steps=5, restarts=3)")
    found = defenses.latent_search_passes(latent, DEFENCE, SIZE)
    assert found == 4 * 3 * 5 + 7 * (SEARCH + 1)
