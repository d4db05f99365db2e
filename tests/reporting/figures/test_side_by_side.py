"""Sheets of images beside their projections, by what is drawn on them."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import ProjectedImage, side_by_side, to_png


def images(n, channels=1, **changes):
    random = np.random.default_rng(0)
    return [
        ProjectedImage(
            f"image-{place}.png",
            random.random((8, 10, channels)),
            random.random((8, 10, channels)),
            0.125,
        )._replace(**changes)
        for place in range(n)
    ]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_names_that_the_font_lacks_are_escaped():
    # A warning of matplotlib would be an error here.
    names = ("日本.png", "二.png", "日\n本\t.png")
    given = [image._replace(name=n) for image, n in zip(images(3), names, strict=True)]
    figure = side_by_side(given, columns=3, title="日本")
    assert to_png(figure)
    written = texts(figure)
    assert r"\u65e5\u672c" in written and r"\u4e8c.png" in written


def drawn(figure):
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


@pytest.mark.parametrize("channels", [1, 3])
def test_three_pictures_of_each_image(channels):
    given = images(3, channels)
    figure = side_by_side(given, columns=2, title="Digits")
    pictures = drawn(figure)
    assert len(pictures) == 9
    for place, image in enumerate(given):
        original, projection, difference = pictures[3 * place : 3 * place + 3]
        np.testing.assert_allclose(
            original, np.broadcast_to(image.original, (8, 10, 3))
        )
        np.testing.assert_allclose(difference, np.abs(projection - original))
    assert texts(figure).count("0.1250") == 3 and "Digits" in texts(figure)
    # The names of the rows stand beside both rows of images.
    assert texts(figure).count("projection") == 2
    assert to_png(figure) == to_png(side_by_side(given, columns=2, title="Digits"))


def test_a_rejected_image_is_marked():
    given = images(2)
    given[1] = given[1]._replace(rejected=True)
    figure = side_by_side(given)
    assert texts(figure).count("✗ rejected 0.1250") == 1
    assert len(figure.axes[0].patches) == 1
    assert not side_by_side(images(2)).axes[0].patches


def test_of_a_long_name_the_end_is_written():
    figure = side_by_side(images(1, name="folder/" * 20 + "digit.png"))
    [name] = [text for text in texts(figure) if "…" in text]
    assert name.startswith("…") and name.endswith("digit.png")


def test_nothing_and_other_shapes_are_refused():
    with pytest.raises(UsageError, match="there are 0 images"):
        side_by_side([])
    odd = images(1)[0]._replace(name="odd", projection=np.zeros((3, 3, 1)))
    with pytest.raises(UsageError, match="odd has the shape"):
        side_by_side([*images(1), odd])
