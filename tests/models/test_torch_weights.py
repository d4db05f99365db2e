"""Weights converted from PyTorch give the outputs of the PyTorch network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from tests.models import torch_modules

DIGITS, FACES = (28, 28, 1), (64, 64, 3)

# Text and image shape: every architecture, every rule of padding, more channels than
# one, and sides that are not equal.
NETWORKS = [
    ("linear", (3, 4, 2)),
    ("small_cnn(width=3, hidden=8)", (9, 14, 3)),
    ("wong_cnn", DIGITS),
    ("madry_cnn", (8, 8, 2)),
    ("inc_mnist", (9, 9, 1)),
    ("inc_mnist", (8, 9, 1)),
    ("inc_celeba", (16, 12, 3)),
    ("defense_gan_a", (10, 9, 3)),
    ("defense_gan_b", DIGITS),
    ("defense_gan_c", (9, 10, 1)),
    ("defense_gan_d", (4, 3, 2)),
    ("defense_gan_e", (4, 3, 2)),
    ("defense_gan_f", (28, 30, 1)),
    *((f"dcgan_generator(width=2, kernel_size={k})", (24, 12, 3)) for k in range(2, 7)),
    ("dcgan_generator(width=2, batch_norm=True, kernel_size=5)", FACES),
    ("dcgan_generator(width=2, latent_size=3, conditional=True)", DIGITS),
    ("defense_gan_generator(width=4)", (28, 28, 3)),
    ("inc_generator(width=2)", DIGITS),
    ("vae_decoder(hidden=9)", (4, 3, 2)),
    ("vae_encoder(hidden=9)", (4, 3, 2)),
    ("mlp_generator(activation='leaky_relu')", (1, 1, 1)),
    ("mlp_generator(activation='relu')", (3, 2, 2)),
    ("mlp_discriminator", (3, 2, 2)),
    ("mlp_discriminator(activation='tanh')", (1, 1, 1)),
    ("conv_encoder(width=2)", DIGITS),
    *((f"dcgan_discriminator(width=2, kernel_size={k})", (28, 28, 3)) for k in (2, 3)),
    ("dcgan_discriminator(width=2, kernel_size=5, batch_norm=True)", FACES),
    ("defense_gan_discriminator(width=2)", DIGITS),
    ("inc_discriminator(width=2)", DIGITS),
]
LARGE = [("inc_celeba_generator", FACES), ("inc_celeba_discriminator", FACES)]
NO_SEQUENCE = {"codebook", "denoiser", "one_per_class", "residual_cnn"}


def draw(shapes, seed=0):
    """Returns a state dict that keeps the size of what passes through the layers."""
    random = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("running_var"):
            state[name] = random.uniform(0.5, 1.5, shape).astype(np.float32)
            continue
        state[name] = random.standard_normal(shape, np.float32)
        if len(shape) > 1:
            state[name] *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
    return state


def inputs_of(model):
    """Returns a batch for the model; a conditional one's latents choose classes."""
    random = np.random.default_rng(1)
    inputs = random.standard_normal((3, *model.input_shape), np.float32)
    if model.latent_classes:
        chosen = np.eye(model.latent_classes, dtype=np.float32)[[1, 0, 2]]
        inputs[:, -model.latent_classes :] = chosen
    # Local response normalisation changes large activations only.
    return inputs * 30 if inputs.shape[1:] == (16, 12, 3) else inputs


def channels_first(inputs):
    return inputs.transpose(0, 3, 1, 2) if inputs.ndim == 4 else inputs


def as_ours(text, layers, outputs):
    """Returns the outputs of a PyTorch network in the form that the model gives."""
    if outputs.ndim == 4:
        outputs = outputs.transpose(0, 2, 3, 1)
    if layers[-1] == "Tanh()":
        outputs = (outputs + 1) / 2
    return outputs[:, 0] if "discriminator" in text else outputs


def check_equal(outputs, expected):
    assert outputs.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(outputs / scale, expected / scale, atol=1e-5)


def test_every_architecture_is_here():
    names = {text.partition("(")[0] for text, _ in NETWORKS + LARGE}
    assert names | NO_SEQUENCE == set(models.registry.names)
    assert not names & NO_SEQUENCE


@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_outputs_are_those_of_the_pytorch_network(text, shape):
    build = {"spec": text, "image_shape": shape}
    state = draw(models.torch_table(**build))
    layers = models.torch_layers(**build)
    model = models.build(**build)
    inputs = inputs_of(model)
    expected = torch_modules.evaluate(layers, state, channels_first(inputs))
    params = models.from_torch(state_dict=state, **build)
    outputs = jax.jit(model.apply)(params, jnp.asarray(inputs))
    check_equal(outputs, as_ours(text, layers, expected))


@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_outputs_are_those_of_pytorch_itself(text, shape):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra bench")
    build = {"spec": text, "image_shape": shape}
    layers = models.torch_layers(**build)
    names = dict(vars(torch.nn))
    network = torch.nn.Sequential(*(eval(layer, names) for layer in layers))
    state = draw(models.torch_table(**build))
    network.load_state_dict({name: torch.tensor(a) for name, a in state.items()})
    model = models.build(**build)
    inputs = inputs_of(model)
    with torch.no_grad():
        expected = network.eval()(torch.tensor(channels_first(inputs))).numpy()
    stored = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    params = models.from_torch(state_dict=stored, **build)
    outputs = jax.jit(model.apply)(params, jnp.asarray(inputs))
    check_equal(outputs, as_ours(text, layers, expected))


@pytest.mark.parametrize(("text", "shape"), NETWORKS)
def test_to_torch_undoes_from_torch(text, shape):
    build = {"spec": text, "image_shape": shape}
    state = draw(models.torch_table(**build))
    back = models.to_torch(params=models.from_torch(state_dict=state, **build), **build)
    assert list(back) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize(("text", "shape"), LARGE)
def test_names_and_counts_of_the_large_networks(text, shape):
    table = models.torch_table(text, image_shape=shape)
    weights = [s for name, s in table.items() if name.endswith(".weight")]
    assert len(weights) == (9 if "generator" in text else 8)
    assert max(np.prod(s) for s in weights) == 5 * 5 * 1024 * 512


def test_the_names_of_wong_and_kolter():
    assert models.torch_table("wong_cnn") == {
        "0.weight": (16, 1, 4, 4),
        "0.bias": (16,),
        "2.weight": (32, 16, 4, 4),
        "2.bias": (32,),
        "5.weight": (100, 1568),
        "5.bias": (100,),
        "7.weight": (10, 100),
        "7.bias": (10,),
    }


def test_counters_of_batches_are_left_out():
    text = "dcgan_generator(width=2, batch_norm=True)"
    state = draw(models.torch_table(text))
    counted = state | {"2.num_batches_tracked": np.int64(7)}
    one, other = (models.from_torch(text, given) for given in (state, counted))
    assert models.to_table(one).keys() == models.to_table(other).keys()


def test_numbers_of_other_precision_are_rounded():
    state = draw(models.torch_table("linear"))
    double = {name: array.astype(np.float64) for name, array in state.items()}
    table = models.to_table(models.from_torch("linear", double))
    np.testing.assert_array_equal(
        table["params/Dense_0/kernel"], state["1.weight"].T.astype(np.float32)
    )


def test_one_message_lists_all_that_differs():
    state = draw(models.torch_table("wong_cnn"))
    state["conv1.weight"] = state.pop("0.weight")
    state["2.bias"] = state["2.bias"][:5]
    state["7.bias"] = state["7.bias"].astype(np.int32)
    with pytest.raises(UsageError) as raised:
        models.from_torch("wong_cnn", state)
    assert str(raised.value) == (
        "The weights do not fit the PyTorch network of 'wong_cnn'; "
        "missing: 0.weight (16, 1, 4, 4); "
        "unexpected: conv1.weight (16, 1, 4, 4); "
        "of another shape: 2.bias (5,) instead of (32,); "
        "of another type: 7.bias int32 instead of floats."
    )


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.net."])
@pytest.mark.parametrize("more", [{}, {"mean": np.zeros(3, np.float32)}])
def test_a_wrapper_is_named_by_its_prefix(prefix, more):
    state = draw(models.torch_table("wong_cnn"))
    wrapped = {prefix + name: array for name, array in state.items()}
    with pytest.raises(UsageError) as raised:
        models.from_torch("wong_cnn", wrapped | more)
    message = str(raised.value)
    assert f"names begin with {prefix!r}, as torch.nn.DataParallel" in message
    assert "missing" not in message and message.endswith("off the names.")


@pytest.mark.parametrize(
    "text", ["residual_cnn", "dcgan_discriminator(spectral_norm=True)"]
)
def test_what_is_no_sequence_is_refused(text):
    with pytest.raises(UsageError, match="is '.*', which is no plain sequence"):
        models.torch_table(text, image_shape=(32, 32, 3))


def test_images_that_the_network_does_not_take():
    with pytest.raises(UsageError, match="image_shape of inc_generator is"):
        models.torch_table("inc_generator", image_shape=(32, 32, 1))
