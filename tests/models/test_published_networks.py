"""Every network, written once more without its layers: equal parameters, equal values.

The references read as the published tables do and run in NumPy, XLA's convolutions
and Flax's pooling apart.
"""

import functools
import os
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from robust_manifold import attacks, data, models
from robust_manifold.attacks.losses import margin
from robust_manifold.runtime import weight_files

DIGITS, FACES = (28, 28, 1), (64, 64, 3)
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv(x, layer, features, side, stride=1, padding="SAME"):
    kernel = layer["kernel"]
    assert kernel.shape == (side, side, x.shape[-1], features)
    y = lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=DIMENSIONS
    )
    return np.asarray(y) + layer["bias"]


def double(x, layer, features, side):
    """A transposed convolution of stride 2."""
    kernel = layer["kernel"]
    assert kernel.shape == (side, side, x.shape[-1], features)
    y = lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=DIMENSIONS)
    assert y.shape[1:3] == (2 * x.shape[1], 2 * x.shape[2])
    return np.asarray(y) + layer["bias"]


def dense(x, layer, features):
    assert layer["kernel"].shape[1] == features
    return x.reshape(len(x), -1) @ layer["kernel"] + layer["bias"]


def relu(x):
    return np.maximum(x, 0)


def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def max_pool(x, side):
    return np.asarray(nn.max_pool(x, (side, side), (2, 2), "SAME"))


def response_normalization(x):
    """TensorFlow's `lrn(x, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75)`."""
    channels = x.shape[-1]
    nearby = [
        (x[..., max(c - 4, 0) : c + 5] ** 2).sum(axis=-1) for c in range(channels)
    ]
    return x / (1.0 + 0.001 / 9.0 * np.stack(nearby, axis=-1)) ** 0.75


def batch_norm(x, layer):
    deviation = np.sqrt(layer["var"] + 1e-5)
    return (x - layer["mean"]) / deviation * layer["scale"] + layer["bias"]


def small_cnn(layers, image):
    x = max_pool(relu(conv(image, layers["Conv_0"], 16, 5)), 2)
    x = max_pool(relu(conv(x, layers["Conv_1"], 32, 5)), 2)
    return dense(relu(dense(x, layers["Dense_0"], 128)), layers["Dense_1"], 10)


def wong_cnn(layers, image):
    x = relu(conv(image, layers["Conv_0"], 16, 4, 2))
    x = relu(conv(x, layers["Conv_1"], 32, 4, 2))
    return dense(relu(dense(x, layers["Dense_0"], 100)), layers["Dense_1"], 10)


def madry_cnn(layers, image):
    x = max_pool(relu(conv(image, layers["Conv_0"], 32, 5)), 2)
    x = max_pool(relu(conv(x, layers["Conv_1"], 64, 5)), 2)
    return dense(relu(dense(x, layers["Dense_0"], 1024)), layers["Dense_1"], 10)


def inc_mnist(layers, image):
    x = max_pool(relu(conv(image, layers["Conv_0"], 64, 5)), 3)
    x = relu(dense(x, layers["Dense_0"], 384))
    return dense(relu(dense(x, layers["Dense_1"], 192)), layers["Dense_2"], 10)


def inc_celeba(layers, image):
    x = max_pool(relu(conv(image, layers["Conv_0"], 64, 5)), 3)
    x = response_normalization(x)
    x = max_pool(relu(conv(x, layers["Conv_1"], 64, 5)), 3)
    x = response_normalization(x)
    x = relu(dense(x, layers["Dense_0"], 384))
    return dense(relu(dense(x, layers["Dense_1"], 192)), layers["Dense_2"], 10)


def defense_gan_a(layers, image):
    x = relu(conv(image, layers["Conv_0"], 64, 5))
    x = relu(conv(x, layers["Conv_1"], 64, 5, 2, "VALID"))
    return dense(relu(dense(x, layers["Dense_0"], 128)), layers["Dense_1"], 10)


def defense_gan_b(layers, image):
    """Without dropout, which inference has not: classifier F too."""
    x = relu(conv(image, layers["Conv_0"], 64, 8, 2))
    x = relu(conv(x, layers["Conv_1"], 128, 6, 2, "VALID"))
    x = relu(conv(x, layers["Conv_2"], 128, 5, 1, "VALID"))
    return dense(x, layers["Dense_0"], 10)


def defense_gan_c(layers, image):
    x = relu(conv(image, layers["Conv_0"], 128, 3))
    x = relu(conv(x, layers["Conv_1"], 64, 5, 2, "VALID"))
    return dense(relu(dense(x, layers["Dense_0"], 128)), layers["Dense_1"], 10)


def defense_gan_d(layers, image):
    """Without dropout, which inference has not: classifier E too."""
    x = relu(dense(image, layers["Dense_0"], 200))
    return dense(relu(dense(x, layers["Dense_1"], 200)), layers["Dense_2"], 10)


def wgan_generator(layers, latent, width):
    x = relu(dense(latent, layers["Dense_0"], 16 * 4 * width)).reshape(
        -1, 4, 4, 4 * width
    )
    x = relu(double(x, layers["ConvTranspose_0"], 2 * width, 5))[:, :7, :7]
    x = relu(double(x, layers["ConvTranspose_1"], width, 5))
    return sigmoid(double(x, layers["ConvTranspose_2"], 1, 5))


def wgan_critic(layers, image, width):
    x = image
    for number in range(3):
        x = conv(x, layers[f"Conv_{number}"], width * 2**number, 5, 2)
        x = leaky_relu(x, 0.2)
    return dense(x, layers["Dense_0"], 1)[:, 0]


def vae_decoder(layers, latent):
    x = leaky_relu(dense(latent, layers["Dense_0"], 500), 0.1)
    x = leaky_relu(dense(x, layers["Dense_1"], 500), 0.1)
    return sigmoid(dense(x, layers["Dense_2"], 784)).reshape(-1, 28, 28, 1)


def vae_encoder(layers, image):
    x = leaky_relu(dense(image, layers["Dense_0"], 500), 0.1)
    return dense(x, layers["Dense_1"], 40)


def dcgan_generator(layers, latent):
    x = relu(dense(latent, layers["Dense_0"], 7 * 7 * 128)).reshape(-1, 7, 7, 128)
    x = relu(double(x, layers["ConvTranspose_0"], 64, 4))
    return np.tanh(double(x, layers["ConvTranspose_1"], 1, 4)) * 0.5 + 0.5


def dcgan_discriminator(layers, image):
    x = leaky_relu(conv(image, layers["Conv_0"], 64, 4, 2), 0.2)
    x = leaky_relu(conv(x, layers["Conv_1"], 128, 4, 2), 0.2)
    return dense(x, layers["Dense_0"], 1)[:, 0]


def inc_celeba_generator(layers, latent):
    x = dense(latent, layers["Dense_0"], 4 * 4 * 1024).reshape(-1, 4, 4, 1024)
    x = relu(batch_norm(x, layers["BatchNorm_0"]))
    for number, features in enumerate((512, 256, 128)):
        x = double(x, layers[f"ConvTranspose_{number}"], features, 5)
        x = relu(batch_norm(x, layers[f"BatchNorm_{number + 1}"]))
    return np.tanh(double(x, layers["ConvTranspose_3"], 3, 5)) * 0.5 + 0.5


def inc_celeba_discriminator(layers, image):
    x = leaky_relu(conv(image, layers["Conv_0"], 128, 5, 2), 0.2)
    for number, features in enumerate((256, 512, 1024)):
        x = conv(x, layers[f"Conv_{number + 1}"], features, 5, 2)
        x = leaky_relu(batch_norm(x, layers[f"BatchNorm_{number}"]), 0.2)
    return dense(x, layers["Dense_0"], 1)[:, 0]


REFERENCES = {
    "small_cnn": small_cnn,
    "wong_cnn": wong_cnn,
    "madry_cnn": madry_cnn,
    "inc_mnist": inc_mnist,
    "inc_celeba": inc_celeba,
    "defense_gan_a": defense_gan_a,
    "defense_gan_b": defense_gan_b,
    "defense_gan_c": defense_gan_c,
    "defense_gan_d": defense_gan_d,
    "defense_gan_e": defense_gan_d,
    "defense_gan_f": defense_gan_b,
    "defense_gan_generator": functools.partial(wgan_generator, width=64),
    "inc_generator": functools.partial(wgan_generator, width=32),
    "dcgan_generator": dcgan_generator,
    "inc_celeba_generator": inc_celeba_generator,
    "vae_decoder": vae_decoder,
    "vae_encoder": vae_encoder,
    "defense_gan_discriminator": functools.partial(wgan_critic, width=64),
    "inc_discriminator": functools.partial(wgan_critic, width=32),
    "dcgan_discriminator": dcgan_discriminator,
    "inc_celeba_discriminator": inc_celeba_discriminator,
}


def build(text):
    return models.build(text, image_shape=FACES if "celeba" in text else DIGITS)


def draw(model):
    """Returns parameters that keep the size of what passes through the layers."""
    random = np.random.default_rng(0)

    def leaf(path, shape):
        if path[-1].key in ("var", "scale"):
            return random.uniform(0.5, 1.5, shape.shape).astype(np.float32)
        values = random.standard_normal(shape.shape, np.float32)
        if path[-1].key == "kernel":
            values *= np.float32((2 / np.prod(shape.shape[:-1])) ** 0.5)
        return values

    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


UNPUBLISHED = {
    "codebook": "its formula, in test_codebook.py",
    "denoiser": "the layers of its docstring, in test_denoiser.py",
    "linear": "its formula, in test_registry.py",
    "conv_encoder": "the same network of PyTorch's modules, in test_torch_weights.py",
    "mlp_discriminator": "its formula, in test_mlp.py",
    "mlp_generator": "its formula, in test_mlp.py",
    "one_per_class": "its decoders one by one, in test_one_per_class.py",
    "residual_cnn": "the layers of its docstring, in test_residual.py",
}
"""What the other networks are tested against."""


def test_every_network_has_a_reference():
    assert sorted([*REFERENCES, *UNPUBLISHED]) == models.registry.names


_LARGE = ("inc_celeba_generator", "inc_celeba_discriminator")
"""Networks of so many parameters that they are built in `make test-all` alone."""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, marks=[pytest.mark.slow] if text in _LARGE else [])
        for text in REFERENCES
    ],
)
def test_a_network_equals_its_reference(text):
    model = build(text)
    params = draw(model)
    random = np.random.default_rng(1)
    inputs = random.standard_normal((2, *model.input_shape), np.float32)
    if text == "inc_celeba":
        inputs *= 30  # local response normalisation changes large activations only
    statistics = params.get("batch_stats", {})
    layers = {
        name: {**values, **statistics.get(name, {})}
        for name, values in params["params"].items()
    }
    expected = REFERENCES[text](layers, inputs)
    outputs = model.apply(jax.tree.map(jnp.asarray, params), jnp.asarray(inputs))
    assert outputs.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs / scale, expected / scale, atol=1e-5)


# What is dropped: the share, and of how many units.
DROPOUT = {
    "defense_gan_a": [(0.25, 12 * 12 * 64), (0.5, 128)],
    "defense_gan_b": [(0.2, 28 * 28), (0.5, 128)],
    "defense_gan_c": [(0.25, 12 * 12 * 64), (0.5, 128)],
    "defense_gan_d": [(0.5, 200)],
    "small_cnn": [(0.25, 7 * 7 * 32), (0.5, 128)],
    "small_cnn(dropout=0.2)": [(0.1, 7 * 7 * 32), (0.2, 128)],
}


@pytest.mark.parametrize("text", [*REFERENCES, "small_cnn(dropout=0.2)"])
def test_what_is_dropped_in_training(text):
    found = []

    def record(call, inputs, keywords, context):
        if isinstance(context.module, nn.Dropout) and context.module.rate > 0:
            assert not context.module.deterministic
            found.append((context.module.rate, int(np.prod(inputs[0].shape[1:]))))
        return call(*inputs, **keywords)

    model = build(text)
    params = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((2, *model.input_shape), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(model.train, params, batch, jax.random.key(1))
    assert found == DROPOUT.get(text, [])


NEEDED = ("ROBUST_MANIFOLD_REFERENCE", "TFDS_DATA_DIR")


released = pytest.mark.skipif(
    not all(os.environ.get(name) for name in NEEDED),
    reason="set ROBUST_MANIFOLD_REFERENCE to the folder of convex_adversarial_mnist"
    ".npz and TFDS_DATA_DIR to that of a prepared mnist",
)


def weights_that_wong_and_kolter_released():
    """Returns their network for linf 0.1, its parameters, and MNIST's test digits."""
    folder = pathlib.Path(os.environ["ROBUST_MANIFOLD_REFERENCE"])
    state = weight_files.read(folder / "convex_adversarial_mnist.npz").table
    model, params = models.build("wong_cnn"), models.from_torch("wong_cnn", state)
    digits = data.load("tfds:mnist", data_dir=os.environ["TFDS_DATA_DIR"]).test
    images, labels = data.to_float(digits.images), jnp.asarray(digits.labels)
    assert len(images) == 10_000
    return model, params, images, labels


@pytest.mark.slow
@released
def test_errors_of_the_weights_that_wong_and_kolter_released():
    """1.80 % clean; under FGSM with linf 0.1 3.93 %, or 3.90 % with pixels clipped."""
    model, params, images, labels = weights_that_wong_and_kolter_released()

    @jax.jit
    def error(images):
        """Returns the share of errors in percent, to the second digit."""
        wrong = jnp.argmax(model.apply(params, images), axis=-1) != labels
        return jnp.sum(wrong) / 100

    @jax.jit
    @jax.grad
    def gradient(images):
        # Softplus of the margin is the cross-entropy, whose gradient underflows.
        return jnp.sum(jax.vmap(margin)(model.apply(params, images), labels))

    assert error(images) == pytest.approx(1.80, abs=1e-4)
    unclipped = images + 0.1 * jnp.sign(gradient(images))
    assert error(unclipped) == pytest.approx(3.93, abs=1e-4)
    crafted = attacks.craft(
        attacks.FGSM(0.1), model.apply, params, images, labels, key=jax.random.key(0)
    )
    assert error(jnp.asarray(crafted.images)) == pytest.approx(3.90, abs=1e-4)
    assert np.mean(crafted.success) == pytest.approx(0.0390, abs=1e-6)


@pytest.mark.slow
@released
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_on_the_weights_that_wong_and_kolter_released(random_start):
    """4.11 % were published for 100 steps without pixels clipped."""
    model, params, images, labels = weights_that_wong_and_kolter_released()
    attack = attacks.PGD(0.1, steps=40, step_size=0.01, random_start=random_start)
    crafted = attacks.craft(
        attack, model.apply, params, images, labels, key=jax.random.key(0)
    )
    assert 0.0403 <= np.mean(crafted.success) <= 0.0415
