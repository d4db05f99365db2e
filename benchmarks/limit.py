"""Floating-point operations a second of inversion steps, and of a matrix product."""

import contenders
import jax
import jax.numpy as jnp
import operations
import timing
from contenders import RECIPE_RESTARTS, RECIPE_SETTING, Setting

from robust_manifold import inversion

try:
    import torch
except ModuleNotFoundError:
    torch = None

SECONDS = 60


def compare(run, images, rounds, device):
    """Prints the shares of the machine's limit that a gradient and an LM step reach."""
    products = matrix_products(device)
    settings = {
        "gradient step": RECIPE_SETTING.stopped(20),
        "LM step": Setting(inversion.LevenbergMarquardt(steps=2), RECIPE_RESTARTS),
    }
    calls = {
        name: timing.Contender(contenders.timed(run, images, setting))
        for name, setting in settings.items()
    }
    times = timing.compare(products | calls, rounds, budget=SECONDS)
    report(run, len(images), times, products, settings)


def report(run, batch, times, products, settings):
    """Prints what was timed, beside the better of the matrix products."""
    product = times.fastest(*products)
    rate = product_operations() / times.median(product)
    print(
        f"{product}, side {matrix_size()}: {rate / 1e9:.1f} GFLOP/s\n"
        f"{'':26}{'MFLOP':>8}"
        f"{'restart-steps':>15}{'GFLOP':>10}{'share of the':>24}\n{'':26}{'a step':>8}"
        f"{'a second':>15}{'a second':>10}{'matrix product':>24}"
    )
    for name, setting in settings.items():
        done = batch * setting.restarts.count * setting.solver.steps
        each = step_operations(run, setting.solver)
        rate = done / times.median(name)
        share = share_of(times, product, name, done * each)
        print(
            f"{name:26}{each / 1e6:8.2f}{rate:15.0f}{rate * each / 1e9:10.1f}"
            f"{share!s:>24}",
            flush=True,
        )


def share_of(times, product, name, work) -> timing.Ratio:
    """Returns the share of the product's rate at which `work` operations are done."""
    whole = product_operations()
    return timing.Ratio(*(value * work / whole for value in times.ratio(product, name)))


def product_operations() -> int:
    return 2 * matrix_size() ** 3


def matrix_size() -> int:
    """Returns the side of matrices whose product keeps the processor busy."""
    return 2048 if jax.default_backend() == "cpu" else 8192


def step_operations(run, solver) -> float:
    """Returns the operations of one step of one restart."""
    if isinstance(solver, inversion.LevenbergMarquardt):
        return operations.newton_step(run.generator, solver)
    return operations.gradient_step(run.generator)


def matrix_products(device) -> dict[str, timing.Contender]:
    """Returns float32 products of square matrices, at each library's defaults."""
    size = matrix_size()
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(jnp.matmul)
    found = {"matrix product, jax": lambda: jax.block_until_ready(multiply(a, a))}
    if device is not None:
        b = torch.randn(size, size, device=device)

        def product():
            result = b @ b
            if device == "cuda":
                torch.cuda.synchronize()
            return result

        found["matrix product, torch"] = product
    return {name: timing.Contender(call) for name, call in found.items()}
