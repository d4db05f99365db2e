import threading

import numpy as np
import pytest

from robust_manifold import data
from robust_manifold.core.errors import UsageError


def make(n):
    images = np.random.default_rng(0).integers(0, 256, (n, 4, 3, 2), np.uint8)
    ids = np.arange(n) + 1000
    return data.Split(images, np.arange(n, dtype=np.int32), ids)


SPLIT = make(50)


def assert_equal(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def test_to_float_is_exact_at_both_ends_and_float32():
    levels = np.arange(256, dtype=np.uint8)
    floats = data.to_float(levels)
    assert floats.dtype == np.float32
    assert floats[0] == 0 and floats[255] == 1
    np.testing.assert_allclose(floats, np.arange(256) / 255, rtol=1e-7)
    np.testing.assert_array_equal(np.rint(floats * 255), levels)


def test_a_batch_holds_the_examples_that_its_ids_name():
    batch = data.training_batches(SPLIT, batch_size=8, seed=0)[3]
    rows = batch.ids - 1000
    np.testing.assert_array_equal(batch.labels, SPLIT.labels[rows])
    np.testing.assert_array_equal(batch.images, data.to_float(SPLIT.images[rows]))
    assert batch.images.dtype == np.float32 and batch.labels.dtype == np.int32
    assert batch.mask.all() and batch.mask.shape == (8,)


def test_an_epoch_holds_each_example_at_most_once_and_drops_the_rest():
    batches = data.training_batches(SPLIT, batch_size=8, seed=0)
    assert batches.steps_per_epoch == 6
    for epoch in range(3):
        ids = np.concatenate([batches[6 * epoch + s].ids for s in range(6)])
        assert len(np.unique(ids)) == len(ids) == 48


def test_each_epoch_and_each_seed_has_its_own_order():
    orders = [
        np.concatenate([b[5 * epoch + s].ids for s in range(5)])
        for b in (data.training_batches(SPLIT, batch_size=10, seed=s) for s in (0, 1))
        for epoch in (0, 1, 2)
    ]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), SPLIT.ids)
    assert len({tuple(order) for order in orders}) == 6


def test_every_example_is_dropped_in_some_epoch_and_used_in_another():
    batches = data.training_batches(SPLIT, batch_size=40, seed=0)
    dropped = [set(SPLIT.ids) - set(batches[epoch].ids) for epoch in range(30)]
    assert set.union(*dropped) == set(SPLIT.ids)


@pytest.mark.parametrize("augment", [None, data.flip_horizontally])
def test_a_resumed_run_sees_the_same_batches(augment):
    def batches():
        return data.training_batches(SPLIT, batch_size=8, seed=5, augment=augment)

    whole = iter(batches())
    seen = [next(whole) for _ in range(20)]
    whole.close()
    resumed = batches()
    for step in (19, 0, 11):
        assert_equal(resumed[step], seen[step])
    later = resumed.from_step(11, ahead=0)
    for step in range(11, 20):
        assert_equal(next(later), seen[step])
    later.close()


def test_the_background_thread_ends_with_its_iterator():
    before = threading.active_count()
    batches = iter(data.training_batches(SPLIT, batch_size=8, seed=5))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("augment", [None, data.flip_horizontally])
def test_the_global_batch_is_the_same_for_any_number_of_processes(count, augment):
    def batches(index, count):
        return data.training_batches(
            SPLIT,
            batch_size=8,
            seed=2,
            augment=augment,
            process_index=index,
            process_count=count,
        )

    for step in (0, 5, 6, 1000):
        parts = [batches(index, count)[step] for index in range(count)]
        assert all(len(part.ids) == 8 // count for part in parts)
        together = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        assert_equal(batches(0, 1)[step], together)


def test_flips_change_about_half_of_the_images_and_differ_by_step():
    split = make(400)
    plain = data.training_batches(split, batch_size=200, seed=0)
    flipped = data.training_batches(
        split, batch_size=200, seed=0, augment=data.flip_horizontally
    )
    which = []
    for step in (0, 1):
        mirrored = plain[step].images[:, :, ::-1]
        is_flipped = (flipped[step].images == mirrored).all((1, 2, 3))
        is_plain = (flipped[step].images == plain[step].images).all((1, 2, 3))
        assert (is_flipped ^ is_plain).all()
        # Five standard deviations of 200 fair coins.
        assert abs(is_flipped.sum() - 100) < 36
        which.append(is_flipped)
    assert not np.array_equal(*which)
    assert_equal(flipped[1], flipped[1])


@pytest.mark.parametrize("batch_size", [1, 8, 50, 64])
def test_evaluation_gives_each_example_once_and_masks_the_padding(batch_size):
    batches = data.evaluation_batches(SPLIT, batch_size=batch_size)
    all_batches = list(batches)
    assert len(all_batches) == len(batches) == -(-50 // batch_size)
    assert all(batch.images.shape == (batch_size, 4, 3, 2) for batch in all_batches)
    mask = np.concatenate([batch.mask for batch in all_batches])
    assert mask.sum() == 50 and mask[:50].all()
    ids = np.concatenate([batch.ids for batch in all_batches])
    np.testing.assert_array_equal(ids[mask], SPLIT.ids)
    images = np.concatenate([batch.images for batch in all_batches])
    np.testing.assert_array_equal(images[mask], data.to_float(SPLIT.images))


@pytest.mark.parametrize("count", [2, 4])
def test_every_process_evaluates_the_same_number_of_steps(count):
    parts = [
        data.evaluation_batches(
            make(9), batch_size=8, process_index=i, process_count=count
        )
        for i in range(count)
    ]
    assert {len(part) for part in parts} == {2}
    for step, batch in enumerate(data.evaluation_batches(make(9), batch_size=8)):
        own = [part[step] for part in parts]
        together = [np.concatenate(arrays) for arrays in zip(*own, strict=True)]
        assert_equal(batch, together)


@pytest.mark.parametrize(
    "call, says",
    [
        (
            lambda: data.training_batches(SPLIT, batch_size=51, seed=0),
            "batch_size is 51; allowed: 1 to 50, the number of training examples.",
        ),
        (
            lambda: data.training_batches(SPLIT, batch_size=0, seed=0),
            "batch_size is 0; allowed: a multiple of 1, the number of processes",
        ),
        (
            lambda: data.training_batches(
                SPLIT, batch_size=9, seed=0, process_index=0, process_count=2
            ),
            "batch_size is 9; allowed: a multiple of 2",
        ),
        (
            lambda: data.training_batches(SPLIT, batch_size=5, seed=-1),
            "seed is -1; allowed: 0 to 2**63 - 1.",
        ),
        (
            lambda: data.evaluation_batches(SPLIT, batch_size=-1),
            "batch_size is -1; allowed:",
        ),
        (
            lambda: data.evaluation_batches(make(0), batch_size=4),
            "The split to evaluate has 0 examples; allowed: 1 or more.",
        ),
    ],
)
def test_impossible_batches_are_refused(call, says):
    with pytest.raises(UsageError) as error:
        call()
    assert says in str(error.value)


def test_steps_outside_are_index_errors():
    with pytest.raises(IndexError, match="allowed: 0 or more"):
        data.training_batches(SPLIT, batch_size=8, seed=0)[-1]
    with pytest.raises(IndexError, match="allowed: 0 to 6"):
        data.evaluation_batches(SPLIT, batch_size=8)[7]
