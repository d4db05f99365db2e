"""Seconds per 1,000 images until the error is that of Defense-GAN's recipe."""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import contenders
import numpy as np
import timing
from contenders import RECIPE, RECIPE_RESTARTS, RECIPE_SETTING, Setting

from robust_manifold import inversion

try:
    import torch_recipe
except ModuleNotFoundError:
    torch_recipe = None

OURS, PEER = "recipe, ours", "recipe, torch"
# More steps than the error curve asks for, where a schedule depends on their number.
TRIED_STEPS = 20
# Images whose first steps are compared.
CHECKED = 20


class Row(NamedTuple):
    """One line of the table.

    Attributes:
      passes: restarts x steps.
      error: mean over the images of the best restart's, least of the steps.
      run: inverts all images; None where the recipe's error is never reached.
    """

    passes: str
    error: float
    run: Callable[[], object] | None


def compare(run, images, rounds, device):
    """Prints the table for one run."""
    rows = {}
    found = contenders.invert(run, images, RECIPE_SETTING)
    target = float(found.error.mean())
    recipe = contenders.timed(run, images, RECIPE_SETTING)
    rows[OURS] = Row(RECIPE_SETTING.passes, target, recipe)
    if device is not None:
        rows |= _torch_row(run, images, found, device)
    for label, setting in stopping_settings(run).items():
        rows[label] = _stopped_row(run, images, setting, target)
    for encoder in encoders(run):
        setting = contenders.default(encoder)
        error = float(contenders.invert(run, images, setting).error.mean())
        label = f"default in full{_with(encoder)}"
        rows[label] = Row(setting.passes, error, contenders.timed(run, images, setting))
    runs = {label: row.run for label, row in rows.items() if row.run is not None}
    _print(rows, _in_turns(runs, rounds), len(images))
    default = contenders.default(False)
    print(f"default: {inversion.registry.to_string(default.solver)}")
    print(f"from {default.restarts}")
    _print_encoder(run)


def encoders(run):
    """Returns whether to use an encoder: both ways, where there is one."""
    return (True, False) if run.encoder else (False,)


def stopping_settings(run) -> dict[str, Setting]:
    """Returns the settings that stop at the recipe's error, by their labels."""
    settings = {
        f"default{_with(encoder)}": contenders.default(encoder)
        for encoder in encoders(run)
    }
    ten = inversion.Restarts(count=10)
    settings["adam"] = Setting(inversion.Adam(), ten)
    settings["lbfgs"] = Setting(inversion.LBFGS(), ten)
    newton = inversion.LevenbergMarquardt()
    settings["levenberg_marquardt"] = Setting(newton, inversion.Restarts(count=4))
    if run.encoder:
        one = inversion.Restarts(count=1)
        settings["recipe's steps, encoder's start"] = Setting(RECIPE, one, True)
    return settings


def stop_at(run, images, setting, target) -> tuple[Setting | None, float]:
    """Returns the setting with the least steps to `target`, and its mean error.

    None, and the error after all steps, where the error never falls so low.
    """
    curve = contenders.mean_best_errors(run, images, setting)
    enough = np.flatnonzero(curve <= target)
    if not enough.size:
        return None, float(curve[-1])
    first = max(int(enough[0]), 1)
    most = setting.solver.steps
    # A rate that drops towards the end may need all the steps it was made for.
    for steps in (*range(first, min(first + TRIED_STEPS, most)), most):
        stopped = setting.stopped(steps)
        error = float(contenders.invert(run, images, stopped).error.mean())
        if error <= target:
            return stopped, error
    return None, float(curve[-1])


def _with(encoder):
    return ", encoder" if encoder else ", no encoder"


def _stopped_row(run, images, setting, target):
    stopped, error = stop_at(run, images, setting, target)
    if stopped is None:
        return Row(setting.passes, error, None)
    return Row(stopped.passes, error, contenders.timed(run, images, stopped))


def _torch_row(run, images, ours, device):
    """Returns the peer's row, in its fastest form, after a check of its results."""
    peers = torch_recipe.peers(run.generator, device)
    if not peers:
        return {}
    starts = contenders.starts(run, images, RECIPE_RESTARTS)
    check_same(run, images, peers)
    name, peer, batch_size = torch_recipe.fastest(peers, images, starts, RECIPE)
    call = functools.partial(
        torch_recipe.invert, peer, images, starts, RECIPE, batch_size
    )
    errors = call().errors.min(axis=1)
    contenders.check_same_errors(PEER, errors, ours.error)
    print(
        f"torch in its fastest form: {name}, {batch_size} images at a time; its mean "
        f"error / ours is {errors.mean() / ours.error.mean():.5f}"
    )
    return {PEER: Row(RECIPE_SETTING.passes, float(errors.mean()), call)}


def check_same(run, images, peers):
    """Raises unless PyTorch takes the same steps from the same starts."""
    images = images[:CHECKED]
    starts = contenders.starts(run, images, RECIPE_RESTARTS)
    others = {
        name: lambda setting, peer=peer: (
            torch_recipe.invert(
                peer, images, starts, setting.solver, len(images)
            ).errors
        )
        for name, peer in peers.items()
    }
    contenders.check_same_steps(run, images, others)


def _in_turns(runs, rounds) -> timing.Times:
    """Times what takes seconds and has been run before."""
    times = {label: [] for label in runs}
    for _ in range(rounds):
        for label, run in runs.items():
            time.sleep(timing.PAUSE)
            start = time.perf_counter()
            run()
            times[label].append(time.perf_counter() - start)
    return timing.Times(times)


def _print(rows, times, n):
    print(
        f"{'':34}{'restarts':>10}{'':>10}{'s per':>10}{'recipe, ours':>22}"
        f"{'recipe, torch':>22}\n"
        f"{'contender':34}{'x steps':>10}{'error':>10}{'1,000':>10}"
        f"{'/ this':>22}{'/ this':>22}"
    )
    for label, row in rows.items():
        line = f"{label:34}{row.passes:>10}{row.error:10.6f}"
        if row.run is None:
            print(f"{line}{'the recipe is never reached':>32}")
            continue
        seconds = times.median(label) * 1000 / n
        ratios = [
            str(times.ratio(peer, label)) if peer in times.rounds else "-"
            for peer in (OURS, PEER)
        ]
        print(f"{line}{seconds:10.3g}" + "".join(f"{r:>22}" for r in ratios))


def _print_encoder(run):
    if run.encoder is None:
        print("this run has no encoder")
        return
    for stage in ("fit_encoder", "fit_generator"):
        seconds = run.stage_seconds(stage)
        if seconds is not None:
            print(f"encoder: {run.encoder.text}, once, in stage {stage}: {seconds} s")
            return
