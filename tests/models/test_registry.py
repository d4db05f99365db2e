"""Every registered model keeps the contract of `Model`."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.models import model as module

DIGITS, FACES, NUMBERS = (28, 28, 1), (64, 64, 3), (1, 1, 1)


def _dense(inputs, outputs):
    return inputs * outputs + outputs


def _conv(kernel, inputs, outputs):
    return kernel**2 * inputs * outputs + outputs


def _residual(inputs, outputs):
    """Two normalised 3x3 convolutions without biases, and a 1x1 shortcut."""
    shortcut = 0 if inputs == outputs else inputs * outputs
    return 9 * (inputs + outputs) * outputs + shortcut + 2 * (inputs + outputs)


_B = _conv(8, 1, 64) + _conv(6, 64, 128) + _conv(5, 128, 128) + _dense(128, 10)
_D = _dense(784, 200) + _dense(200, 200) + _dense(200, 10)

# Text, image shape, parameters counted by hand.
PUBLISHED = {
    "linear": (DIGITS, _dense(784, 10)),
    "codebook": (DIGITS, 10 * 100 * 784),
    "small_cnn": (
        DIGITS,
        _conv(5, 1, 16) + _conv(5, 16, 32) + _dense(7 * 7 * 32, 128) + _dense(128, 10),
    ),
    "wong_cnn": (
        DIGITS,
        _conv(4, 1, 16) + _conv(4, 16, 32) + _dense(7 * 7 * 32, 100) + _dense(100, 10),
    ),
    "madry_cnn": (DIGITS, 3_274_634),
    "inc_mnist": (
        DIGITS,
        _conv(5, 1, 64)
        + _dense(14 * 14 * 64, 384)
        + _dense(384, 192)
        + _dense(192, 10),
    ),
    "inc_celeba": (
        FACES,
        _conv(5, 3, 64)
        + _conv(5, 64, 64)
        + _dense(16 * 16 * 64, 384)
        + _dense(384, 192)
        + _dense(192, 10),
    ),
    "defense_gan_a": (
        DIGITS,
        _conv(5, 1, 64)
        + _conv(5, 64, 64)
        + _dense(12 * 12 * 64, 128)
        + _dense(128, 10),
    ),
    "defense_gan_b": (DIGITS, _B),
    "defense_gan_c": (
        DIGITS,
        _conv(3, 1, 128)
        + _conv(5, 128, 64)
        + _dense(12 * 12 * 64, 128)
        + _dense(128, 10),
    ),
    "defense_gan_d": (DIGITS, _D),
    "defense_gan_e": (DIGITS, _D),
    "defense_gan_f": (DIGITS, _B),
    "dcgan_generator": (
        DIGITS,
        _dense(64, 7 * 7 * 128) + _conv(4, 128, 64) + _conv(4, 64, 1),
    ),
    "inc_generator": (
        DIGITS,
        _dense(32, 4 * 4 * 128)
        + _conv(5, 128, 64)
        + _conv(5, 64, 32)
        + _conv(5, 32, 1),
    ),
    "inc_celeba_generator": (
        FACES,
        _dense(100, 4 * 4 * 1024)
        + _conv(5, 1024, 512)
        + _conv(5, 512, 256)
        + _conv(5, 256, 128)
        + _conv(5, 128, 3)
        + 2 * (1024 + 512 + 256 + 128),
    ),
    "defense_gan_generator": (
        DIGITS,
        _dense(128, 4 * 4 * 256)
        + _conv(5, 256, 128)
        + _conv(5, 128, 64)
        + _conv(5, 64, 1),
    ),
    "vae_decoder": (DIGITS, _dense(20, 500) + _dense(500, 500) + _dense(500, 784)),
    "vae_encoder": (DIGITS, _dense(784, 500) + _dense(500, 40)),
    "dcgan_discriminator": (
        DIGITS,
        _conv(4, 1, 64) + _conv(4, 64, 128) + _dense(7 * 7 * 128, 1),
    ),
    "inc_discriminator": (
        DIGITS,
        _conv(5, 1, 32) + _conv(5, 32, 64) + _conv(5, 64, 128) + _dense(16 * 128, 1),
    ),
    "inc_celeba_discriminator": (
        FACES,
        _conv(5, 3, 128)
        + _conv(5, 128, 256)
        + _conv(5, 256, 512)
        + _conv(5, 512, 1024)
        + _dense(16 * 1024, 1)
        + 2 * (256 + 512 + 1024),
    ),
    "defense_gan_discriminator": (
        DIGITS,
        _conv(5, 1, 64) + _conv(5, 64, 128) + _conv(5, 128, 256) + _dense(16 * 256, 1),
    ),
    "conv_encoder": (
        DIGITS,
        _conv(4, 1, 64) + _conv(4, 64, 128) + _dense(7 * 7 * 128, 128),
    ),
    "denoiser": (
        DIGITS,
        # Each convolution sees the level as one more channel.
        _conv(3, 5, 32)
        + 4 * _conv(3, 33, 32)
        + _conv(3, 33, 64)
        + 2 * _conv(3, 65, 64)
        + _dense(7 * 7 * 64, 64)
        + _dense(64, 7 * 7 * 16)
        + _dense(64 + 16, 128)
        + _dense(32, 4),
    ),
    "mlp_generator": (NUMBERS, _dense(1, 32) + _dense(32, 32) + _dense(32, 1)),
    "mlp_discriminator": (NUMBERS, _dense(1, 32) + _dense(32, 32) + _dense(32, 1)),
    "one_per_class": (
        DIGITS,
        10 * (_dense(8, 500) + _dense(500, 500) + _dense(500, 784)),
    ),
    "residual_cnn": (
        FACES,
        9 * 3 * 32
        + 2 * _residual(32, 32)
        + _residual(32, 64)
        + _residual(64, 64)
        + _residual(64, 128)
        + _residual(128, 128)
        + 2 * 128
        + _dense(128, 10),
    ),
}
# Other members of the configurable families; their counts need no table.
VARIANTS = {
    "dcgan_generator(latent_size=5, width=4, batch_norm=True)": DIGITS,
    "dcgan_generator(width=2)": FACES,
    "dcgan_discriminator(width=2, batch_norm=True, spectral_norm=True)": FACES,
    "inc_discriminator(width=2, spectral_norm=True)": DIGITS,
    "conv_encoder(latent_size=3, width=2, batch_norm=True)": FACES,
    "conv_encoder(latent_size=3, width=2, kernel_size=5)": (32, 32, 3),
    "small_cnn(width=4, hidden=8, dropout=0.0)": (8, 8, 3),
    "residual_cnn(width=2, blocks=1, dropout=0.5)": (16, 19, 1),
    "vae_decoder(latent_size=3, hidden=7, conditional=True)": (5, 6, 2),
    "mlp_discriminator(hidden=8, layers=1, spectral_norm=True)": (2, 3, 1),
}
# What holds for these is tested on their small relatives, to spare time.
LARGE = {"inc_celeba_generator", "inc_celeba_discriminator", "residual_cnn"}
EVERY = {text: shape for text, (shape, _) in PUBLISHED.items()} | VARIANTS
QUICK = {text: shape for text, shape in EVERY.items() if text not in LARGE}


@functools.cache
def ready(text):
    """The model with parameters of the shapes of its own, quick to draw."""
    model = models.build(text, image_shape=EVERY[text])
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    random = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(
            random.uniform(0.1, 0.2, leaf.shape) * random.choice([-1, 1], leaf.shape)
            if leaf.ndim > 1
            else random.uniform(0.1, 0.2, leaf.shape),
            leaf.dtype,
        ),
        shapes,
    )
    return model, params


def inputs_of(model, n):
    return jax.random.uniform(jax.random.key(1), (n, *model.input_shape))


def test_the_table_names_every_registered_model():
    assert sorted(PUBLISHED) == models.registry.names


@pytest.mark.parametrize("text", PUBLISHED)
def test_parameter_counts_of_the_published_networks(text):
    shape, count = PUBLISHED[text]
    model = models.build(text, image_shape=shape)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert models.count_parameters(params) == count


@pytest.mark.parametrize("text", EVERY)
def test_shapes_of_inputs_and_outputs(text):
    spec = models.registry.build(text)
    model = models.build(text, image_shape=EVERY[text])
    image = EVERY[text]
    if isinstance(spec, models.GeneratorSpec):
        expected = (spec.latent_size + 10 * spec.conditional,), image
    elif isinstance(spec, models.DiscriminatorSpec):
        expected = image, ()
    elif isinstance(spec, models.EncoderSpec):
        expected = image, (2 * spec.latent_size,)
    elif isinstance(spec, models.DenoiserSpec):
        # The level of the noise is one more channel.
        expected = (*image[:2], image[2] + 1), image
    else:
        assert isinstance(spec, models.ClassifierSpec)
        expected = image, (10,)
    assert (model.input_shape, model.output_shape) == expected


class Results(NamedTuple):
    """What one compiled program computes: compiling is what these tests cost."""

    batch: Array
    one: Array
    mapped: Array
    nested: Array
    features: Array
    trained: Array
    updated: Params


def program_of(model):
    @jax.jit
    def program(params, inputs, key):
        nested = inputs.reshape(2, 2, *model.input_shape)
        return Results(
            model.apply(params, inputs),
            model.apply(params, inputs[1]),
            jax.vmap(model.apply, (None, 0))(params, inputs),
            model.apply(params, nested),
            model.features(params, inputs),
            *model.train(params, inputs, key),
        )

    return program


@pytest.mark.parametrize("text", sorted(set(QUICK) - {"codebook"}))
def test_the_contract_of_a_model(text):
    model, params = ready(text)
    program = program_of(model)
    inputs = inputs_of(model, 4)
    results = program(params, inputs, jax.random.key(3))
    one_example_a_batch_and_vmap_agree(model, results)
    # Each class, or each place of the image, has a last layer of its own.
    if text not in ("one_per_class", "denoiser"):
        features_enter_the_last_dense_layer(text, params, results)
    training_mode_draws_dropout_and_updates_statistics_only(
        text, params, results, program(params, inputs, jax.random.key(4))
    )
    if text in GENERATORS:
        latents = 100 * jax.random.normal(jax.random.key(2), inputs.shape)
        pixels_stay_in_range(program(params, latents, jax.random.key(3)).batch)


def one_example_a_batch_and_vmap_agree(model, results):
    batch = results.batch
    assert batch.shape == (4, *model.output_shape)
    assert results.nested.shape == (2, 2, *model.output_shape)
    scale = float(jnp.max(jnp.abs(batch)))
    assert scale > 0 and not (batch[0] == batch[1]).all()
    for ours, theirs in (
        (results.one, batch[1]),
        (results.mapped, batch),
        (results.nested.reshape(batch.shape), batch),
    ):
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=1e-5)


def features_enter_the_last_dense_layer(text, params, results):
    names = [name for name in params["params"] if name.startswith("Dense_")]
    last = params["params"][max(names)]
    assert results.features.shape == (4, last["kernel"].shape[0])
    # Generators go on from there; spectral normalisation divides the kernel.
    if text.split("(")[0] not in GENERATOR_NAMES and "spectral_norm" not in text:
        outputs = results.features @ last["kernel"] + last["bias"][None]
        outputs = outputs.reshape(results.batch.shape)
        scale = float(jnp.max(jnp.abs(outputs)))
        np.testing.assert_allclose(results.batch / scale, outputs / scale, atol=1e-5)


DROPOUT = {"small_cnn", *(f"defense_gan_{letter}" for letter in "abcd")}


def training_mode_draws_dropout_and_updates_statistics_only(
    text, params, results, other
):
    dropout = text in DROPOUT or "dropout=0.5" in text
    assert (results.trained == other.trained).all() != dropout
    updated = results.updated
    jax.tree.map(np.testing.assert_array_equal, updated["params"], params["params"])
    assert jax.tree.structure(updated) == jax.tree.structure(params)
    normalised = "_norm=True" in text or text.startswith("residual_cnn")
    assert ("batch_stats" in params) == normalised
    if normalised:
        for old, new in zip(
            jax.tree.leaves(params["batch_stats"]),
            jax.tree.leaves(updated["batch_stats"]),
            strict=True,
        ):
            # The direction of a single output is 1 or -1 from the start.
            assert (old != new).any() or old.shape == (1, 1)
    elif not dropout:
        np.testing.assert_allclose(results.trained, results.batch, rtol=1e-5, atol=1e-5)


GENERATOR_NAMES = {
    name
    for name in models.registry.names
    if issubclass(models.registry[name], models.GeneratorSpec)  # type: ignore[arg-type]
}
# The outputs of `mlp_generator` have no bounds.
GENERATORS = {
    text for text in QUICK if text.split("(")[0] in GENERATOR_NAMES - {"mlp_generator"}
}


def pixels_stay_in_range(images):
    assert 0 <= images.min() and images.max() <= 1
    # Both ends are reached: nothing but the squashing bounds the pixels.
    assert images.min() < 0.01 and images.max() > 0.99


@pytest.mark.parametrize("text", ["dcgan_discriminator", "inc_celeba_discriminator"])
def test_only_the_discriminator_of_faces_has_batch_statistics(text):
    model = models.build(text, image_shape=FACES)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert ("batch_stats" in params) == (text == "inc_celeba_discriminator")


def test_dropout_zeroes_the_share_it_names():
    """Classifier D's only dropout is 0.5: half the hidden units scale by two."""
    model, params = ready("defense_gan_d")
    params = jax.tree.map(jnp.zeros_like, params)
    weights = params["params"]
    weights["Dense_0"]["bias"] += 1.0
    weights["Dense_1"]["kernel"] += 1 / 200
    weights["Dense_2"]["kernel"] += 1 / 200
    outputs, _ = model.train(params, inputs_of(model, 500), jax.random.key(0))
    assert abs(float(outputs.mean()) - 1) < 0.01  # kept in expectation
    # Mean of 200 units that are 0 or 2: standard deviation 1 / sqrt(200).
    assert abs(float(outputs[:, 0].std()) * 200**0.5 - 1) < 0.1


def test_init_is_a_function_of_its_key_and_starts_as_documented():
    model = models.build("dcgan_generator(width=16, batch_norm=True)")
    params = model.init(jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, params, model.init(jax.random.key(0)))
    other = model.init(jax.random.key(1))["params"]
    kernel = params["params"]["Dense_0"]["kernel"]
    assert (kernel != other["Dense_0"]["kernel"]).any()
    assert abs(float(kernel.std()) - 0.02) < 0.001
    scale = params["params"]["BatchNorm_0"]["scale"]
    assert abs(float(scale.mean()) - 1) < 0.02 and 0.005 < float(scale.std()) < 0.04


def test_equal_arguments_give_the_same_model():
    model = models.build("small_cnn(width=4)", image_shape=[28, 28, 1])
    assert model is models.build(models.registry.build("small_cnn( 4 )"))
    assert model is not models.build("small_cnn(width=4)", classes=9)
    assert model is not models.build("small_cnn(width=5)")
    # The number of classes is nothing to a generator.
    assert models.build("inc_generator") is models.build("inc_generator", classes=2)


def test_classes_are_the_logits():
    assert models.build("linear", classes=3).output_shape == (3,)


def test_linear_is_linear_in_the_pixels():
    model, params = ready("linear")
    x, y = inputs_of(model, 2)
    weights = params["params"]["Dense_0"]
    expected = x.reshape(-1) @ weights["kernel"] + weights["bias"]
    np.testing.assert_allclose(model.apply(params, x), expected, rtol=1e-5)
    middle = model.apply(params, (x + y) / 2)
    ends = (model.apply(params, x) + model.apply(params, y)) / 2
    np.testing.assert_allclose(middle, ends, atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "dcgan_generator(latent_size=0)",
        "dcgan_generator(width=0)",
        "dcgan_generator(kernel_size=1)",
        "inc_generator(width=0)",
        "inc_celeba_generator(latent_size=-1)",
        "vae_decoder(hidden=0)",
        "vae_encoder(latent_size=0)",
        "vae_encoder(hidden=-2)",
        "dcgan_discriminator(width=0)",
        "dcgan_discriminator(kernel_size=0)",
        "defense_gan_discriminator(width=-1)",
        "small_cnn(width=0)",
        "small_cnn(hidden=0)",
        "small_cnn(dropout=1.0)",
        "small_cnn(width=2.5)",
        "dcgan_discriminator(batch_norm=1)",
        "dcgan_discriminator(spectral_norm=1)",
        "dcgan_generator(conditional=1)",
        "conv_encoder(latent_size=0)",
        "conv_encoder(width=0)",
        "conv_encoder(kernel_size=1)",
        "mlp_generator(latent_size=0)",
        "mlp_generator(hidden=0)",
        "mlp_generator(layers=0)",
        "mlp_generator(activation='sine')",
        "mlp_discriminator(hidden=0)",
        "mlp_discriminator(layers=0)",
        "mlp_discriminator(activation='sine')",
        "denoiser(width=0)",
        "denoiser(bottleneck=0)",
        "denoiser(deviation=0.0)",
        "denoiser(mean=2.0)",
        "residual_cnn(width=0)",
        "residual_cnn(blocks=0)",
        "residual_cnn(dropout=1.0)",
    ],
)
def test_fields_are_checked(text):
    field = text.split("(")[1].split("=")[0]
    with pytest.raises(UsageError, match=field):
        models.build(text)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("dcgan_generator", (30, 30, 1)),
        ("dcgan_generator", (28, 56, 1)),
        ("dcgan_discriminator", (7, 7, 1)),
        ("inc_generator", (32, 32, 1)),
        ("inc_celeba_generator", (28, 28, 1)),
        ("inc_celeba_discriminator", (28, 28, 3)),
        ("inc_discriminator", (64, 64, 3)),
        ("defense_gan_generator", (28, 32, 1)),
        ("defense_gan_discriminator", (64, 64, 1)),
        ("defense_gan_a", (4, 28, 1)),
        ("defense_gan_b", (26, 28, 1)),
        ("defense_gan_c", (28, 4, 1)),
        ("defense_gan_f", (26, 26, 1)),
        ("conv_encoder", (30, 30, 1)),
        ("denoiser", (28, 30, 1)),
        ("residual_cnn", (15, 28, 1)),
        ("linear", (28, 28)),
        ("linear", (28, 0, 1)),
    ],
)
def test_unsupported_images_are_refused_by_name(text, shape):
    with pytest.raises(UsageError, match=r"image_shape .*; allowed: ") as error:
        models.build(text, image_shape=shape)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("side", [27, 28])
def test_classifier_b_takes_the_smallest_side_it_names(side):
    model = models.build("defense_gan_b", image_shape=(side, side, 1))
    assert model.output_shape == (10,)


def test_other_misuse():
    with pytest.raises(UsageError, match="madry_cnn"):
        models.build("madry_cn")
    with pytest.raises(UsageError, match="classes is 1"):
        models.build("linear", classes=1)
    model, params = ready("linear")
    for shape in [(28, 28), (28, 28, 3), (2, 28, 27, 1), (784,)]:
        with pytest.raises(UsageError, match="inputs of a model"):
            model.apply(params, jnp.zeros(shape))
    with pytest.raises(UsageError, match="inputs in training"):
        model.train(params, jnp.zeros(DIGITS), jax.random.key(0))
    with pytest.raises(NotImplementedError):
        module.ModelSpec().module(DIGITS, 10)


def test_the_sentence_on_sides_is_true():
    """The rule of the strided networks, as its error gives it, on all small sizes."""

    def fits(height, width):
        return any(
            all(side % k == 0 and 3 <= side // k <= 8 for side in (height, width))
            for k in (2, 4, 8, 16)
        )

    for height in range(1, 70):
        for width in range(1, 70):
            shape = (height, width, 1)
            try:
                models.build(
                    "dcgan_generator(latent_size=2, width=1)", image_shape=shape
                )
                built = True
            except UsageError as error:
                assert "3 to 8 times the same one of 2, 4, 8, ..." in str(error)
                built = False
            assert built == fits(height, width), shape
