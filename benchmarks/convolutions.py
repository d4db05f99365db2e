"""The forms of a plain convolution on a CPU, by which models/convolution.py chooses.

  python benchmarks/convolutions.py [--images=32] [--rounds=5]

Milliseconds of each form, the least of all rounds, and what the package chooses.  Each
runs inside a compiled loop, as in an attack.  Nothing else may be fused with it: XLA
shares a convolution that ends in a reduction among cores, but not one alone.
"""

import argparse
import functools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import timing
from jax import lax

from robust_manifold.models import convolution as forms

# side, channels, features, kernel, stride
LAYERS = [
    (28, 1, 16, 5, 1),
    (28, 1, 32, 5, 1),
    (28, 1, 64, 5, 1),
    (32, 3, 16, 3, 1),
    (32, 3, 32, 3, 1),
    (64, 3, 64, 5, 1),
    (14, 16, 32, 5, 1),
    (14, 32, 16, 5, 1),
    (14, 32, 64, 5, 1),
    (32, 16, 16, 3, 1),
    (32, 32, 32, 3, 1),
    (16, 64, 64, 3, 1),
    (8, 128, 128, 3, 1),
    (28, 1, 16, 4, 2),
    (64, 3, 64, 4, 2),
    (14, 32, 64, 4, 2),
    (28, 64, 64, 5, 2),
    (16, 64, 128, 3, 2),
    (32, 32, 64, 1, 2),
]
STEPS = 5


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=32, help="computed at once")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = ("plain", "beside", "columns 2", "columns 4", "chosen", "GFLOP/s")
    print(f"{'layer':28}" + "".join(f"{name:>11}" for name in names))
    for layer in LAYERS:
        measure(layer, options.images, options.rounds)


def measure(layer, images, rounds):
    side, channels, features, taps, stride = layer
    x = random(images, side, side, channels)
    w = random(taps, taps, channels, features)
    strides = (stride, stride)
    padding = lax.padtype_to_pads((side, side), (taps, taps), strides, "SAME")
    given = {"strides": strides, "padding": tuple(padding)}
    calls = {name: looped(form, x, w, given) for name, form in named(x, w, given)}
    times = timing.compare(
        {name: timing.Contender(call, STEPS) for name, call in calls.items()},
        rounds,
        budget=30,
    )
    least = {name: min(times.rounds[name]) for name in calls}
    outputs = -(-side // stride)
    operations = 2 * images * outputs**2 * features * channels * taps**2
    size = f"{side}x{side} x{channels} -> x{features}, {taps}x{taps}"
    print(
        f"{size + (f' /{stride}' if stride > 1 else ''):28}"
        + "".join(f"{1e3 * seconds:11.3f}" for seconds in least.values())
        + f"{operations / least['chosen'] / 1e9:11.0f}",
        flush=True,
    )


def named(x, w, given):
    """Yields each form by name."""
    columns = forms._convolved(x.shape, w.shape, **given)[1]
    step, low = given["strides"][1], given["padding"][1][0]
    pitch = forms._pitch(x.shape[2], w.shape[1], step, low, columns)
    yield "plain", forms._convolve_padded
    yield (
        "beside",
        functools.partial(forms._convolve_side_by_side, columns=columns, pitch=pitch),
    )
    for together in (2, 4):
        yield (
            f"columns {together}",
            functools.partial(
                forms._convolve_columns, columns=columns, together=together
            ),
        )
    yield "chosen", forms._convolve_cpu


def looped(form, x, w, given):
    """Returns a call of a compiled loop, after a check of the form's values."""
    expected = forms._convolve_xla(x, w, **given)
    found = jax.jit(functools.partial(form, **given))(x, w)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(found / scale, expected / scale, atol=2e-5)

    def step(x, _):
        y = lax.optimization_barrier(form(x, w, **given))
        return x + 1e-9 * y[0, 0, 0, 0], None

    program = jax.jit(lambda x: lax.scan(step, x, length=STEPS)[0])
    return lambda: jax.block_until_ready(program(x))


def random(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


if __name__ == "__main__":
    main()
