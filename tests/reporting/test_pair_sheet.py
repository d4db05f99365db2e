"""Sheets of pairs, by what is drawn on them."""

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import ShownPair, pair_sheet, to_png

NAMES = ("cat", "dog", "a bird with a name that is far too long for its image")


def pairs(n, channels=1, **changes):
    random = np.random.default_rng(0)
    probabilities = np.array([[0.75, 0.25, 0.0], [0.1, 0.9, 0.0]])
    return [
        ShownPair(
            random.random((2, 8, 10, channels)), probabilities, 1.4999, "unchanged"
        )._replace(**changes)
        for _ in range(n)
    ]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("channels", [1, 3])
def test_both_images_with_what_is_said_of_them(channels):
    given = pairs(3, channels)
    figure = pair_sheet(given, class_names=NAMES, columns=2, title="Pairs")
    drawn = [np.asarray(image.get_array()) for image in figure.axes[0].images]
    assert len(drawn) == 6
    for place, image in enumerate(np.concatenate([pair.images for pair in given])):
        np.testing.assert_allclose(drawn[place], np.broadcast_to(image, (8, 10, 3)))
    said = texts(figure)
    for text in ("cat  75 %", "dog  90 %", "distance 1.5", "unchanged"):
        assert said.count(text) == 3, said
    assert "Pairs" in said
    again = pair_sheet(given, class_names=NAMES, columns=2, title="Pairs")
    assert to_png(figure) == to_png(again)


def test_a_long_name_is_cut():
    [pair] = pairs(1, probabilities=np.array([[0, 0, 1.0], [0, 0, 1.0]]))
    said = texts(pair_sheet([pair], class_names=NAMES))
    assert sum("…" in text and text.endswith("100 %") for text in said) == 2


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(UsageError, match="there are 0 pairs"):
        pair_sheet([], class_names=NAMES)
    odd = pairs(1)[0]._replace(images=np.zeros((2, 3, 3, 1)))
    with pytest.raises(UsageError, match="images of pair 1 have the shape"):
        pair_sheet([*pairs(1), odd], class_names=NAMES)
    with pytest.raises(UsageError, match="probabilities of pair 0"):
        pair_sheet(pairs(1), class_names=NAMES[:2])
