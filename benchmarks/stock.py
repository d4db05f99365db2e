"""The convolutional generator with `flax.linen.ConvTranspose` for our layers."""

import functools

import flax.linen as nn

from robust_manifold.models import generators


class _Stock(nn.Module):
    """`dcgan_generator`, with the same names of parameters."""

    start: tuple[int, int, int]
    features: tuple[int, ...]

    @nn.compact
    def __call__(self, latents):
        height, width, channels = self.start
        x = nn.Dense(height * width * channels)(latents)
        x = x.reshape(-1, *self.start)
        for features in self.features:
            x = nn.ConvTranspose(features, (4, 4), (2, 2))(nn.relu(x))
        return 0.5 * nn.tanh(x) + 0.5


def generate(generator):
    """Returns `generate(params, latent) -> image`, or None if it has no counterpart."""
    spec = generator.spec
    if not isinstance(spec, generators.DCGANGenerator) or spec.kernel_size != 4:
        return None
    if spec.batch_norm or spec.conditional:
        return None
    kernels = [
        generator.arrays()[name]["kernel"].shape
        for name in sorted(generator.arrays())
        if name.startswith("ConvTranspose_")
    ]
    features = tuple(shape[3] for shape in kernels)
    height, width, _ = generator.model.output_shape
    halvings = len(features)
    start = (height >> halvings, width >> halvings, kernels[0][2])
    return functools.partial(_apply, _Stock(start, features))


def _apply(module, params, latent):
    return module.apply({"params": params["params"]}, latent[None])[0]
