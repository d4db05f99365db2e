import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold import data
from robust_manifold.core.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (218, 178, 3), np.uint8)


@pytest.fixture
def faces_folder(tmp_path):
    (tmp_path / "faces" / "face").mkdir(parents=True)
    pil.fromarray(PIXELS).save(tmp_path / "faces" / "face" / "0.png")
    return f"folder:{tmp_path / 'faces'}"


@pytest.mark.parametrize(
    "crop, rows, columns",
    [
        ("defense_gan", slice(55, 163), slice(35, 143)),
        ("robust_manifold", slice(20, 198), slice(0, 178)),
        ("140", slice(39, 179), slice(19, 159)),
        (140, slice(39, 179), slice(19, 159)),
        ("", slice(None), slice(None)),
        (None, slice(None), slice(None)),
    ],
)
def test_crops_are_central(faces_folder, crop, rows, columns):
    (image,) = data.load(faces_folder, crop=crop).train.images
    np.testing.assert_array_equal(image, PIXELS[rows, columns])


@pytest.mark.parametrize("crop", ["defence_gan", "0", "-3", "1.5", "٣"])
def test_other_crops_are_refused(faces_folder, crop):
    with pytest.raises(UsageError) as error:
        data.load(faces_folder, crop=crop)
    says = f"Unknown crop {crop!r}; known: a side in pixels such as 140, defense_gan"
    assert str(error.value).startswith(says)


def test_small_images_lack_room_for_a_named_crop(faces_folder):
    with pytest.raises(UsageError, match="has 100x100 pixels; .* the crop, 108x108"):
        path = faces_folder.removeprefix("folder:") + "/face/0.png"
        pil.fromarray(PIXELS[:100, :100]).save(path)
        data.load(faces_folder, crop="defense_gan")


def test_classes_can_be_renamed(image_folder):
    source = f"folder:{image_folder}"
    own = data.load(source)
    renamed = data.load(source, class_names=("woman", "man"))
    assert own.class_names == ("cat", "dog")
    assert renamed.class_names == ("woman", "man")
    np.testing.assert_array_equal(renamed.train.labels, own.train.labels)


@pytest.mark.parametrize(
    "names", [("man",), ("a", "b", "c"), ("man", "man"), ("", "man")]
)
def test_other_numbers_of_names_are_refused(image_folder, names):
    with pytest.raises(UsageError) as error:
        data.load(f"folder:{image_folder}", class_names=names)
    message = str(error.value)
    assert message.startswith(f"class_names is {names!r}; allowed: 2 different names")
    assert "for the classes cat, dog of 'folder:" in message
