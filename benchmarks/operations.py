"""How many floating-point operations an inversion step takes, by formula."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.models.layers import Conv

FORMULA = """\
operations of a step of one restart:
  forward: 2 x the multiply-adds of the dense layers (inputs x outputs) and of the
    transposed convolutions (channels in x channels out x the taps of the kernel that
    fall inside the result, summed over the inputs' places)
  gradient step: 2 x forward, since the gradient at the latent takes as many products
  LM step: (2 + d) x forward + 2 x pixels x d^2, for the image, the Jacobian's d
    columns, and J'J; d is the size of the latent"""


def forward(network) -> int:
    """Returns the operations of one forward pass of one example.

    Biases, activations and the error are left out.
    """
    layers = []

    def record(call, arguments, named, context):
        module = context.module
        if context.method_name == "__call__" and isinstance(module, nn.Dense | Conv):
            layers.append((module.clone(parent=None), arguments[0].shape))
        return call(*arguments, **named)

    inputs = jax.ShapeDtypeStruct((1, *network.model.input_shape), jnp.float32)
    with nn.intercept_methods(record):
        # A function of its own: of one that it has seen, JAX remembers the shapes.
        jax.eval_shape(lambda *args: network.model.apply(*args), network.params, inputs)
    return 2 * sum(_multiply_adds(*layer) for layer in layers)


def _multiply_adds(module, shape) -> int:
    """Every product of a linear layer adds 1 where inputs and weights are all 1."""
    inputs = jnp.ones((1, *shape[1:]))
    params = jax.eval_shape(module.init, jax.random.key(0), inputs)["params"]
    ones = {"kernel": jnp.ones(params["kernel"].shape)}
    if "bias" in params:
        ones["bias"] = jnp.zeros(params["bias"].shape)
    outputs = np.asarray(module.apply({"params": ones}, inputs))
    return int(outputs.sum(dtype=np.float64))


def gradient_step(network) -> float:
    return 2 * forward(network)


def newton_step(network, solver) -> float:
    (size,) = network.model.input_shape
    pixels = int(np.prod(network.model.output_shape))
    return solver.passes(size) * forward(network) + 2 * pixels * size**2
