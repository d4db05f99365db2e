"""Plain gradient steps a second: ours, with stock Flax layers, and in PyTorch."""

import functools

import contenders
import numpy as np
import stock
import timing
from contenders import RECIPE_RESTARTS, RECIPE_SETTING

try:
    import torch_recipe
except ModuleNotFoundError:
    torch_recipe = None

STEPS = 20
SECONDS = 120


def compare(run, images, rounds, device):
    """Prints the table for one run, at two batch sizes."""
    setting = RECIPE_SETTING.stopped(STEPS)
    peers = {}
    if device is not None:
        peers = torch_recipe.peers(run.generator, device)
    generate = stock.generate(run.generator)
    if generate is not None:
        _check_stock(run, images[:20], generate)
    print(
        f"thousand restart-steps a second, {RECIPE_RESTARTS.count} restarts, {STEPS} "
        "steps, whole calls"
    )
    for batch in sorted({max(len(images) // 10, 1), max(len(images) // 2, 1)}):
        part = images[:batch]
        call = functools.partial(
            contenders.timed, run, part, setting, batch_size=len(part)
        )
        runs = {"ours": call()}
        if generate is not None:
            runs["flax"] = call(generate=generate)
        runs |= _torch(run, part, setting, peers)
        runs = {name: timing.Contender(call) for name, call in runs.items()}
        times = timing.compare(runs, rounds, budget=SECONDS)
        _print(times, batch)


def _torch(run, images, setting, peers):
    starts = contenders.starts(run, images, setting.restarts)
    return {
        f"torch {name}": functools.partial(
            torch_recipe.invert, peer, images, starts, setting.solver, len(images)
        )
        for name, peer in peers.items()
    }


def _check_stock(run, images, generate):
    """Raises unless stock layers lead to the same errors."""
    few = RECIPE_SETTING.stopped(5)
    ours, theirs = (
        contenders.invert(run, images, few, generate=g).restart_errors
        for g in (None, generate)
    )
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)


def _print(times, batch):
    work = batch * RECIPE_RESTARTS.count * STEPS
    print(f"{batch} images, {batch * RECIPE_RESTARTS.count} restarts at a time")
    print(f"  {'':14}{'rate':>10}{'its time / ours':>24}")
    for name in times.rounds:
        rate = work / times.median(name) / 1e3
        print(f"  {name:14}{rate:10.1f}{times.ratio(name, 'ours')!s:>24}")
    print(end="", flush=True)
