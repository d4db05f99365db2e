"""Every check of an audit on arrays where it must fire, and where it must not."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation.audits import (
    budgets,
    gradients,
    ordering,
    projections,
    repetition,
    search,
)
from robust_manifold.evaluation.audits.check import paired, sign_test, skipped

N = 40


def first(count: int, n: int = N) -> np.ndarray:
    """Returns whether each of n images is among the first so many."""
    return np.arange(n) < count


def flagged(check) -> bool:
    """Returns whether a check was made and speaks up, in a sentence."""
    assert check.verdict in ("PASS", "FLAG")
    assert check.sentence.endswith(".") and "  " not in check.sentence
    return check.verdict == "FLAG"


def test_a_skipped_check_says_why():
    check = skipped("transfer", "no undefended classifier was given")
    assert check == ("transfer", "SKIPPED", None, check.sentence)
    assert check.sentence == "Not checked: no undefended classifier was given."


# The sign test.


def test_the_sign_test_counts_heads_of_a_fair_coin():
    assert sign_test(3, 1) == pytest.approx(5 / 16)
    assert sign_test(0, 5) == 1


def test_luck_is_no_difference_and_many_images_are():
    assert not paired(first(10), first(16)).second_is_stronger
    assert paired(first(10), first(17)).second_is_stronger
    # Seven more, but among many that changed sides either way.
    first_alone, second_alone = first(12), first(31) & ~first(12)
    assert not paired(first_alone, second_alone).second_is_stronger


def test_outcomes_of_other_images_are_not_compared():
    with pytest.raises(UsageError, match=r"shapes \(40,\) and \(39,\)"):
        paired(first(3), first(3, 39))


# Budgets.


def test_no_budget_leaves_clean_accuracy():
    assert not flagged(budgets.zero_budget(first(4), first(4)))
    assert flagged(budgets.zero_budget(first(4), first(5)))


def images(seed: int = 0, n: int = 6) -> np.ndarray:
    shape = (n, 4, 4, 1)
    return np.random.default_rng(seed).uniform(0.3, 0.6, shape).astype(np.float32)


@pytest.mark.parametrize("norm, size", [("linf", 0.2), ("l2", 0.8), ("l1", 3.2)])
def test_a_perturbation_as_large_as_the_budget_is_within_it(norm, size):
    moved = images() + np.float32(0.2)
    assert not flagged(budgets.within_budget(images(), moved, norm, size))
    assert flagged(budgets.within_budget(images(), moved, norm, 0.999 * size))


@pytest.mark.parametrize("pixel", [np.nan, np.inf, -0.01, 1.01])
def test_a_pixel_that_no_image_has_is_told(pixel):
    moved = images()
    moved[2, 1, 1, 0] = pixel
    check = budgets.within_budget(images(), moved, "linf", 5.0)
    assert flagged(check) and "1 of 6 images (17 %)" in check.sentence


def test_images_of_another_shape_are_told():
    assert flagged(budgets.within_budget(images(), images(n=5), "l2", 1.0))


def test_accuracy_may_not_rise_with_the_budget():
    falling = np.stack([first(5), first(9), first(30)])
    assert not flagged(budgets.growing_budget([0.1, 0.2, 0.3], falling))
    rising = np.stack([first(5), first(30), first(9)])
    check = budgets.growing_budget([0.1, 0.2, 0.3], rising)
    assert flagged(check) and check.value == pytest.approx(21 / N)
    assert "fall at 0.2 and stand at 0.3" in check.sentence
    assert budgets.growing_budget([0.1], falling[:1]).verdict == "SKIPPED"


def test_an_image_or_two_that_rise_are_luck():
    broken = np.stack([first(9), first(9) ^ first(2)])
    check = budgets.growing_budget([0.1, 0.2], broken)
    assert not flagged(check) and check.value == pytest.approx(2 / N)


def test_nothing_stands_against_any_budget():
    assert not flagged(budgets.any_budget(first(38), 1.0, "linf"))
    assert flagged(budgets.any_budget(first(37), 1.0, "linf"))


# Orders.


@pytest.mark.parametrize("weak, fires", [(3, False), (16, False), (17, True)])
def test_the_weaker_attack_may_not_break_more(weak, fires):
    check = ordering.ordered(
        ordering.SCORES, first(10), first(weak), stronger="PGD", weaker="search"
    )
    assert flagged(check) == fires
    assert ("no evidence of robustness" in check.sentence) == fires


def test_the_better_of_view_and_gradient_is_told():
    check = ordering.view_against_gradient(first(4), ~first(20))
    assert flagged(check) and "for each image 40 %" in check.sentence
    assert not flagged(ordering.view_against_gradient(first(30), first(10)))


# Gradients and logits.


def test_gradients_of_every_useless_kind_are_counted():
    found = np.ones((50, 2, 2, 1), np.float32)
    assert not flagged(gradients.useful_gradients(found, gradients.CLASSIFIER))
    found[:6] = 0
    found[6, 0, 0, 0] = np.nan
    found[7:9] = 1e-40
    # One pixel that does not matter is no blindness.
    found[9:, 0] = 0
    assert gradients.gradient_shares(found) == (50, 6, 1, 2)
    check = gradients.useful_gradients(found, gradients.DEFENDED)
    assert flagged(check) and check.name == "gradients of the defended classifier"
    assert check.value == pytest.approx(9 / 50)
    assert check.sentence.startswith("12 % of the images had a zero gradient")
    assert check.sentence.endswith("not evidence of robustness.")


def test_a_cross_entropy_that_points_elsewhere_is_told():
    margins = np.random.default_rng(0).normal(size=(40, 2, 2, 1))
    scaled = 1e-30 * margins
    assert not flagged(gradients.followed_cross_entropy(scaled, margins))
    vanished = scaled * (np.arange(40) >= 3)[:, None, None, None]
    assert flagged(gradients.followed_cross_entropy(vanished, margins))
    assert flagged(gradients.followed_cross_entropy(-scaled, margins))


def test_the_scale_of_logits_may_not_matter():
    scales = np.array([1.0, 100.0])
    same = np.stack([first(20), first(19)])
    assert not flagged(gradients.same_at_all_scales(scales, same))
    for broken in ([first(20), first(3)], [first(3), first(20)]):
        check = gradients.same_at_all_scales(scales, np.stack(broken))
        assert flagged(check) and check.value == pytest.approx(17 / N)
    # That small logits weaken an attack misleads nobody who has not made them small.
    weaker = gradients.same_at_all_scales(
        np.array([1.0, 0.01]), np.stack([first(20), first(3)])
    )
    assert not flagged(weaker)


def test_probabilities_and_broken_logits_are_told():
    logits = np.random.default_rng(0).normal(size=(9, 3))
    assert not flagged(gradients.no_probabilities(logits))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert flagged(gradients.no_probabilities(shares))
    # Shares of one image may be logits that happen to add up to 1.
    assert not flagged(gradients.no_probabilities(shares[:1]))
    logits[3, 1] = np.nan
    assert flagged(gradients.no_probabilities(logits))


def test_a_loss_that_had_to_be_replaced_is_told():
    assert not flagged(gradients.enough_classes(3, "pgd", "pgd"))
    assert flagged(gradients.enough_classes(2, "pgd(loss='dlr')", "pgd"))


# Search.


def test_a_success_that_was_let_go_is_told():
    assert not flagged(search.silent_success(first(9), first(9)))
    # What is returned need not have been looked at.
    assert not flagged(search.silent_success(first(5), first(9)))
    check = search.silent_success(first(12), first(9))
    assert flagged(check) and check.value == pytest.approx(3 / N)


def rising(power: float, steps: int = 40) -> np.ndarray:
    """Returns losses that rise as a power of the steps, the same for all images."""
    return np.tile(np.linspace(0, 1, steps + 1) ** power, (N, 1))


def test_a_loss_that_still_rises_is_told():
    nobody = first(0)
    assert flagged(search.unfinished_search(rising(1.0), nobody))
    assert not flagged(search.unfinished_search(rising(0.1), nobody))
    # Those that have fallen need no further step.
    assert not flagged(search.unfinished_search(rising(1.0), first(36)))
    assert flagged(search.unfinished_search(rising(1.0), first(35)))
    # A loss that goes up and down has its best long behind it.
    swinging = np.tile(np.arange(41) % 2, (N, 1)).astype(float)
    assert not flagged(search.unfinished_search(swinging, nobody))
    assert search.unfinished_search(rising(1.0, 3), nobody).verdict == "SKIPPED"


def test_an_attack_of_one_look_is_no_evidence():
    assert flagged(search.stated_cost(1.0, 1.0))
    check = search.stated_cost(42.0, 41.0)
    assert not flagged(check) and "42 forward and 41 backward" in check.sentence
    assert "backward" not in search.stated_cost(42.0, None).sentence


# Repetition.


def test_a_prediction_that_follows_the_key_is_told():
    predictions = np.tile(np.arange(N) % 3, (4, 1))
    assert not flagged(repetition.same_for_all_keys(predictions))
    moved = predictions.copy()
    moved[2, 5] += 1
    check = repetition.same_for_all_keys(moved)
    assert flagged(check) and check.value == pytest.approx(1 / N)
    many = np.zeros((2, 100), int)
    many[1, 0] = 1
    assert not flagged(repetition.same_for_all_keys(many))
    check = repetition.same_for_all_keys(predictions, moved, predictions[0])
    assert flagged(check) and "100 % right under the key" in check.sentence


def test_logits_that_follow_their_mates_are_told():
    logits = np.random.default_rng(0).normal(size=(9, 3))
    rounded = logits * (1 + 1e-6)
    assert not flagged(repetition.same_with_any_mates(logits, rounded))
    rounded[4, 1] += 0.1
    assert flagged(repetition.same_with_any_mates(logits, rounded))
    rounded[4, 1] = np.nan
    assert flagged(repetition.same_with_any_mates(logits, rounded))


def test_a_classifier_that_differs_from_call_to_call_is_told():
    logits = np.random.default_rng(0).normal(size=(9, 3))
    other = logits + 0.1
    assert not flagged(repetition.same_as_evaluated(logits, logits, logits))
    twice = repetition.same_as_evaluated(logits, logits, other)
    assert flagged(twice) and "Called twice" in twice.sentence
    mode = repetition.same_as_evaluated(other, logits, logits)
    assert flagged(mode) and "training mode" in mode.sentence


# Projections.


def test_projections_are_images_of_their_latents():
    assert not flagged(projections.in_range(images(), images()))
    assert flagged(projections.in_range(images(), images(1)))


def test_noise_that_comes_back_as_it_is_is_told():
    assert not flagged(projections.noise_has_error(images(), images(1)))
    kept = np.concatenate([images()[:1], images(1)[1:]])
    check = projections.noise_has_error(images(), kept)
    assert flagged(check) and check.value == pytest.approx(1 / 6)


def test_errors_are_finite_and_not_all_nothing():
    errors = np.linspace(0.01, 0.02, N)
    check = projections.projection_errors(errors, 2 * errors)
    assert not flagged(check) and check.value == pytest.approx(2)
    assert flagged(projections.projection_errors(0 * errors, 0 * errors))
    assert flagged(projections.projection_errors(errors, np.full(N, np.inf)))


def test_restarts_that_all_end_elsewhere_are_told():
    alone = np.tile([0.01, 0.02, 0.03], (N, 1))
    shared = np.tile([0.01, 0.0101, np.inf], (N, 1))
    assert flagged(projections.best_basin(alone))
    check = projections.best_basin(shared)
    assert not flagged(check) and check.value == pytest.approx(2 / 3)
    # Nobody is alone where all errors are rounding.
    assert not flagged(projections.best_basin(1e-12 * alone))
    assert projections.best_basin(alone[:, :1]).verdict == "SKIPPED"
    # Restarts that were given up say nothing of the basins.
    dropped = np.tile([False, True, False], (N, 1))
    near = np.tile([0.01, 0.5, 0.0101], (N, 1))
    assert projections.best_basin(near, dropped).value == pytest.approx(1)
    dropped[:, 2] = True
    assert projections.best_basin(near, dropped).verdict == "SKIPPED"


def test_a_projection_that_moves_again_is_told():
    errors = np.linspace(0.01, 0.02, N)
    assert not flagged(projections.projected_twice(errors, 0.05 * errors))
    assert flagged(projections.projected_twice(errors, 0.2 * errors))
    assert projections.projected_twice(0 * errors, errors).verdict == "SKIPPED"


def test_generated_images_that_are_not_found_again_are_told():
    assert not flagged(projections.generated_found_again(1e-6 + 1.0 * first(4)))
    assert flagged(projections.generated_found_again(1e-6 + 1.0 * first(5)))
    assert flagged(projections.generated_found_again(np.full(N, np.nan)))


def pairs(apart: float, classes=(0, 1)) -> projections.LatentPairs:
    both = np.stack([images(), images() + np.float32(apart)], axis=1)
    logits = np.tile(np.eye(3)[list(classes)], (6, 1, 1))
    return projections.LatentPairs(both, logits, np.arange(6) > 0)


def test_reported_pairs_are_near_and_told_apart():
    # Each of 16 pixels moves by 0.1: an l2 distance of 0.4.
    assert not flagged(projections.pairs_hold(pairs(0.1), 0.401))
    assert flagged(projections.pairs_hold(pairs(0.1), 0.399))
    assert flagged(projections.pairs_hold(pairs(0.1, (1, 1)), 0.401))
    none = pairs(0.1)._replace(found=np.zeros(6, bool))
    assert projections.pairs_hold(none, 0.399).verdict == "SKIPPED"


def test_pairs_that_change_their_class_are_told():
    one = np.array([[1, 1], [2, 2], [0, 1]])
    assert not flagged(projections.judged_as_one(one))
    assert flagged(projections.judged_as_one(np.array([[1, 2], [2, 2], [0, 1]])))
    assert projections.judged_as_one(one[:0]).verdict == "SKIPPED"
