"""A live PyTorch module: what it is handed, what it may be, and what is told of it."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import adapters, attacks, models
from robust_manifold.core.errors import UsageError
from tests.models import torch_modules

KEY = jax.random.key(0)
SHAPE = (4, 5, 3)
IMAGES = np.random.default_rng(0).uniform(size=(6, *SHAPE)).astype(np.float32)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


class Table:
    """A state dict of `small_cnn`, without PyTorch."""

    spec = "small_cnn(width=2)"
    shape = (8, 8, 1)

    @classmethod
    def arrays(cls):
        draw = np.random.default_rng(0)
        shapes = models.torch_table(cls.spec, image_shape=cls.shape, classes=3)
        return {
            name: draw.normal(size=shape).astype(np.float32)
            for name, shape in shapes.items()
        }


def test_a_state_dict_becomes_the_network_in_jax():
    arrays = Table.arrays()
    apply, params = adapters.from_torch(
        arrays, image_shape=Table.shape, spec=Table.spec, classes=3
    )
    image = np.random.default_rng(1).uniform(size=Table.shape)
    layers = models.torch_layers(Table.spec, image_shape=Table.shape, classes=3)
    expected = torch_modules.evaluate(layers, arrays, image.transpose(2, 0, 1)[None])[0]
    np.testing.assert_allclose(
        apply(params, jnp.asarray(image, jnp.float32)), expected, rtol=1e-4
    )


def test_a_state_dict_of_tensors(torch):
    tensors = {name: torch.tensor(array) for name, array in Table.arrays().items()}
    given = {"image_shape": Table.shape, "spec": Table.spec, "classes": 3}
    same = adapters.from_torch(Table.arrays(), **given)
    jax.tree.map(
        np.testing.assert_array_equal,
        adapters.from_torch(tensors, **given).params,
        same.params,
    )


def test_a_state_dict_alone_is_told():
    with pytest.raises(UsageError, match="a state dict; allowed: one with spec="):
        adapters.from_torch({}, image_shape=SHAPE)


def linear(torch, classes=3):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(60, classes)).eval()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (lambda torch: torch.nn.Identity(), "gives (2, 3, 4, 5) for 2 images"),
        (lambda torch: linear(torch, 1), "gives (2, 1) for 2 images"),
        (
            lambda torch: torch.nn.Linear(7, 3),
            "fails on a batch of 2 images of shape (3, 4, 5), from image_shape "
            "(4, 5, 3) with channels last",
        ),
        (lambda torch: Function(torch, lambda x: {"logits": x}), "gives a dict"),
        (lambda torch: Function(torch, lambda x: x[0, 0]), "gives (4, 5)"),
        (
            lambda torch: Function(torch, lambda x: x.flatten(1).argsort()),
            "gives torch.int64",
        ),
    ],
)
def test_an_output_that_is_no_logits(torch, module, words):
    with pytest.raises(UsageError) as error:
        adapters.from_torch(module(torch).eval(), image_shape=SHAPE)
    text = str(error.value)
    assert text.startswith("module ") and words in text
    assert "allowed: logits [2, classes], of 2 classes or more" in text


def Function(torch, function):
    """Returns a module of a function."""

    class Module(torch.nn.Module):
        def forward(self, images):
            return function(images)

    return Module()


def test_other_mistakes_are_told(torch):
    module = linear(torch)
    with pytest.raises(UsageError, match="allowed: a PyTorch module"):
        adapters.from_torch(lambda images: images, image_shape=SHAPE)
    with pytest.raises(UsageError, match="spec is given; allowed: with a state dict"):
        adapters.from_torch(module, image_shape=SHAPE, spec="linear")
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    with pytest.raises(UsageError, match=r"has the shape \(3, 4, 5\); allowed"):
        apply(params, jnp.ones((3, 4, 5)))
    module.train()
    with pytest.raises(jax.errors.JaxRuntimeError, match="module.training is True by"):
        jax.block_until_ready(apply(params, jnp.asarray(IMAGES[0])))


def test_all_images_are_one_call(torch):
    sizes = []

    def counted(images):
        sizes.append(len(images))
        return images.flatten(1)[:, :4]

    module = Function(torch, counted).eval()
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    sizes.clear()
    logits = jax.jit(jax.vmap(apply, (None, 0)))(params, IMAGES)
    np.testing.assert_array_equal(
        logits, IMAGES.transpose(0, 3, 1, 2).reshape(6, -1)[:, :4]
    )
    assert sizes == [6]
    sizes.clear()
    jax.block_until_ready(
        jax.vmap(jax.value_and_grad(lambda image: apply(params, image)[0]))(IMAGES)
    )
    assert sizes == [6, 6]


def test_where_jax_computes_on_no_cpu(torch, monkeypatch):
    def default(*arrays, cpu, default):
        return default(*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", default)
    module = linear(torch)
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    first = torch.tensor(IMAGES).permute(0, 3, 1, 2)
    many = jax.jit(jax.vmap(apply, (None, 0)))(params, IMAGES)
    np.testing.assert_allclose(many, module(first).detach(), rtol=1e-5)
    gradient = jax.grad(lambda image: apply(params, image)[1])(jnp.asarray(IMAGES[0]))
    weights = module[1].weight[1].detach().numpy().reshape(3, 4, 5)
    np.testing.assert_allclose(gradient, weights.transpose(1, 2, 0), rtol=1e-6)


@pytest.mark.parametrize("name", ["float64", "bfloat16", "float16"])
def test_weights_of_another_precision(torch, name):
    module = linear(torch).to(getattr(torch, name))
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    first = torch.tensor(IMAGES).permute(0, 3, 1, 2).to(getattr(torch, name))
    logits = jax.vmap(apply, (None, 0))(params, IMAGES)
    assert logits.dtype == jnp.float32
    with torch.no_grad():
        expected = module(first).float().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    gradient = jax.grad(lambda image: apply(params, image)[1])(jnp.asarray(IMAGES[0]))
    weights = module[1].weight[1].detach().float().numpy()
    expected = weights.reshape(3, 4, 5).transpose(1, 2, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["detached", "unused"])
def test_a_module_without_a_gradient_has_zeros(torch, kind):
    weight = torch.nn.Parameter(torch.ones(60, 3))

    def detached(images):
        return images.detach().flatten(1) @ weight.detach()

    def unused(images):
        return images.detach().flatten(1) @ weight

    module = Function(torch, {"detached": detached, "unused": unused}[kind]).eval()
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    gradient = jax.grad(lambda image: apply(params, image)[0])(jnp.asarray(IMAGES[0]))
    np.testing.assert_array_equal(gradient, np.zeros(SHAPE))


def test_a_first_layer_that_works_in_place(torch):
    layers = torch.nn.ReLU(inplace=True), torch.nn.Flatten(), torch.nn.Linear(60, 3)
    apply, params = adapters.from_torch(
        torch.nn.Sequential(*layers).eval(), image_shape=SHAPE
    )
    image = jnp.asarray(IMAGES[0] - 0.5)
    gradient = jax.grad(lambda image: apply(params, image)[1])(image)
    weights = layers[2].weight[1].detach().numpy().reshape(3, 4, 5)
    expected = np.where(image > 0, weights.transpose(1, 2, 0), 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)
    np.testing.assert_array_equal(image, IMAGES[0] - 0.5)


def test_weights_get_no_gradients(torch):
    module = linear(torch)
    apply, params = adapters.from_torch(module, image_shape=SHAPE)
    jax.grad(lambda image: apply(params, image)[0])(jnp.asarray(IMAGES[0]))
    assert all(weight.grad is None for weight in module.parameters())


def test_attacks_beside_pgd(torch):
    classifier = adapters.from_torch(linear(torch), image_shape=SHAPE)
    labels = np.argmax(jax.vmap(classifier.apply, (None, 0))((), IMAGES), axis=-1)
    weights = np.asarray(linear(torch)[1].weight.detach())
    logits = np.asarray(jax.vmap(classifier.apply, (None, 0))((), IMAGES))
    # Of a linear network the distance of the nearest image is known, but for the box.
    distances = []
    for row, label in zip(logits, labels, strict=True):
        gaps = [
            (row[label] - row[k]) / np.linalg.norm(weights[label] - weights[k])
            for k in range(3)
            if k != label
        ]
        distances.append(min(gaps))
    crafted = attacks.craft(attacks.DeepFool(), *classifier, IMAGES, labels, key=KEY)
    assert crafted.success.all()
    assert (crafted.distance >= np.array(distances) - 1e-4).all()
    np.testing.assert_allclose(crafted.distance, distances, rtol=0.2)


PROGRAM = """
import jax, numpy as np, torch
from robust_manifold import adapters
module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12288, 3)).eval()
apply, params = adapters.from_torch(module, image_shape=(64, 64, 3))
images = np.ones((64, 64, 64, 3), np.float32)
grad = jax.jit(jax.vmap(jax.grad(lambda image: apply(params, image)[0])))
# Several at once, none awaited.
print(sum(float(found.sum()) != 0 for found in [grad(images) for _ in range(4)]))
"""


def ran(program, **environment):
    """Returns what a program prints, and with what error it ended."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux alone has it")
def test_on_one_core_nothing_waits_for_ever(torch):
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    result = ran(one + PROGRAM)
    assert result.stdout.strip() == "4", result.stderr


def test_on_several_devices(torch):
    program = PROGRAM.replace(
        "print",
        "from jax.sharding import Mesh, NamedSharding, PartitionSpec\n"
        "mesh = Mesh(np.array(jax.devices()), ('data',))\n"
        "spread = NamedSharding(mesh, PartitionSpec('data'))\n"
        "draw = np.random.default_rng(0).uniform(size=(8, 64, 64, 3))\n"
        "images = jax.device_put(draw.astype(np.float32), spread)\n"
        "many = jax.jit(jax.vmap(apply, (None, 0)))\n"
        "first = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2)\n"
        "own = module(first).detach().numpy()\n"
        "np.testing.assert_allclose(many(params, images), own, rtol=1e-4)\n"
        "print",
    )
    flags = os.environ.get("XLA_FLAGS", "")
    result = ran(program, XLA_FLAGS=f"{flags} --xla_force_host_platform_device_count=4")
    assert result.stdout.strip() == "4", result.stderr
