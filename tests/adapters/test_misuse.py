"""What an adapter says of a model that is not what it takes."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from robust_manifold import adapters
from robust_manifold.core.errors import UsageError
from tests.adapters.networks import KEY

IMAGE = jnp.ones((4, 5, 1))


def refusal(call, *arguments, **options):
    with pytest.raises(UsageError) as error:
        # Without the checks of types that tests alone have.
        getattr(call, "__wrapped__", call)(*arguments, **options)
    assert "allowed: " in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("module", "package", "call"),
    [
        ("equinox", "equinox", lambda: adapters.from_equinox(None)),
        ("haiku", "dm-haiku", lambda: adapters.from_haiku(None, {})),
        ("torch", "torch", lambda: adapters.from_torch(None, image_shape=(8, 8, 1))),
    ],
)
def test_a_framework_that_is_not_installed(monkeypatch, module, package, call):
    # So importing it fails.
    monkeypatch.setitem(sys.modules, module, None)
    assert refusal(call) == (
        f"{module} is not installed; allowed: this adapter after pip install {package}."
    )


def test_another_kind_of_model():
    assert "allowed: a Flax Linen module" in refusal(adapters.from_linen, 3, {})
    assert "allowed: a Flax NNX module" in refusal(adapters.from_nnx, linen.Dense(3))
    assert "is of type Linear" in refusal(
        adapters.from_linen, nnx.Linear(2, 3, rngs=nnx.Rngs(0)), {}
    )


def test_variables_of_linen():
    dense = linen.Dense(3)
    variables = dense.init(KEY, jnp.ones((1, 4)))
    text = refusal(adapters.from_linen, dense, variables["params"])
    assert text.startswith("variables hold ['bias', 'kernel']; allowed: what module")
    assert "<class 'list'>" in refusal(adapters.from_linen, dense, [1.0])


class Named(linen.Module):
    """Its argument tells training from inference, and is True by default."""

    name_of: str

    def setup(self):
        self.dropout = linen.Dropout(0.9)
        self.dense = linen.Dense(3)

    def run(self, images, inference):
        images = self.dropout(images, deterministic=inference)
        return self.dense(images.reshape(len(images), -1))


def named(name, inference):
    """Returns a Linen module that takes the argument `name`, `inference` for that."""
    source = (
        f"def __call__(self, images, {name}={not inference}):\n"
        f"    return self.run(images, {name} is {inference})\n"
    )
    scope = {}
    exec(source, scope)
    return type("Network", (Named,), {"__call__": scope["__call__"]})(name)


@pytest.mark.parametrize(
    ("name", "inference"),
    [
        ("train", False),
        ("training", False),
        ("is_training", False),
        ("is_train", False),
        ("deterministic", True),
        ("use_running_average", True),
        ("inference", True),
    ],
)
def test_the_argument_that_tells_training_from_inference_is_set(name, inference):
    network = named(name, inference)
    variables = network.init(KEY, IMAGE[None], inference)
    apply, params = adapters.from_linen(network, variables)
    expected = network.apply(variables, IMAGE[None], inference)[0]
    np.testing.assert_array_equal(apply(params, IMAGE), expected)
    given = adapters.from_linen(network, variables, **{name: not inference})
    assert "needs PRNG" in refusal(given.apply, params, IMAGE)


def test_the_user_s_nnx_model_stays_as_it_is():
    class Network(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
            self.calls = nnx.Variable(jnp.zeros(()))

        def __call__(self, images):
            self.calls[...] += 1
            return self.norm(images).reshape(len(images), -1)

    network = Network()
    network.eval()
    apply, params = adapters.from_nnx(network)
    before = np.asarray(apply(params, IMAGE))
    jax.jit(jax.vmap(jax.grad(lambda image: apply(params, image)[0])))(IMAGE[None])
    assert network.calls[...] == 0
    # What becomes of the model later is not the classifier's.
    network.norm.bias[...] += 1.0
    np.testing.assert_array_equal(apply(params, IMAGE), before)
    assert adapters.from_nnx(network).apply == apply


def test_an_nnx_model_with_transformations_of_its_own():
    class Network(nnx.Module):
        def __init__(self):
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))
            self.dense = nnx.Linear(20, 3, rngs=nnx.Rngs(0))

        @nnx.jit
        def __call__(self, images):
            return self.dense(self.dropout(images.reshape(len(images), -1)))

    network = Network()
    text = refusal(adapters.from_nnx, network)
    assert "(model.dropout.deterministic is False)" in text
    network.eval()
    apply, params = adapters.from_nnx(network)
    grad = jax.jit(jax.vmap(jax.grad(lambda image: apply(params, image)[1])))
    np.testing.assert_allclose(
        grad(IMAGE[None]).reshape(-1), network.dense.kernel[:, 1], rtol=1e-6
    )


def test_equinox():
    eqx = pytest.importorskip("equinox", reason="equinox is not installed")
    assert "an Equinox module" in refusal(adapters.from_equinox, jnp.sin)
    flat = eqx.nn.Lambda(jnp.ravel)
    with_dropout = eqx.nn.Sequential([flat, eqx.nn.Dropout(0.5)])
    text = refusal(adapters.from_equinox, with_dropout)
    assert "(model.layers[1].inference is False)" in text
    apply, params = adapters.from_equinox(eqx.nn.inference_mode(with_dropout))
    np.testing.assert_array_equal(apply(params, IMAGE), np.ones(20))

    class Stateless(eqx.Module):
        def __call__(self, image, state):
            return image.ravel()

    text = refusal(
        adapters.from_equinox, Stateless(), {"mean": 0.0}, image_shape=(4, 5, 1)
    )
    assert "allowed: (logits, state), since a state was given" in text
    text = refusal(adapters.from_equinox, Stateless(), image_shape=(4, 5, 1))
    assert "'state'" in text


def test_haiku():
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed")

    def network(images):
        return hk.Linear(3)(hk.Flatten()(images))

    assert "what hk.transform returns" in refusal(adapters.from_haiku, network, {})
    keyed = hk.transform(network)
    params = keyed.init(KEY, IMAGE[None])
    text = refusal(adapters.from_haiku, keyed, params, {})
    assert text.startswith("state is given; allowed: the state of hk.transform_with")
    with_state = hk.transform_with_state(network)
    assert "state is None" in refusal(adapters.from_haiku, with_state, params)
    logits = [
        adapters.from_haiku(one, params).apply
        for one in (keyed, hk.without_apply_rng(keyed))
    ]
    expected = keyed.apply(params, None, IMAGE[None])[0]
    for apply in logits:
        found = apply(adapters.from_haiku(keyed, params).params, IMAGE)
        np.testing.assert_array_equal(found, expected)
