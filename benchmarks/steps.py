"""Inversion steps a second at a large batch, for accelerators too."""

import dataclasses
from typing import NamedTuple

import contenders
import jax
import limit
import runs
import timing
from contenders import RECIPE_RESTARTS, RECIPE_SETTING, Setting

from robust_manifold import inversion

SECONDS = 120


class Call(NamedTuple):
    """A setting with how it is computed.

    Attributes:
      setting: how to invert.
      batch_size: images at a time; None: as many as memory allows.
    """

    setting: Setting
    batch_size: int | None


def compare(run, batch, rounds, device):
    """Prints rates and shares of the limit; the images are the generator's own.

    Neither depends on the images' pixels, so that no data set is needed.
    """
    images = runs.generated(run.generator, batch)
    products = limit.matrix_products(device)
    called = calls(batch, bfloat16=jax.default_backend() != "cpu")
    runnable = {
        name: timing.Contender(timed(run, images, call))
        for name, call in called.items()
    }
    times = timing.compare(products | runnable, rounds, budget=SECONDS)
    print(
        f"{batch} images x {RECIPE_RESTARTS.count} restarts: all at a time for the "
        "gradient, as many as memory allows for LM"
    )
    settings = {name: call.setting for name, call in called.items()}
    limit.report(run, batch, times, products, settings)


def timed(run, images, call):
    """Returns the call without arguments that inverts."""
    return contenders.timed(run, images, call.setting, batch_size=call.batch_size)


def calls(batch, bfloat16) -> dict[str, Call]:
    """Returns the settings; with `bfloat16` each with the network in it, too."""
    steps = 20 if jax.default_backend() == "cpu" else 200
    newton = inversion.LevenbergMarquardt(steps=max(steps // 10, 2))
    found = {}
    for name, setting, batch_size in (
        ("gradient", RECIPE_SETTING.stopped(steps), batch),
        ("LM", Setting(newton, RECIPE_RESTARTS), None),
    ):
        found[name] = Call(setting, batch_size)
        if bfloat16:
            solver = dataclasses.replace(setting.solver, forward="bfloat16")
            half = dataclasses.replace(setting, solver=solver)
            found[f"{name}, bfloat16"] = Call(half, batch_size)
    return found
