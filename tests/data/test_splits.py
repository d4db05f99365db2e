import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.data import Parts, Split, splits


def make(n, first=0):
    """A split whose images and labels can be told from the ids."""
    ids = np.arange(n)
    images = np.broadcast_to((ids % 256)[:, None, None, None], (n, 2, 2, 1))
    return Split(images.astype(np.uint8), (ids % 3).astype(np.int32) + first, ids)


def cut(parts, validation=0, test=0, seed=0):
    return splits.cut(
        parts, validation_examples=validation, test_examples=test, seed=seed
    )


def carvable(n):
    return Parts(make(n), None, None, ("a", "b", "c"))


@pytest.mark.parametrize("validation", [0, 1, 7, 30])
@pytest.mark.parametrize("test", [0, 1, 13, 69])
def test_carved_splits_are_disjoint_and_lose_nothing(validation, test):
    train, val, tst = cut(carvable(100), validation, test)
    assert (val.size, tst.size) == (validation, test)
    together = np.concatenate([train.ids, val.ids, tst.ids])
    np.testing.assert_array_equal(np.sort(together), np.arange(100))
    for split in (train, val, tst):
        np.testing.assert_array_equal(split.labels, split.ids % 3)
        np.testing.assert_array_equal(split.images[:, 0, 0, 0], split.ids)


def test_without_carving_the_order_is_the_source_s():
    train, validation, test = cut(carvable(9))
    np.testing.assert_array_equal(train.ids, np.arange(9))
    assert validation.size == test.size == 0
    assert validation.images.shape == (0, 2, 2, 1)


def test_the_test_split_is_the_same_for_any_validation_size():
    a = cut(carvable(100), validation=5, test=10)
    b = cut(carvable(100), validation=50, test=10)
    np.testing.assert_array_equal(a[2].ids, b[2].ids)


def test_a_larger_split_begins_with_the_smaller():
    small = cut(carvable(100), test=10)[2].ids
    np.testing.assert_array_equal(cut(carvable(100), test=30)[2].ids[:10], small)
    parts = carvable(100)._replace(test=make(40))
    chosen = cut(parts, test=10)[2].ids
    np.testing.assert_array_equal(cut(parts, test=30)[2].ids[:10], chosen)


def test_another_seed_gives_another_split():
    a, b = (cut(carvable(100), test=10, seed=s)[2].ids for s in (0, 1))
    assert not np.array_equal(a, b)


def test_official_splits_are_used_whole():
    parts = Parts(make(10), make(4, 10), make(6, 20), ("a",))
    train, validation, test = cut(parts)
    assert (train.size, validation.size, test.size) == (10, 4, 6)
    assert validation.labels.min() == 10 and test.labels.min() == 20


def test_a_part_of_an_official_split_never_reaches_training():
    parts = Parts(make(10), None, make(6, 20), ("a",))
    train, validation, test = cut(parts, validation=3, test=2)
    assert (train.size, validation.size, test.size) == (7, 3, 2)
    assert train.labels.max() < 20 <= test.labels.min()
    np.testing.assert_array_equal(np.sort([*train.ids, *validation.ids]), np.arange(10))


def test_the_random_order_never_changes():
    # Computed once; splits of published numbers hang on it.
    assert splits.permutation(10, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    np.testing.assert_array_equal(np.sort(splits.permutation(1000, 7)), np.arange(1000))


def test_carving_from_a_source_sorted_by_class_keeps_the_classes_balanced():
    labels = np.repeat(np.arange(10, dtype=np.int32), 200)
    part = Split(np.zeros((2000, 1, 1, 1), np.uint8), labels, np.arange(2000))
    test = cut(Parts(part, None, None, ()), test=1000)[2]
    counts = np.bincount(test.labels, minlength=10)
    # Five standard deviations of a hypergeometric draw.
    assert np.abs(counts - 100).max() < 5 * np.sqrt(100 * 0.9 * 0.5)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"validation": -1}, "validation_examples is -1; allowed: 0 or more"),
        ({"test": -2}, "test_examples is -2; allowed: 0 or more"),
        ({"test": 10}, "allowed: a sum of at most 9"),
        ({"validation": 6, "test": 4}, "from 10 training examples"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "allowed: 0 to 2**63 - 1"),
    ],
)
def test_impossible_sizes_are_refused(arguments, says):
    with pytest.raises(UsageError) as error:
        cut(carvable(10), **arguments)
    assert says in str(error.value)


def test_more_than_the_official_split_is_refused():
    parts = Parts(make(10), None, make(6), ())
    with pytest.raises(UsageError, match="test_examples is 7; allowed: at most 6"):
        cut(parts, test=7)
