"""The package's convolutions against Flax's, on DCGAN networks for 28x28 images.

  python benchmarks/convolution.py [--width=32] [--repeats=5]

Prints, for each network and batch, the time of one gradient by both, and the ratio
Flax / ours (above 1: ours is faster).  The two alternate, so that a drift of the
machine's speed meets both.  Every gradient is timed as a single compiled call and
inside `lax.scan`, which is where inversion and attacks compute it.
"""

import argparse
import statistics
import time

import flax.linen as nn
import jax
import jax.numpy as jnp

from robust_manifold.models import Conv, ConvTranspose

SCAN_LENGTH = 3


class Generator(nn.Module):
    transposed: type[nn.Module]
    width: int

    @nn.compact
    def __call__(self, latent):
        x = nn.relu(nn.Dense(49 * 2 * self.width)(latent))
        x = x.reshape(-1, 7, 7, 2 * self.width)
        x = nn.relu(self.transposed(self.width, (5, 5), (2, 2))(x))
        return nn.sigmoid(self.transposed(1, (5, 5), (2, 2))(x))


class Discriminator(nn.Module):
    convolution: type[nn.Module]
    width: int

    @nn.compact
    def __call__(self, image):
        x = nn.leaky_relu(self.convolution(self.width, (5, 5), (2, 2))(image), 0.2)
        x = nn.leaky_relu(self.convolution(2 * self.width, (5, 5), (2, 2))(x), 0.2)
        return nn.Dense(1)(x.reshape(x.shape[0], -1))


NETWORKS = {
    "generator": (Generator, (ConvTranspose, nn.ConvTranspose), (64,)),
    "discriminator": (Discriminator, (Conv, nn.Conv), (28, 28, 1)),
}
BATCHES = (64, 500)
GRADIENTS = {"inputs": 1, "parameters": 0}


def gradient_of(model, argument):
    """Returns the compiled gradient, alone and repeated inside a scan."""

    def loss(params, inputs):
        return jnp.sum(model.apply(params, inputs) ** 2)

    gradient = jax.grad(loss, argument)

    def repeated(params, inputs):
        def body(values, _):
            step = gradient(*values)
            moved = jax.tree.map(lambda a, b: a - 1e-6 * b, values[argument], step)
            return tuple(
                moved if place == argument else value
                for place, value in enumerate(values)
            ), None

        return jax.lax.scan(body, (params, inputs), length=SCAN_LENGTH)[0]

    return jax.jit(gradient), jax.jit(repeated)


def seconds(function, arguments):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start


def compare(ours, theirs, arguments, repeats):
    """Returns the median times of both, taken in turn after a warm-up."""
    for function in (ours, theirs):
        jax.block_until_ready(function(*arguments))
    pairs = [
        (seconds(ours, arguments), seconds(theirs, arguments)) for _ in range(repeats)
    ]
    return tuple(map(statistics.median, zip(*pairs, strict=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}")
    print(f"{'network':14}{'batch':>6} {'gradient':12}{'form':6}", end="")
    print(f"{'ours ms':>10}{'flax ms':>10}{'ratio':>8}")
    for name, (network, layers, shape) in NETWORKS.items():
        for batch in BATCHES:
            inputs = jax.random.normal(jax.random.key(0), (batch, *shape))
            models = [network(layer, options.width) for layer in layers]
            params = models[0].init(jax.random.key(1), inputs[:1])
            # The same parameters under each layer's own names.
            names = models[1].init(jax.random.key(1), inputs[:1])
            both = [
                params,
                jax.tree.unflatten(jax.tree.structure(names), jax.tree.leaves(params)),
            ]
            for gradient, argument in GRADIENTS.items():
                forms = zip(*(gradient_of(m, argument) for m in models), strict=True)
                for form, calls in zip(("call", "scan"), forms, strict=True):
                    bound = [
                        lambda x, f=f, p=p: f(p, x)
                        for f, p in zip(calls, both, strict=True)
                    ]
                    ours, flax = compare(*bound, (inputs,), options.repeats)
                    steps = SCAN_LENGTH if form == "scan" else 1
                    print(
                        f"{name:14}{batch:6d} {gradient:12}{form:6}"
                        f"{1e3 * ours / steps:10.1f}{1e3 * flax / steps:10.1f}"
                        f"{flax / ours:8.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
