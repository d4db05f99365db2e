"""Plain gradient steps a second: ours, with stock Flax layers, and in PyTorch."""

import functools

import contenders
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
        flax = functools.partial(_errors, run, images[:20], generate)
        contenders.check_same_steps(run, images[:20], {"flax": flax})
    print(
        f"thousand restart-steps a second, {RECIPE_RESTARTS.count} restarts, {STEPS} "
        "steps, whole calls"
    )
    for batch in sorted({max(len(images) // 10, 1), max(len(images) // 2, 1)}):
        part = images[:batch]
        runs = {"ours": call(run, part, setting)}
        if generate is not None:
            runs["flax"] = call(run, part, setting, generate=generate)
        runs |= torch_calls(run, part, setting, peers)
        runs = {name: timing.Contender(call) for name, call in runs.items()}
        times = timing.compare(runs, rounds, budget=SECONDS)
        _print(times, batch)


def call(run, images, setting, **options):
    """Returns our inversion of all images at a time."""
    return contenders.timed(run, images, setting, batch_size=len(images), **options)


def torch_calls(run, images, setting, peers):
    """Returns PyTorch's inversions by the names of their memory formats."""
    starts = contenders.starts(run, images, setting.restarts)
    return {
        f"torch {name}": functools.partial(
            torch_recipe.invert, peer, images, starts, setting.solver, len(images)
        )
        for name, peer in peers.items()
    }


def _errors(run, images, generate, setting):
    return contenders.invert(run, images, setting, generate=generate).restart_errors


def _print(times, batch):
    work = batch * RECIPE_RESTARTS.count * STEPS
    print(f"{batch} images, {batch * RECIPE_RESTARTS.count} restarts at a time")
    print(f"  {'':14}{'rate':>10}{'its time / ours':>24}")
    for name in times.rounds:
        rate = work / times.median(name) / 1e3
        print(f"  {name:14}{rate:10.1f}{times.ratio(name, 'ours')!s:>24}")
    print(end="", flush=True)
