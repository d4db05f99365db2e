"""Attacked images from a file: what is read, and every way in which it is refused."""

import pathlib

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.data import AttackedImages, attacked_registry

SHAPE, CLASSES = (4, 5, 1), 3


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    originals = rng.integers(0, 256, (6, 4, 5), np.uint8)
    images = rng.uniform(0, 1, (6, 4, 5, 1)).astype(np.float32)
    return {"images": images, "originals": originals, "labels": np.arange(6) % 3}


def written(folder, arrays):
    np.savez(folder / "them.npz", **arrays)
    return str(folder / "them.npz")


def encrypted(path, arrays):
    """Returns the bytes of an archive that says of each entry that it is encrypted."""
    np.savez(path, **{**arrays, "originals": arrays["images"]})
    data = bytearray(pathlib.Path(path).read_bytes())
    for sign, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = data.find(sign)
        while place >= 0:
            data[place + flags] |= 1
            place = data.find(sign, place + 4)
    return bytes(data)


def test_floats_are_kept_to_the_last_bit_and_bytes_become_shares_of_255(
    arrays, tmp_path
):
    spec = AttackedImages(written(tmp_path, arrays))
    found = spec.read(SHAPE, CLASSES)
    np.testing.assert_array_equal(found.images, arrays["images"])
    expected = arrays["originals"][..., None] / 255
    np.testing.assert_allclose(found.originals, expected, rtol=1e-6)
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert spec.name == "them"


def test_a_file_may_call_its_arrays_otherwise(arrays, tmp_path):
    theirs = {"adversarial": arrays["images"], "original": arrays["originals"]}
    path = written(tmp_path, theirs | {"label": arrays["labels"]})
    text = (
        f"attacked_images(file={path!r}, images='adversarial', originals='original', "
        "labels='label')"
    )
    found = attacked_registry.build(text).read(SHAPE, CLASSES)
    np.testing.assert_array_equal(found.images, arrays["images"])


def test_the_checksum_tells_one_changed_pixel(arrays, tmp_path):
    spec = AttackedImages(written(tmp_path, arrays))
    first = spec.read(SHAPE, CLASSES).checksum
    assert spec.read(SHAPE, CLASSES).checksum == first
    arrays["originals"][0, 0, 0] ^= 1
    written(tmp_path, arrays)
    assert spec.read(SHAPE, CLASSES).checksum != first


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"labels": np.arange(6)},
            "array 'labels': labels lie in .0, 5.; allowed: 0 t",
        ),
        ({"labels": np.arange(5)}, "allowed: 6 whole numbers"),
        (
            {"originals": np.zeros((5, 4, 5))},
            "5 images; allowed: 6, one for each of 'images'",
        ),
        ({"images": np.zeros((6, 5, 4))}, "are 5 x 4 x 1; allowed: 4 x 5 x 1"),
        ({"images": np.full((6, 4, 5), 1.5)}, "array 'images': .* from 1.5 to 1.5"),
        ({"originals": np.full((6, 4, 5), np.nan)}, "array 'originals': .* nan to nan"),
        ({"originals": np.zeros((0, 4, 5))}, "'originals': .*without an empty axis"),
        ({"images": np.zeros((4, 5))}, "has the shape .4, 5.; allowed: .n, height"),
        ({"images": np.zeros((6, 4, 5), int)}, "type int64; allowed: uint8, or floats"),
        ({"images": np.array([object()])}, "holds pickled objects"),
        (
            {"images": np.zeros((6, 1, 4, 5), np.float32)},
            r"array 'images': .*transpose\(0, 2, 3, 1\)",
        ),
        ({"originals": np.ones((6, 4, 5), np.uint8)}, "no pixel above 1, where white"),
        ({"images": np.full((6, 4, 5), 0.003)}, "no pixel above 0.003, where white"),
    ],
)
def test_arrays_that_do_not_belong_are_refused(changes, told, arrays, tmp_path):
    path = written(tmp_path, arrays | changes)
    with pytest.raises(UsageError, match=told):
        AttackedImages(path).read(SHAPE, CLASSES)


def test_files_that_are_none_are_refused(arrays, tmp_path):
    with pytest.raises(UsageError, match="'missing.npz' is not there"):
        AttackedImages("missing.npz").read(SHAPE, CLASSES)
    del arrays["originals"]
    path = written(tmp_path, arrays)
    with pytest.raises(UsageError, match="lacks the array 'originals'.*images, labels"):
        AttackedImages(path).read(SHAPE, CLASSES)
    (tmp_path / "them.npz").write_bytes(b"PK\5\6" + bytes(18))
    with pytest.raises(UsageError, match="lacks the array 'images'.*it holds: nothing"):
        AttackedImages(path).read(SHAPE, CLASSES)
    for content in (b"nothing", b"", encrypted(path, arrays)):
        (tmp_path / "them.npz").write_bytes(content)
        with pytest.raises(UsageError, match=r"no \.npz file|is encrypted"):
            AttackedImages(path).read(SHAPE, CLASSES)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"no \.npz file|is encrypted"):
        AttackedImages(str(tmp_path / "one.npy")).read(SHAPE, CLASSES)
    with pytest.raises(UsageError, match="file is ''; allowed: the path"):
        AttackedImages("")
