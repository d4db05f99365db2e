import io

import numpy as np
import pytest
from PIL import Image

from robust_manifold.core.errors import UsageError
from robust_manifold.one_dimensional import (
    ConvergenceFrame,
    convergence_animation,
    convergence_figure,
)
from robust_manifold.reporting import to_png

GRID = np.linspace(-4, 8, 121)
LATENTS = np.linspace(-1, 1, 9)


def normal(mean, deviation):
    scaled = (GRID - mean) / deviation
    return np.exp(-(scaled**2) / 2) / (deviation * np.sqrt(2 * np.pi))


def frame(step, mean=2.0, deviation=1.0):
    data, generator = normal(2, 1), normal(mean, deviation)
    return ConvergenceFrame(
        step=step,
        z=LATENTS,
        x_of_z=mean + deviation * LATENTS,
        grid=GRID,
        data_density=data,
        generator_density=generator,
        discriminator=data / (data + generator),
    )


START, END = frame(0, mean=-1, deviation=0.5), frame(3000)


def panels(figure):
    """Axes of each panel: curves, discriminator, arrows."""
    axes = figure.axes
    return list(zip(axes[0::3], axes[1::3], axes[2::3], strict=True))


def test_curves_are_drawn_as_in_the_paper():
    curves, shares, _ = panels(convergence_figure([START]))[0]
    data, generator = curves.lines
    discriminator = shares.lines[-1]
    for line, values, colour, dashes in [
        (data, START.data_density, "#24292f", ":"),
        (generator, START.generator_density, "#00875f", "-"),
        (discriminator, START.discriminator, "#0072b2", "--"),
    ]:
        np.testing.assert_array_equal(line.get_xdata(), GRID)
        np.testing.assert_array_equal(line.get_ydata(), values)
        assert (line.get_color(), line.get_linestyle()) == (colour, dashes)


def test_arrows_lead_from_equal_steps_of_z_to_x():
    _, _, mapping = panels(convergence_figure([START]))[0]
    arrows = [patch._posA_posB for patch in mapping.patches]
    starts, ends = (np.array(points) for points in zip(*arrows, strict=True))
    np.testing.assert_array_equal(ends[:, 0], START.x_of_z)
    np.testing.assert_allclose(np.diff(starts[:, 0]), np.diff(starts[:2, 0])[0])
    assert (starts[:, 1] == 0).all() and (ends[:, 1] == 1).all()
    # The line of x lies below the curves at their scale.
    assert mapping.get_xlim() == (-4, 8)


def test_panels_share_their_scales_and_are_called_after_their_steps():
    figure = convergence_figure([START, frame(100), END], columns=2)
    shown = panels(figure)
    assert [p[0].get_title(loc="left") for p in shown] == [
        "step 0",
        "step 100",
        "step 3,000",
    ]
    for curves, shares, mapping in shown:
        assert curves.get_xlim() == mapping.get_xlim() == (-4, 8)
        assert curves.get_ylim() == shown[0][0].get_ylim()
        assert shares.get_ylim()[0] == 0 and shares.get_ylim()[1] > 1
    rows = {round(p[0].get_position().y0, 6) for p in shown}
    assert len(rows) == 2


def test_a_spike_of_the_generator_does_not_hide_the_data():
    spike = frame(0, deviation=0.01)
    curves, _, _ = panels(convergence_figure([spike]))[0]
    highest = spike.data_density.max()
    assert curves.get_ylim()[1] == pytest.approx(2 * highest)
    (legend,) = convergence_figure([spike]).legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["data", "generator", "discriminator"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_no_text_leaves_the_figure(count):
    figure = convergence_figure([START] * count)
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height


FRAMES = [frame(100 * i, mean=-1 + i / 2) for i in range(7)]


def test_the_animation_shows_every_frame_and_rests_on_the_last():
    with Image.open(io.BytesIO(convergence_animation(FRAMES))) as animation:
        assert animation.format == "GIF" and animation.n_frames == 7
        assert animation.info["loop"] == 0
        durations, pictures = [], []
        for place in range(7):
            animation.seek(place)
            durations.append(animation.info["duration"])
            pictures.append(np.asarray(animation.convert("RGB"), int))
    assert durations == [80] * 6 + [2000]
    for before, after in zip(pictures, pictures[1:], strict=False):
        assert (before != after).any()
    for picture in pictures:
        assert (picture[0, 0] == 255).all()


def test_a_frame_of_the_animation_is_that_frame_alone():
    # Nothing of an earlier frame is left behind.
    alone = Image.open(io.BytesIO(convergence_animation([END])))
    last = Image.open(io.BytesIO(convergence_animation([*FRAMES[:3], END])))
    last.seek(3)
    difference = np.abs(
        np.asarray(alone.convert("L"), int) - np.asarray(last.convert("L"), int)
    )
    # But for the scale of the densities and what two palettes make of a colour.
    assert (difference > 40).mean() < 0.01


def test_equal_frames_give_equal_bytes():
    assert convergence_animation(FRAMES) == convergence_animation(FRAMES)
    assert to_png(convergence_figure(FRAMES[:2])) == to_png(
        convergence_figure(FRAMES[:2])
    )


@pytest.mark.parametrize("draw", [convergence_figure, convergence_animation])
@pytest.mark.parametrize(
    ("frames", "named"),
    [
        ([], "frames are empty"),
        ([START._replace(z=LATENTS[:1], x_of_z=LATENTS[:1])], "1 latents"),
        ([START, END._replace(x_of_z=np.full(9, np.nan))], "x_of_z of step 3000"),
        ([START._replace(data_density=0 * GRID)], "data_density is 0"),
    ],
)
def test_frames_that_cannot_be_drawn_are_refused(draw, frames, named):
    with pytest.raises(UsageError, match=named):
        draw(frames)


def test_impossible_settings_are_refused():
    with pytest.raises(UsageError, match="columns is 0"):
        convergence_figure([START], columns=0)
    for rate in (0.0, 60.0):
        with pytest.raises(UsageError, match="frames_per_second"):
            convergence_animation([START], frames_per_second=rate)
