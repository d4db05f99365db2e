"""A GAN is trained on one-dimensional data and watched as it converges.

Of such data everything is known: the density of the data, that of the generator by
its values at a fine row of latents, and the discriminator at every place.  At the end
of Goodfellow et al.'s (2014) Algorithm 1 the densities are equal and D is 1/2 wherever
there is data; the stage measures how far both are from that.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Int

from robust_manifold import models, training
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.prior import Uniform
from robust_manifold.core.types import PRNGKey
from robust_manifold.findings.finding import Finding, Passage, Shown, Words
from robust_manifold.findings.recorded import Group
from robust_manifold.one_dimensional import (
    ConvergenceFrame,
    Density,
    convergence_animation,
    convergence_figure,
    pushforward,
)
from robust_manifold.reporting import figures as drawing
from robust_manifold.reporting import html, tables
from robust_manifold.runtime import Diverged, Interrupted, Progress
from robust_manifold.stages import Context

FRAMES = "convergence/frames.npz"
SUMMARY = "convergence.json"
ANIMATION = "report/figures/convergence.gif"

IMAGE_SHAPE = (1, 1, 1)
"""A number, as the smallest of images."""

SUPPORT = 0.99
"""The support of the data is the smallest set of places that holds this share of it."""

_BINS = 600
_KNOTS = 4097
_ARROWS = 17
_PANELS = 8


class _Places(NamedTuple):
    """Where the networks are looked at, and what the data are there."""

    latents: np.ndarray  # knots of equal shares, [knots]
    edges: np.ndarray  # of the bins, [bins + 1]
    data_masses: np.ndarray  # of the bins and of what lies below and above them
    data_density: np.ndarray  # in the middle of each bin
    support: np.ndarray  # which bins belong to it

    @property
    def grid(self) -> np.ndarray:
        """The middle of each bin."""
        return (self.edges[:-1] + self.edges[1:]) / 2


def find(context: Context) -> list[str]:
    """Writes `convergence.json`, the frames, and the animation of the report.

    A run that is stopped trains from the start again: it takes a minute or two.

    Raises:
      Diverged: if the generator or the discriminator is no longer finite.
      Interrupted: if the run was asked to stop.
      UsageError: if the networks or the loss do not fit one-dimensional data.
    """
    block = context.experiment.convergence
    setting = _setting(context)
    key = context.stream("convergence")
    state = block.training.init(setting, key)
    places: _Places | None = None
    watched: list[dict[str, Any]] = []
    context.metrics.rewind("convergence")
    with Progress(block.steps, "convergence") as progress:
        for step in _steps_of_frames(block.steps, block.frames):
            state = _train(block, setting, key, state, step)
            places = places or _places(block, setting, state)
            frame = _watch(block, setting, state, places)
            watched.append(frame)
            measured = {name: frame[name] for name in MEASURES}
            context.metrics.write("convergence", step, **measured)
            progress.update(step, **measured)
            if context.stop.requested:
                raise Interrupted(f"convergence stopped after step {step}")
    assert places is not None
    _store(context, places, watched)
    return [SUMMARY, FRAMES, ANIMATION]


MEASURES = {
    "total_variation": "total variation distance of the densities",
    "discriminator_distance": "largest |D(x) − 1/2| on the support of the data",
}
"""What is measured, by its name in the stored files, in words."""

_CURVES = {
    "total_variation_distance": "total_variation",
    "discriminator_distance": "discriminator_distance",
}
"""What is measured, by names that end alike: so the figure draws it in one panel."""


def _table(context: Context) -> tables.Table:
    """Returns the two distances at the start and at the end of the training."""
    stored = context.folder.read_npz(FRAMES)
    rows = {words: stored[name][[0, -1]] for name, words in MEASURES.items()}
    first, last = (f"step {step:,}" for step in stored["step"][[0, -1]])
    numbers = pd.DataFrame(
        {
            "distance": list(rows),
            first: [float(values[0]) for values in rows.values()],
            last: [float(values[1]) for values in rows.values()],
        }
    )
    text = numbers.copy()
    for column in (first, last):
        text[column] = [f"{value:.3f}" for value in numbers[column]]
    return tables.Table(
        title="Distances at the start and at the end",
        caption=(
            "Distance of the generator from the data, and of the discriminator from "
            f"1/2 on the smallest set of places that holds {SUPPORT:.0%} of the data."
        ),
        text=text,
        numbers=numbers,
    )


def _figures(context: Context) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields the figures of the report by the names of their files."""
    stored = context.folder.read_npz(FRAMES)
    frames = _frames(stored)
    chosen = np.unique(np.linspace(0, len(frames) - 1, _PANELS).round().astype(int))
    yield (
        "convergence",
        html.ReportFigure(
            "Convergence in one dimension",
            "The density of the data (dotted), of the generator (solid) and the "
            "discriminator (dashed, right axis), at steps of the training; below, how "
            "the generator carries equally spaced latents z to x = G(z). The page "
            "shows it in motion; figures/convergence.png has eight moments.",
            drawing.to_png(convergence_figure([frames[i] for i in chosen])),
            gif=context.folder.read_bytes(ANIMATION),
        ),
    )
    records = [
        {"stage": "convergence", "step": int(step), curve: float(value)}
        for curve, name in _CURVES.items()
        for step, value in zip(stored["step"], stored[name], strict=True)
    ]
    yield (
        "convergence-distances",
        html.ReportFigure(
            "Distances over the training",
            f"{'; '.join(MEASURES.values()).capitalize()}.",
            drawing.to_png(drawing.training_curves(records)),
        ),
    )


def _setting(context: Context) -> training.Setting:
    """Returns the networks and the duration, checked."""
    block = context.experiment.convergence
    text = models.registry.to_string(block.generator)
    allowed = "a generator of one uniform latent, such as mlp_generator"
    try:
        generator = models.build(block.generator, image_shape=IMAGE_SHAPE)
    except UsageError as error:
        raise UsageError(f"config.convergence.generator: {error}") from None
    uniform = isinstance(generator.prior, Uniform)
    if not uniform or generator.input_shape != (1,) or generator.latent_classes:
        raise UsageError(
            f"config.convergence.generator is {text!r}; allowed: {allowed}."
        )
    if block.training.loss not in ("minimax", "non_saturating"):
        raise UsageError(
            f"config.convergence.training has the loss {block.training.loss!r}; "
            "allowed: minimax or non_saturating, whose D is a probability."
        )
    try:
        partner = block.training.build_partner(generator, IMAGE_SHAPE, classes=1)
    except UsageError as error:
        raise UsageError(f"config.convergence.training: {error}") from None
    return training.Setting(generator, partner, block.steps)


def _steps_of_frames(steps: int, frames: int) -> list[int]:
    """Returns after how many steps there is a frame: the most of them early on."""
    place = np.arange(frames)
    # A parabola, raised where it would give two frames of one step.
    wanted = np.ceil(steps * (place / (frames - 1)) ** 2).astype(int)
    return list(map(int, np.maximum.accumulate(wanted - place) + place))


def _train(block, setting: training.Setting, key: PRNGKey, state, until: int):
    """Returns the state after step `until`."""
    return _advance(
        block.training,
        setting,
        block.density,
        block.batch_size,
        key,
        state,
        jnp.asarray(until),
    )


@functools.partial(
    jax.jit,
    static_argnames=("gan", "setting", "density", "batch_size"),
    donate_argnames="state",
)
def _advance(
    gan: training.GanTraining,
    setting: training.Setting,
    density: Density,
    batch_size: int,
    key: PRNGKey,
    state: training.GanState,
    until: Int[Array, ""],
) -> training.GanState:
    """Takes steps until their number is `until`, each on data drawn for it."""
    count = batch_size * gan.minibatches
    labels = jnp.zeros(count, jnp.int32)
    data_key = keys.stream(key, "data")

    def step(_, state):
        drawn = density.sample(jax.random.fold_in(data_key, state.step), count)
        images = drawn.reshape(count, *IMAGE_SHAPE)
        return gan.step(setting, key, state, images, labels)[0]

    return jax.lax.fori_loop(state.step, until, step, state)


def _places(block, setting: training.Setting, state: training.GanState) -> _Places:
    """Returns where to look: all of the data, and where the generator begins."""
    prior = setting.generator.prior
    assert isinstance(prior, Uniform)
    latents = np.linspace(prior.low, prior.high, _KNOTS, dtype=np.float32)
    begun = _generated(block.training, setting, state, latents)
    low, high = block.density.span
    edges = np.linspace(min(low, begun.min()), max(high, begun.max()), _BINS + 1)
    cumulative = np.asarray(block.density.cumulative(edges), np.float64)
    masses = np.diff(cumulative, prepend=0.0, append=1.0)
    density = np.asarray(block.density.density((edges[:-1] + edges[1:]) / 2))
    return _Places(
        latents, edges, masses, density, pushforward.highest_density(density, SUPPORT)
    )


def _watch(
    block, setting: training.Setting, state: training.GanState, places: _Places
) -> dict[str, Any]:
    """Returns what a frame stores, and what is measured at it."""
    step = int(state.step)
    images = _generated(block.training, setting, state, places.latents)
    params = block.training.partner_params(state)
    grid = jnp.asarray(places.grid.reshape(-1, *IMAGE_SHAPE))
    logits = setting.partner.apply(params, grid)
    discriminator = np.asarray(jax.nn.sigmoid(logits), np.float64)
    if not (np.isfinite(images).all() and np.isfinite(discriminator).all()):
        raise Diverged(
            f"convergence diverged: a network is not finite after step {step}; try a "
            "lower learning rate."
        )
    masses = pushforward.masses(places.edges, images)
    return {
        "step": step,
        "x_of_z": images[:: (_KNOTS - 1) // (_ARROWS - 1)],
        "generator_density": masses[1:-1] / np.diff(places.edges),
        "discriminator": discriminator,
        "total_variation": pushforward.total_variation(masses, places.data_masses),
        "discriminator_distance": float(
            np.abs(discriminator - 0.5)[places.support].max()
        ),
    }


def _generated(
    gan: training.GanTraining,
    setting: training.Setting,
    state: training.GanState,
    latents: np.ndarray,
) -> np.ndarray:
    """Returns G of each latent, by the moving average of the generator."""
    params = gan.generator_params(state)
    images = setting.generator.apply(params, jnp.asarray(latents)[:, None])
    return np.asarray(images, np.float64).reshape(-1)


def _store(context: Context, places: _Places, watched: list[dict[str, Any]]) -> None:
    """Writes what the report needs, and what people ask for first."""
    arrays = {name: np.array([frame[name] for frame in watched]) for name in watched[0]}
    arrays |= {
        "z": places.latents[:: (_KNOTS - 1) // (_ARROWS - 1)],
        "grid": places.grid,
        "data_density": places.data_density,
        "support": places.support,
    }
    context.folder.write_npz(FRAMES, arrays)
    context.folder.write_json(
        SUMMARY,
        {
            "step": watched[-1]["step"],
            **{name: watched[-1][name] for name in MEASURES},
            "support_share": SUPPORT,
            "support": [
                float(places.grid[places.support].min()),
                float(places.grid[places.support].max()),
            ],
        },
    )
    if context.folder.primary:
        animation = convergence_animation(_frames(arrays))
        context.folder.write_bytes(ANIMATION, animation)


def _frames(stored: dict[str, np.ndarray]) -> list[ConvergenceFrame]:
    """Returns the moments as the figures take them."""
    return [
        ConvergenceFrame(
            step=int(step),
            z=stored["z"],
            x_of_z=stored["x_of_z"][place],
            grid=stored["grid"],
            data_density=stored["data_density"],
            generator_density=stored["generator_density"][place],
            discriminator=stored["discriminator"][place],
        )
        for place, step in enumerate(stored["step"])
    ]


def _show(context: Context) -> Shown:
    return Shown([_table(context)], figures=[*_figures(context)])


_DISTANCES = {
    "total_variation": "Total variation of generator and data",
    "discriminator_distance": "Largest |D - 1/2| where the data are",
}


def _results(group: Group) -> Iterator[Passage]:
    """Yields how far each seed came, and their mean where there are several."""
    runs = group.with_file(SUMMARY)
    if not runs:
        return
    found = {f"Seed {run.seed}": run.json(SUMMARY) for run in runs}
    numbers = pd.DataFrame(
        {seed: [each[key] for key in _DISTANCES] for seed, each in found.items()}
    )
    if len(runs) > 1:
        numbers["Mean"] = numbers.mean(axis="columns")
    text = numbers.map(lambda value: f"{value:.4f}")
    text.insert(0, "Distance", list(_DISTANCES.values()))
    steps = ", ".join(f"{n:,}" for n in sorted({x["step"] for x in found.values()}))
    caption = f"At the end of the training, after {steps} steps."
    yield Passage("Convergence", [tables.Table("", caption, text, numbers)])


_WORDS = Words(
    "A training in one dimension",
    "A generator G, which moves uniform latents z to points x = G(z), is trained "
    "against a discriminator D, which tells its points from the data's. In theory it "
    "ends where the generator's density equals that of the data and D = 1/2 wherever "
    "there are data: D can but guess. The figures show how near to that a training "
    "comes.",
)

FINDING = Finding(
    name="convergence",
    find=find,
    writes=(SUMMARY, "convergence/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
    words=lambda context: _WORDS,
)
