"""Judges of class changes, on images whose class can be read off."""

import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import evaluation
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import CHANGED, TOGETHER, UNCHANGED, UNDECIDED


def brightest(params, image):
    """The class is the brightest pixel, all the surer the brighter it is."""
    return params * image.reshape(-1)


def images(*rows):
    return np.float32(rows).reshape(len(rows), 1, 3, 1)


FIRST = images([1, 0, 0], [1, 0, 0], [0, 1, 0], [0.4, 0.4, 0.4])
SECOND = images([0.9, 0.1, 0], [0, 0.8, 0], [0.5, 0.5, 0], [0, 0, 1])
CLASSIFIER = evaluation.ClassifierJudge("network", brightest, jnp.float32(10.0), 0.9)
TRAINING = images([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0.1])
NEAREST = evaluation.NeighbourJudge("nearest", TRAINING, np.array([0, 1, 2, 0]), 0.1)


def test_a_classifier_reads_what_it_is_sure_of():
    assert CLASSIFIER.read(FIRST).tolist() == [0, 0, 1, evaluation.UNSURE]
    assert CLASSIFIER.read(SECOND).tolist() == [0, 1, evaluation.UNSURE, 2]


def test_neighbours_read_the_class_that_is_clearly_nearest():
    assert NEAREST.read(SECOND).tolist() == [0, 1, evaluation.UNSURE, 2]
    # The second nearest of the same class is no rival.
    assert NEAREST.read(images([1, 0, 0.05])).tolist() == [0]
    third = evaluation.NeighbourJudge("third", TRAINING, np.array([7, 8, 9, 7]), 0.0)
    assert third.read(images([0.5, 0.49, 0])).tolist() == [7]


def test_verdicts_of_each_and_of_all_together():
    found = evaluation.judge_pairs([CLASSIFIER, NEAREST], FIRST, SECOND)
    sure = [UNCHANGED, CHANGED, UNDECIDED, UNDECIDED]
    assert found.verdicts["network"].tolist() == sure
    assert found.verdicts["nearest"].tolist() == sure
    assert found.verdicts[TOGETHER].tolist() == sure
    np.testing.assert_array_equal(found.reads["network"][1], [0, 1])


class Stubborn:
    """Sees the same class everywhere."""

    name = "stubborn"

    def read(self, images):
        return np.zeros(len(images), int)


def test_judges_that_disagree_decide_nothing_together():
    found = evaluation.judge_pairs([CLASSIFIER, Stubborn()], FIRST, SECOND)
    assert found.verdicts["stubborn"].tolist() == [UNCHANGED] * 4
    expected = [UNCHANGED, UNDECIDED, UNDECIDED, UNDECIDED]
    assert found.verdicts[TOGETHER].tolist() == expected


def test_shares_have_wilson_intervals():
    found = evaluation.judge_pairs([CLASSIFIER], FIRST, SECOND, confidence=0.9)
    assert [line.judge for line in found.lines] == ["network"] * 3 + [TOGETHER] * 3
    for line, count in zip(found.lines[:3], (1, 1, 2), strict=True):
        assert (line.pairs, line.n, line.share) == (count, 4, count / 4)
        assert line.interval == evaluation.wilson_interval(count, 4, 0.9)


def test_what_is_not_allowed_is_named():
    with pytest.raises(UsageError, match="judges are called"):
        evaluation.judge_pairs([], FIRST, SECOND)
    with pytest.raises(UsageError, match="'network', 'network'"):
        evaluation.judge_pairs([CLASSIFIER, CLASSIFIER], FIRST, SECOND)
    with pytest.raises(UsageError, match="second has the shape"):
        evaluation.judge_pairs([CLASSIFIER], FIRST, SECOND[:2])
    with pytest.raises(UsageError, match="certainty of a is 1.5"):
        evaluation.ClassifierJudge("a", brightest, None, 1.5)
    with pytest.raises(UsageError, match="labels of b are 4 for 3 images"):
        evaluation.NeighbourJudge("b", TRAINING[:3], np.arange(4))


class Careless:
    name = "careless"

    def read(self, images):
        return np.zeros(len(images) + 1, int)


def in_batches(params, images):
    return params * images.reshape(len(images), -1)[:, :3]


def test_judges_that_cannot_read_are_named():
    judge = getattr(evaluation.judge_pairs, "__wrapped__", evaluation.judge_pairs)
    for wrong, words in (
        (3, "a judge is 3; allowed: what has a name and a method read"),
        (Careless(), r"'careless' reads 8 images as an array \(9,\); allowed: one cl"),
        (
            evaluation.ClassifierJudge("batches", in_batches, jnp.float32(1.0)),
            r"judge 'batches': apply takes a batch of images; allowed: a function of",
        ),
        (
            evaluation.NeighbourJudge("broken", TRAINING * np.nan, [0, 1, 2, 0]),
            "images hold a pixel that is not finite",
        ),
    ):
        with pytest.raises(UsageError, match=words):
            judge([wrong], FIRST, SECOND)
    nearest = evaluation.nearest_neighbours
    with pytest.raises(UsageError, match=r"images have the shape \(1, 2, 1\); allowed"):
        getattr(nearest, "__wrapped__", nearest)(FIRST, TRAINING[:, :, :2])
    for labels in (None, [[0], [1], [2], [0]]):
        with pytest.raises(UsageError, match=r"labels of b are an array \(.*\) for 4"):
            evaluation.NeighbourJudge("b", TRAINING, labels)
    # One alone is a judge, too, and its images may be rows of numbers.
    alone = evaluation.NeighbourJudge("alone", TRAINING.tolist(), [0, 1, 2, 0], 0.1)
    assert list(judge(alone, FIRST, SECOND).reads) == ["alone"]
