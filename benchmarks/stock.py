"""The measured networks with the layers of `flax.linen` for our own."""

import functools

import flax.linen as nn

from robust_manifold.models import classifiers, generators, residual


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


class _Pooled(nn.Module):
    """`small_cnn` and `madry_cnn`, with the same names of parameters."""

    features: tuple[int, ...]
    units: tuple[int, ...]

    @nn.compact
    def __call__(self, images):
        x = images
        for features in self.features:
            x = nn.relu(nn.Conv(features, (5, 5))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = x.reshape(x.shape[0], -1)
        *hidden, classes = self.units
        for units in hidden:
            x = nn.relu(nn.Dense(units)(x))
        return nn.Dense(classes)(x)


class _Residual(residual._ResidualNetwork):
    """`residual_cnn`, with the same names of parameters."""

    def convolve(self, x, features, size, stride):
        strides = (stride, stride)
        return nn.Conv(features, (size, size), strides, use_bias=False)(x)


def classify(classifier):
    """Returns `classify(params, images) -> logits` for a classifier of the three."""
    spec = classifier.spec
    if isinstance(spec, residual.ResidualCNN):
        module = spec.module(classifier.model.input_shape, 10)
        fields = ("classes", "widths", "blocks", "first_stride", "dropout")
        stock = _Residual(**{name: getattr(module, name) for name in fields})
        return functools.partial(stock.apply, train=False)
    assert isinstance(spec, classifiers.SmallCNN | classifiers.MadryCNN), spec
    layers = classifier.arrays()
    features, units = (
        tuple(layers[name]["bias"].size for name in sorted(layers) if kind in name)
        for kind in ("Conv", "Dense")
    )
    return _Pooled(features, units).apply


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
