import io

import numpy as np
import pytest
from PIL import Image

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import (
    interpolation_grid,
    neighbour_grid,
    sample_grid,
    to_png,
)
from robust_manifold.reporting.figures import grids


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def pixels_of(figure):
    return np.asarray(Image.open(io.BytesIO(to_png(figure))).convert("RGB")) / 255


def apart(figure):
    """Whether nothing leaves the sheet or covers another text or image."""
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    (axes,) = figure.axes
    shown = [text for text in axes.texts if text.get_text()]
    boxes = [artist.get_window_extent() for artist in [*shown, *axes.images]]
    for place, box in enumerate(boxes):
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height:
            return False
        for other in boxes[place + 1 :]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            if overlap_x > 0.5 and overlap_y > 0.5:
                return False
    return True


FACES = np.random.default_rng(1).random((6, 64, 64, 3)).astype(np.float32)


def test_the_grid_is_one_image_with_every_sample(digits):
    figure = sample_grid(digits, columns=3, title="Samples")
    (axes,) = figure.axes
    (sheet,) = axes.images
    pixels = np.asarray(sheet.get_array())
    assert pixels.shape == (3 * 28 + 2, 3 * 28 + 2, 3)
    np.testing.assert_allclose(pixels[29:57, 29:57, 0], digits[4, :, :, 0])
    assert (pixels[58:, 58:] == 1).all()  # the ninth place is white
    assert texts_of(figure) == ["Samples"]


def test_samples_are_drawn_to_the_pixel(digits):
    pixels = pixels_of(sample_grid(digits, columns=4))
    scale = round(grids._GRID_SIZE / (4 * 29 - 1))
    drawn = pixels[14 : 14 + 28 * scale, 14 : 14 + 28 * scale, 0]
    enlarged = np.kron(digits[0, :, :, 0], np.ones((scale, scale)))
    assert np.abs(drawn - enlarged).max() <= 1.01 / 255


def test_rows_of_an_interpolation_keep_their_order(digits):
    walks = digits.reshape(2, 4, 28, 28, 1)
    figure = interpolation_grid(walks, title="From latent to latent")
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert pixels.shape == (2 * 29 - 1, 4 * 29 - 1, 3)
    np.testing.assert_allclose(pixels[29:, 87:, 1], walks[1, 3, :, :, 0])
    shown = [text for text in texts_of(figure) if text]
    assert shown == ["From latent to latent", "G(z)", "G(z′)"]
    assert apart(figure)


@pytest.mark.parametrize("columns", [2, 3, 10])
@pytest.mark.parametrize("ends", [("G(z)", "G(z′)"), ("a rather long end", "b")])
def test_ends_stand_above_the_first_and_the_last_column(columns, ends):
    walks = np.zeros((1, columns, 28, 28, 1), np.float32)
    figure = interpolation_grid(walks, ends=ends)
    assert apart(figure)
    (axes,) = figure.axes
    left, right, top, _ = axes.images[0].get_extent()
    first, last = (text for text in axes.texts if text.get_text())
    width = (right - left) * 28 / (columns * 29 - 1)
    assert first.get_position()[0] == pytest.approx(left + width / 2, abs=1)
    assert last.get_position()[0] == pytest.approx(right - width / 2, abs=1)


def test_each_sample_stands_above_its_neighbour():
    distances = np.array([0.0, 1.234, 20.5, 3, 4, 5])
    figure = neighbour_grid(FACES, FACES[::-1].copy(), distances, columns=4)
    (axes,) = figure.axes
    assert len(axes.images) == 12 and apart(figure)
    for place in range(6):
        sample, neighbour = axes.images[2 * place : 2 * place + 2]
        np.testing.assert_allclose(np.asarray(sample.get_array()), FACES[place])
        np.testing.assert_allclose(np.asarray(neighbour.get_array()), FACES[5 - place])
        (left, right, bottom, top), below = sample.get_extent(), neighbour.get_extent()
        assert (left, right) == tuple(below[:2]) and below[3] > bottom > top
        # Two screen pixels a pixel of the image, to the pixel.
        assert right - left == bottom - top == 128
    texts = texts_of(figure)
    assert [text for text in texts if text[0].isdigit()] == [
        *("0.00", "1.23", "20.50", "3.00", "4.00", "5.00")
    ]
    assert texts.count("sample") == texts.count("nearest") == 2


@pytest.mark.parametrize("side", [1, 8, 28, 200])
def test_images_of_any_size_fit_their_columns(side):
    images = np.zeros((3, side, side, 1), np.float32)
    assert apart(neighbour_grid(images, images, np.array([1e4, 0, 1]), title="Title"))


@pytest.mark.parametrize(
    ("draw", "named"),
    [
        (lambda x: sample_grid(x, columns=0), "columns is 0"),
        (lambda x: sample_grid(2 * x), "images have pixels in"),
        (lambda x: interpolation_grid(x[:, None]), "1 columns; allowed: 2 or more"),
        (lambda x: interpolation_grid(x[None, :0]), "1 or more images"),
        (lambda x: neighbour_grid(x, x, np.zeros(6), columns=0), "columns is 0"),
        (lambda x: neighbour_grid(x, x - 1, np.zeros(6)), "neighbours have pixels in"),
    ],
)
def test_grids_that_cannot_be_drawn_are_refused(draw, named):
    with pytest.raises(UsageError, match=named):
        draw(FACES)


def test_equal_grids_give_equal_bytes():
    def draw():
        return [
            to_png(interpolation_grid(FACES.reshape(2, 3, 64, 64, 3))),
            to_png(neighbour_grid(FACES, FACES, np.zeros(6))),
        ]

    assert draw() == draw()
