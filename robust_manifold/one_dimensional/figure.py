"""The convergence of adversarial training in one dimension, as figure and animation.

The picture is that of Goodfellow et al., "Generative Adversarial Nets" (2014),
figure 1: the density of the data dotted in black, that of the generator solid in
green, the discriminator dashed in blue, and below them how the generator carries
latents z up to x = G(z).
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator
from PIL import Image

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.figures.canvas import (
    FAINT,
    FAINT_TEXT,
    INK,
    new_figure,
    styled,
)

_BLUE = "#0072b2"
_GREEN = "#00875f"
_STYLES: Mapping[str, dict[str, Any]] = {
    "data": {"color": INK, "linestyle": ":", "linewidth": 2.2},
    "generator": {"color": _GREEN, "linestyle": "-", "linewidth": 2.0},
    "discriminator": {"color": _BLUE, "linestyle": "--", "linewidth": 1.7},
}

_HEADROOM = 1.25
"""Height of the axis over the data's highest density."""

_HIGHEST = 2.0
"""The same where a generator's density is higher; what is above is cut off."""

# Inches beside the panels, above each and below all of them.
_SIDE, _HEAD, _FOOT = 0.75, 0.5, 0.52

_HOLD = 2.0
"""Seconds for which an animation shows its last frame."""

_COLOURS = 48


class ConvergenceFrame(NamedTuple):
    """One moment of a training in one dimension.

    Attributes:
      step: generator steps taken so far.
      z: latents that arrows start from, equally spaced and ascending.
      x_of_z: G(z) of each.
      grid: places x at which the curves are known, ascending.
      data_density: density of the data at each place of the grid.
      generator_density: density of the generator there.
      discriminator: D(x) there, a probability.
    """

    step: int
    z: Float[np.ndarray, " arrows"]
    x_of_z: Float[np.ndarray, " arrows"]
    grid: Float[np.ndarray, " places"]
    data_density: Float[np.ndarray, " places"]
    generator_density: Float[np.ndarray, " places"]
    discriminator: Float[np.ndarray, " places"]


class _Ranges(NamedTuple):
    """What all panels of a picture share, so that they can be compared."""

    x: tuple[float, float]
    z: tuple[float, float]
    density: float


@styled
def convergence_figure(
    frames: Sequence[ConvergenceFrame], *, columns: int = 4
) -> Figure:
    """Returns the moments as panels side by side, in the order given.

    Args:
      frames: moments of one training; start, some between and end are a good choice.
      columns: panels in a row.

    Raises:
      UsageError: if there is no frame, or one holds what cannot be drawn.
    """
    ranges = _check(frames)
    if columns < 1:
        raise UsageError(f"columns is {columns}; allowed: 1 or more.")
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    # A lone panel gets more room than one of several.
    width = 2.75 if columns > 1 else 4.6
    height = 3.0 if columns > 1 else 3.6
    size = (columns * width + 2 * _SIDE, rows * height + _FOOT)
    figure = new_figure(*size)
    for place, frame in enumerate(frames):
        row, column = divmod(place, columns)
        box = (
            (_SIDE + column * width + 0.1) / size[0],
            (_FOOT + (rows - 1 - row) * height + 0.1) / size[1],
            (width - 0.2) / size[0],
            (height - _HEAD) / size[1],
        )
        panel = _Panel(figure, box, ranges, frame)
        last = column == columns - 1 or place == len(frames) - 1
        panel.label_sides(left=column == 0, right=last)
    _legend(figure, size)
    return figure


@styled
def convergence_animation(
    frames: Sequence[ConvergenceFrame], *, frames_per_second: float = 12.0
) -> bytes:
    """Returns the moments one after another as the bytes of an animated GIF.

    It repeats for ever and rests on the last frame.  Equal frames give equal bytes.

    Args:
      frames: moments of one training, in the order of their steps.
      frames_per_second: how fast they follow each other, at most 50.

    Raises:
      UsageError: if there is no frame, or one holds what cannot be drawn.
    """
    ranges = _check(frames)
    if not 0 < frames_per_second <= 50:
        raise UsageError(
            f"frames_per_second is {frames_per_second:g}; allowed: above 0, at most 50."
        )
    size = (5.6, 4.2)
    figure = new_figure(*size)
    canvas = FigureCanvasAgg(figure)
    box = (
        _SIDE / size[0],
        (_FOOT + 0.1) / size[1],
        1 - 2 * _SIDE / size[0],
        1 - (_FOOT + _HEAD) / size[1],
    )
    panel = _Panel(figure, box, ranges, frames[0])
    panel.label_sides(left=True, right=True)
    _legend(figure, size)
    images = []
    for frame in frames:
        panel.show(frame)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[:, :, :3]
        images.append(Image.fromarray(np.ascontiguousarray(pixels)))
    return _gif(images, 1000 / frames_per_second)


class _Panel:
    """One panel: the curves, and below them the lines of x and z with the arrows."""

    def __init__(
        self,
        figure: Figure,
        box: tuple[float, float, float, float],
        ranges: _Ranges,
        frame: ConvergenceFrame,
    ):
        """Draws `frame` into the box (left, bottom, width, height) of the figure."""
        x, y, width, height = box
        low, gap = 0.24 * height, 0.1 * height
        self._ranges = ranges
        self._curves = figure.add_axes((x, y + low + gap, width, height - low - gap))
        self._shares = self._curves.twinx()
        self._map = figure.add_axes((x, y, width, low))
        self._prepare()
        self._data = self._line(self._curves, "data", zorder=4)
        self._generator = self._line(self._curves, "generator", zorder=3)
        self._discriminator = self._line(self._shares, "discriminator", zorder=3)
        self._fill: PolyCollection | None = None
        self._arrows: list[FancyArrowPatch] = []
        self.show(frame)

    def show(self, frame: ConvergenceFrame) -> None:
        """Replaces what the panel shows."""
        self._data.set_data(frame.grid, frame.data_density)
        self._generator.set_data(frame.grid, frame.generator_density)
        self._discriminator.set_data(frame.grid, frame.discriminator)
        if self._fill is not None:
            self._fill.remove()
        self._fill = self._curves.fill_between(
            frame.grid, frame.generator_density, color=_GREEN, alpha=0.1, linewidth=0
        )
        self._curves.set_title(f"step {frame.step:,}", fontsize=10)
        for arrow in self._arrows:
            arrow.remove()
        self._arrows = [
            self._arrow(float(z), float(x))
            for z, x in zip(frame.z, frame.x_of_z, strict=True)
        ]

    def label_sides(self, *, left: bool, right: bool) -> None:
        """Writes what the axes count, at the sides that have nothing beside them."""
        if left:
            self._curves.set_ylabel("density", labelpad=4)
            for name, height in (("x", 1.0), ("z", 0.0)):
                self._map.annotate(
                    name,
                    (0, height),
                    xytext=(-8, 0),
                    xycoords=("axes fraction", "data"),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=11,
                    fontstyle="italic",
                )
        else:
            self._curves.tick_params(labelleft=False, left=False)
        if right:
            self._shares.set_ylabel("D(x)", color=_BLUE, labelpad=8)
        else:
            self._shares.tick_params(labelright=False, right=False)

    def _prepare(self) -> None:
        """Sets limits, ticks and the lines that stay."""
        curves, shares, mapping = self._curves, self._shares, self._map
        curves.set(xlim=self._ranges.x, ylim=(0, self._ranges.density))
        curves.yaxis.set_major_locator(MaxNLocator(4))
        curves.grid(visible=False)
        curves.tick_params(axis="x", bottom=False, labelbottom=False)
        curves.set_zorder(2)
        curves.patch.set_visible(False)
        shares.set_ylim(0, 1.06)  # so that the dashes of D = 1 are seen whole
        shares.grid(visible=False)
        shares.yaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
        shares.yaxis.set_major_formatter(FuncFormatter(_half))
        shares.tick_params(axis="y", labelcolor=_BLUE, right=True)
        shares.spines[["left", "top"]].set_visible(False)
        shares.spines["right"].set(visible=True, color=FAINT)
        shares.axhline(0.5, color=_BLUE, alpha=0.35, linewidth=0.8, zorder=1)
        mapping.set(xlim=self._ranges.x, ylim=(-0.1, 1))
        mapping.set_axis_off()
        for height in (0, 1):
            mapping.axhline(height, color=INK, linewidth=1.2, clip_on=False)
        self._write_ends()

    def _write_ends(self) -> None:
        """Marks round places of x, with their numbers above, and the ends of z."""
        ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(*self._ranges.x)
        marks = [(t, t, 1, 6) for t in ticks if _inside(t, self._ranges.x)]
        marks += [(self._place_of(end), end, 0, -6) for end in self._ranges.z]
        for place, value, height, offset in marks:
            self._map.plot(
                [place],
                [height],
                marker="|",
                color=INK,
                markersize=6,
                markeredgewidth=1,
                clip_on=False,
            )
            self._map.annotate(
                f"{value:g}".replace("-", "−"),
                (place, height),
                xytext=(0, offset),
                textcoords="offset points",
                ha="center",
                va="bottom" if offset > 0 else "top",
                fontsize=8,
                color=FAINT_TEXT,
            )

    def _line(self, axes: Axes, name: str, zorder: int) -> Line2D:
        (line,) = axes.plot([], [], zorder=zorder, **_STYLES[name])
        return line

    def _arrow(self, z: float, x: float) -> FancyArrowPatch:
        """Returns the arrow from z on the lower line to x on the upper one."""
        arrow = FancyArrowPatch(
            (self._place_of(z), 0.0),
            (x, 1.0),
            arrowstyle="-|>,head_length=2.6,head_width=1.4",
            color=FAINT_TEXT,
            linewidth=0.8,
            shrinkA=0,
            shrinkB=0,
            # Those that lead out of the picture are cut off at its edge.
            clip_on=True,
        )
        self._map.add_patch(arrow)
        return arrow

    def _place_of(self, z: float) -> float:
        """Returns where z stands on its line, which is drawn as long as that of x."""
        (low, high), (left, right) = self._ranges.z, self._ranges.x
        margin = 0.06 * (right - left)
        share = (z - low) / (high - low) if high > low else 0.5
        return left + margin + share * (right - left - 2 * margin)


def _legend(figure: Figure, size: tuple[float, float]) -> None:
    """Explains the three curves in one line at the foot."""
    figure.legend(
        [Line2D([], [], **style) for style in _STYLES.values()],
        _STYLES.keys(),
        loc="lower center",
        bbox_to_anchor=(0.5, 0.02 / size[1]),
        ncols=3,
        handlelength=2.4,
        columnspacing=1.6,
        fontsize=9.5,
    )


def _check(frames: Sequence[ConvergenceFrame]) -> _Ranges:
    """Returns the ranges that all frames share."""
    if not frames:
        raise UsageError("frames are empty; allowed: 1 or more.")
    for frame in frames:
        if len(frame.grid) < 2 or len(frame.z) < 2:
            raise UsageError(
                f"the frame of step {frame.step} has {len(frame.grid)} places and "
                f"{len(frame.z)} latents; allowed: 2 or more of each."
            )
        for name, values in frame._asdict().items():
            if not np.isfinite(values).all():
                raise UsageError(
                    f"{name} of step {frame.step} is not finite; allowed: numbers."
                )
    highest = max(float(np.max(frame.data_density)) for frame in frames)
    made = max(float(np.max(frame.generator_density)) for frame in frames)
    if highest <= 0:
        raise UsageError("data_density is 0 everywhere; allowed: a density.")
    return _Ranges(
        x=_span([frame.grid for frame in frames]),
        z=_span([frame.z for frame in frames]),
        density=max(_HEADROOM * highest, min(1.05 * made, _HIGHEST * highest)),
    )


def _span(values: Sequence[np.ndarray]) -> tuple[float, float]:
    every = np.concatenate(values)
    return float(every.min()), float(every.max())


def _inside(tick: float, span: tuple[float, float]) -> bool:
    """Whether a number fits above the line without leaving the panel."""
    margin = 0.04 * (span[1] - span[0])
    return bool(span[0] + margin <= tick <= span[1] - margin)


def _half(x: float, _: int) -> str:
    return "½" if math.isclose(x, 0.5) else f"{x:g}"


def _gif(images: Sequence[Image.Image], milliseconds: float) -> bytes:
    """Returns an animation whose frames share one palette, so that none flickers."""
    # The palette knows the first, the middle and the last picture.
    known = [images[place] for place in (0, len(images) // 2, len(images) - 1)]
    width, height = images[0].size
    mosaic = Image.new("RGB", (width, height * len(known)))
    for place, image in enumerate(known):
        mosaic.paste(image, (0, place * height))
    palette = mosaic.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    # Paper is white: Pillow rounds colours before it looks for the nearest one, and
    # would take a pale gray that the edges of the letters need.
    colours[colours.min(axis=1) > 240] = 255
    known_colours = Image.new("P", (1, 1))
    known_colours.putpalette(colours.tobytes())
    shown = [
        image.quantize(palette=known_colours, dither=Image.Dither.NONE)
        for image in images
    ]
    # GIF counts hundredths of a second.
    duration = 10 * max(2, round(milliseconds / 10))
    durations = [duration] * (len(shown) - 1) + [int(1000 * _HOLD)]
    stream = io.BytesIO()
    shown[0].save(
        stream,
        format="GIF",
        save_all=True,
        append_images=shown[1:],
        duration=durations,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return stream.getvalue()
