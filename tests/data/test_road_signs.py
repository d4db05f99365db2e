"""Road signs: the same pixels each time, classes that can be told apart, stickers."""

import hashlib

import numpy as np
import pytest

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.core.outlines import coverage
from robust_manifold.data import road_signs
from robust_manifold.data.sources import RoadSigns, parse

SMALL = "road_signs(train=30, validation=20, test=20)"


def digests(split):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in split.images]


@pytest.fixture(scope="module")
def parts():
    return parse(SMALL).read()


def test_two_readings_have_the_same_bytes_and_another_seed_others(parts):
    again = parse(SMALL).read()
    for part in ("train", "validation", "test"):
        one, other = getattr(parts, part), getattr(again, part)
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    seeded = parse(SMALL.replace(")", ", seed=1)")).read()
    assert not set(digests(seeded.train)) & set(digests(parts.train))


def test_no_image_is_in_two_parts_nor_among_the_views_of_stickers(parts):
    views = parse(SMALL).views("stop", 20)
    found = [digests(part) for part in (parts.train, parts.validation, parts.test)]
    found.append([hashlib.sha256(view.tobytes()).hexdigest() for view in views])
    together = [each for part in found for each in part]
    assert len(together) == 90 == len(set(together))


def test_a_larger_part_begins_with_a_smaller_one_and_parts_do_not_depend(parts):
    more = parse("road_signs(train=40, validation=0, test=20)").read()
    np.testing.assert_array_equal(more.train.images[:30], parts.train.images)
    np.testing.assert_array_equal(more.test.images, parts.test.images)
    assert more.validation is None


def test_classes_are_equally_frequent_however_few_are_kept(parts):
    assert parts.class_names == road_signs.CLASSES and len(parts.class_names) >= 8
    assert set(np.bincount(parts.train.labels)) == {3}
    few = parse(SMALL, max_examples=10).read()
    assert set(np.bincount(few.train.labels)) == {1}
    np.testing.assert_array_equal(few.train.images, parts.train.images[:10])


def test_images_are_as_large_as_asked():
    assert parse("road_signs(train=10, size=48)").read().train.images.shape[1:] == (
        *(48, 48, 3),
    )
    loaded = data.load(SMALL, image_size=24, crop=30)
    assert loaded.image_shape == (24, 24, 3)
    assert [loaded.train.size, loaded.validation.size, loaded.test.size] == [30, 20, 20]


def test_frontal_views_are_nearest_to_the_face_of_their_own_class(monkeypatch):
    still = dict.fromkeys(("yaw", "pitch", "roll", "right", "down"), (0.0, 0.0))
    narrow = {"size": (0.95, 1.0), "gain": (0.8, 1.1), "blur": (0.0, 0.005)}
    monkeypatch.setattr(road_signs, "RANGES", road_signs.RANGES | still | narrow)
    faces = [road_signs.face(name, 32) for name in road_signs.CLASSES]
    # Only what all signs cover is compared, where no background shows.
    common = np.all([face.mask for face in faces], axis=0)
    pixels = np.stack([face.image[common].astype(float) for face in faces])
    for label, name in enumerate(road_signs.CLASSES):
        for number in range(5):
            random = np.random.RandomState([7, number])
            seen = road_signs.view(name, 32, random)[common].astype(float)
            distances = np.linalg.norm(pixels - seen, axis=(1, 2))
            assert np.argmin(distances) == label, name


@pytest.mark.parametrize("name", road_signs.CLASSES)
def test_a_face_has_its_mask_and_grey_beside_it(name):
    face = road_signs.face(name, 32)
    covered = coverage(road_signs.outline_of(name), 32, 32)
    np.testing.assert_array_equal(face.mask, covered >= 0.5)
    assert (face.image[covered == 0] == 128).all()
    assert face.image[face.mask].std() > 20


def test_a_sticker_changes_the_sign_alone_and_nothing_else_of_the_view():
    face = road_signs.face("stop", 32)
    green = np.zeros_like(face.image)
    green[..., 1] = 255
    mask = np.zeros((32, 32), bool)
    mask[12:20, 12:20] = True
    for number in range(5):
        plain, nothing, stuck = (
            road_signs.view(
                "stop", 32, np.random.RandomState([3, number]), sticker=what, mask=where
            )
            for what, where in ((None, None), (green, ~mask & mask), (green, mask))
        )
        np.testing.assert_array_equal(plain, nothing)
        middle = stuck[14:18, 14:18].reshape(-1, 3).mean(0)
        assert middle[1] > 2 * middle[0]
        # It is a quarter of the frame wide at most, turned and blurred.
        np.testing.assert_array_equal(stuck[:5], plain[:5])


@pytest.mark.parametrize(
    "text, says",
    [
        ("road_signs(train=9)", "RoadSigns.train is 9; allowed: a whole number, 10 or"),
        ("road_signs(test=-1)", "RoadSigns.test is -1; allowed: a whole number, 0 or"),
        ("road_signs(size=8)", "RoadSigns.size is 8; allowed: a whole number, 16 to"),
        ("road_signs(size=97)", "allowed: a whole number, 16 to 96"),
        ("road_signs(seed=-1)", "RoadSigns.seed is -1; allowed"),
        ("road_signs(trian=10)", "Did you mean 'train'?"),
        ("road_signs(train=1.5)", "train"),
        ("road_signs(train=10", "road_signs(train=10"),
        ("road_signs:x", "RoadSigns.location is 'x'; allowed: nothing after the name"),
        ("road_sings(train=10)", "Did you mean 'road_signs'?"),
    ],
)
def test_a_mistake_is_one_sentence(text, says):
    with pytest.raises(UsageError) as error:
        parse(text)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_sign_is_refused():
    with pytest.raises(UsageError, match="Unknown road sign 'stopp'; did you|stop"):
        road_signs.face("stopp", 32)


def test_what_is_drawn_is_kept_and_drawn_anew_when_the_code_changes(
    tmp_path, monkeypatch
):
    drawn = []
    original = RoadSigns.decode

    def decode(self, on_progress=None):
        drawn.append(self)
        return original(self, on_progress)

    monkeypatch.setattr(RoadSigns, "decode", decode)
    text = "road_signs(train=10, validation=0, test=0)"
    first = data.load(text, cache_dir=tmp_path, validation_examples=1, test_examples=1)
    second = data.load(text, cache_dir=tmp_path, validation_examples=1, test_examples=1)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    assert len(drawn) == 1
    code = tmp_path / "other.py"
    code.write_text("")
    monkeypatch.setattr(RoadSigns, "files", lambda self: [code])
    data.load(text, cache_dir=tmp_path, validation_examples=1, test_examples=1)
    assert len(drawn) == 2
