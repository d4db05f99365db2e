"""Horizontal bars: their lengths, their order, and what is written at their ends."""

import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures import to_png, yield_bars

YIELDS = {"first": {"small": 3, "large": 1}, "second": {"large": 2}, "third": {}}


def test_each_name_has_a_bar_of_its_parts_the_first_on_top():
    figure = yield_bars(YIELDS, {"first": "4 of 9"}, axis="images")
    (axes,) = figure.axes
    ends: dict[float, float] = {}
    for bar in axes.patches:
        place = bar.get_y() + bar.get_height() / 2
        ends[round(place)] = max(
            ends.get(round(place), 0), bar.get_x() + bar.get_width()
        )
    assert ends == {0: 4, 1: 2, 2: 0}
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["first", "second", "third"]
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert "4 of 9" in [text.get_text() for text in axes.texts]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["small", "large"]
    assert to_png(figure) == to_png(
        yield_bars(YIELDS, {"first": "4 of 9"}, axis="images")
    )


def test_no_bar_is_refused():
    with pytest.raises(UsageError, match="0 names; allowed: 1 or more"):
        yield_bars({}, {}, axis="images")
