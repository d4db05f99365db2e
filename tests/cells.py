"""Lines of results.csv, made up, for tables and figures."""

import numpy as np
import pytest

from robust_manifold.evaluation import Cell, to_frame, wilson_interval

INC = "invert_and_classify(restarts=4)"


def cell(attack, correct, *, defence="none", norm="", epsilon=None, n=500, **changes):
    low, high = wilson_interval(correct, n)
    attacked = attack != "clean"
    made = Cell(
        classifier="small_cnn",
        defence=defence,
        adversary="oblivious" if attacked else "none",
        attack=attack,
        norm=norm,
        epsilon=epsilon,
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_low=low,
        accuracy_high=high,
        attack_success=0.5 if attacked else None,
        distance_mean=epsilon,
        distance_median=epsilon,
        l2_mean=1.25 if attacked else None,
        linf_mean=0.05 if attacked else None,
        error_mean=None if defence == "none" else 0.0123,
        forwards_mean=1234.0 if attacked else None,
        backwards_mean=41.0 if attacked else None,
        label_queries=None,
        seconds=1.5,
    )
    return made._replace(**changes)


@pytest.fixture
def results():
    l2 = "pgd(epsilon=1.5, norm='l2', steps=40)"
    return to_frame(
        [
            cell("clean", 495),
            cell("fgsm(epsilon=0.05)", 400, norm="linf", epsilon=0.05),
            cell("fgsm(epsilon=0.2)", 0, norm="linf", epsilon=0.2),
            cell(l2, 100, norm="l2", epsilon=1.5),
            cell("clean", 421, defence=INC),
            cell("fgsm(epsilon=0.05)", 415, defence=INC, norm="linf", epsilon=0.05),
            cell("fgsm(epsilon=0.2)", 366, defence=INC, norm="linf", epsilon=0.2),
            cell(l2, 350, defence=INC, norm="l2", epsilon=1.5),
        ]
    )


@pytest.fixture
def make_cell():
    return cell


@pytest.fixture
def digits():
    """Gray images [8, 28, 28, 1] that differ from each other."""
    return np.random.default_rng(0).random((8, 28, 28, 1)).astype(np.float32)
