import matplotlib
import numpy as np
import pytest
from matplotlib._pylab_helpers import Gcf

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import (
    SheetGroup,
    SheetRow,
    projection_sheet,
    sample_grid,
    to_png,
)
from robust_manifold.reporting.figures.canvas import RIGHT, WRONG

LABELS = np.arange(8, dtype=np.int32)
DIGITS = [str(digit) for digit in range(10)]


def sure_of(classes, confidence=0.9):
    probabilities = np.full((len(classes), 10), (1 - confidence) / 9)
    probabilities[np.arange(len(classes)), classes] = confidence
    return probabilities


def group_of(images, title="FGSM ε=0.2"):
    wrong = (LABELS + 1) % 10
    return SheetGroup(
        title,
        LABELS,
        (
            SheetRow("original", images, sure_of(LABELS)),
            SheetRow("adversarial", images, sure_of(wrong)),
            SheetRow("projection", images, sure_of(LABELS, 0.5)),
        ),
    )


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_sheet_holds_every_image_and_verdict(digits):
    figure = projection_sheet(
        [group_of(digits), group_of(digits, "PGD ℓ2 ε=1.5")], class_names=DIGITS
    )
    (axes,) = figure.axes
    assert len(axes.images) == 2 * 3 * 8
    texts = texts_of(figure)
    assert texts.count("true class") == 2
    assert texts.count("✓ 3  90 %") == 2
    assert texts.count("✗ 4  90 %") == 2
    assert texts.count("✓ 3  50 %") == 2
    for wanted in ("FGSM ε=0.2", "PGD ℓ2 ε=1.5", "original", "projection"):
        assert wanted in texts
    for text in axes.texts:
        if text.get_text()[0] in "✓✗":
            right = text.get_text()[0] == "✓"
            assert text.get_color() == (RIGHT if right else WRONG)


@pytest.mark.parametrize("columns", [1, 3, 8])
@pytest.mark.parametrize(
    "names", [DIGITS, [f"a very long class name {i}" for i in DIGITS]]
)
@pytest.mark.parametrize("title", ["PGD ℓ2 ε=1.5, 40 steps, 5 restarts", ""])
def test_no_text_leaves_the_sheet_or_meets_another(digits, columns, names, title):
    rows = [
        row._replace(
            images=row.images[:columns], probabilities=row.probabilities[:columns]
        )
        for row in group_of(digits).rows
    ]
    figure = projection_sheet(
        [SheetGroup(title, LABELS[:columns], rows)], class_names=names
    )
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    boxes += [image.get_window_extent() for image in figure.axes[0].images]
    for place, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        for other in boxes[place + 1 :]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert overlap_x <= 0.5 or overlap_y <= 0.5


def test_long_class_names_take_two_lines_and_an_ellipsis(digits):
    names = ["Trouser", "an unusually long name", *DIGITS[2:]]
    texts = texts_of(projection_sheet([group_of(digits)], class_names=names))
    assert "✓ Trouser" in texts and texts.count("90 %") == 16
    shortened = [text for text in texts if text.startswith("✓ an unus")]
    assert shortened and shortened[0].endswith("…")


def test_colour_images_and_rows_without_verdicts():
    faces = np.random.default_rng(1).random((2, 64, 64, 3)).astype(np.float32)
    rows = [SheetRow("face", faces), SheetRow("again", faces, np.full((2, 2), 0.5))]
    figure = projection_sheet(
        [SheetGroup("Faces", np.array([0, 1]), rows)], class_names=["woman", "man"]
    )
    images = figure.axes[0].images
    assert len(images) == 4
    np.testing.assert_allclose(np.asarray(images[1].get_array()), faces[1])
    assert len([text for text in texts_of(figure) if text[0] in "✓✗"]) == 2


def test_two_classes_are_written_as_probabilities(digits):
    probabilities = np.array([[0.02, 0.98], [0.7, 0.3]])
    row = SheetRow("face", digits[:2], probabilities)
    group = SheetGroup("Faces", np.array([1, 1]), [row])
    figure = projection_sheet([group], class_names=["woman", "man"])
    verdicts = [text for text in figure.axes[0].texts if text.get_text()[0] in "✓✗"]
    written = [" ".join(text.get_text().split()) for text in verdicts]
    below = [text for text in texts_of(figure) if text[0] == "0"]
    if below:  # on a line of their own
        written = [f"{a} {b}" for a, b in zip(written, below, strict=True)]
    assert written == ["✓ P(man) 0.98", "✗ P(woman) 0.70"]
    assert [text.get_color() for text in verdicts] == [RIGHT, WRONG]


def test_a_group_without_a_title_needs_less_room(digits):
    titled, bare = (
        projection_sheet([group_of(digits, title)], class_names=DIGITS)
        for title in ("FGSM", "")
    )
    heights = [figure.get_size_inches()[1] for figure in (titled, bare)]
    assert heights[0] - heights[1] > 0.2
    assert "" not in texts_of(bare) and len(texts_of(bare)) == len(texts_of(titled)) - 1


def test_class_names_are_no_formulas(digits):
    names = ["$x$", r"$\frac{$", *DIGITS[2:]]
    figure = projection_sheet([group_of(digits)], class_names=names)
    assert "$x$" in texts_of(figure)
    assert to_png(figure)


def test_what_is_not_a_number_is_gray_and_rounding_is_forgiven(digits):
    digits[0] = np.nan
    digits[1, 0, 0, 0] = 1 + 1e-6
    figure = sample_grid(digits, columns=8)
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert (pixels[:, :28] == 0.5).all() and pixels.max() == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: x * 255, r"pixels in \[.*, 2.*\]; allowed: \[0, 1\]"),
        (lambda x: x - 0.5, "pixels in"),
        (lambda x: x[:0], "1 or more images"),
        (lambda x: np.repeat(x, 2, axis=-1), "1 or 3 channels"),
    ],
)
def test_images_that_cannot_be_drawn_are_refused(digits, change, named):
    with pytest.raises(UsageError, match=named):
        sample_grid(change(digits))


def test_groups_that_do_not_fit_are_refused(digits):
    good = group_of(digits)
    short = SheetGroup("odd", LABELS, [SheetRow("original", digits[:3])])
    fewer = SheetGroup("odd", LABELS[:3], [SheetRow("original", digits[:3])])
    classes = SheetGroup(
        "odd", LABELS, [SheetRow("original", digits, np.full((8, 3), 1 / 3))]
    )
    for groups, named in [
        ([], "groups are empty"),
        ([SheetGroup("odd", LABELS, [])], "groups are empty"),
        ([good, short], "original of 'odd'"),
        ([good, fewer], "3 labels"),
        ([classes], "probabilities of original"),
    ]:
        with pytest.raises(UsageError, match=named):
            projection_sheet(groups, class_names=DIGITS)


def test_equal_figures_give_equal_bytes_whatever_the_user_set(digits):
    first = to_png(projection_sheet([group_of(digits)], class_names=DIGITS))
    with matplotlib.rc_context({"font.size": 30, "savefig.dpi": 20}):
        second = to_png(projection_sheet([group_of(digits)], class_names=DIGITS))
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second
    assert b"Software" not in first and b"Date" not in first
    assert to_png(sample_grid(digits)) != to_png(sample_grid(digits[::-1]))


def test_no_window_stays_open(digits):
    before = dict(matplotlib.rcParams)
    to_png(sample_grid(digits))
    assert not Gcf.figs
    assert dict(matplotlib.rcParams) == before
