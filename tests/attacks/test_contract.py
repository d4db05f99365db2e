"""What `apply` may be, and the sentence for each thing that it is not."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from robust_manifold import adapters
from robust_manifold.attacks import FGSM, PGD, Expectation, Square, craft
from robust_manifold.core.errors import UsageError

KEY = jax.random.key(0)
IMAGES = np.random.default_rng(0).uniform(size=(2, 4, 5, 1)).astype(np.float32)
LABELS = np.array([0, 1])
WEIGHTS = jnp.eye(20, 3)
ATTACK = FGSM(0.1)


def attacked(apply, params=WEIGHTS, images=IMAGES, attack=ATTACK, **options):
    return craft(attack, apply, params, images, LABELS, key=KEY, **options)


def refusal(apply, *arguments, **options):
    """Returns the sentence that a classifier is refused with, and its cause's name."""
    with pytest.raises(UsageError) as error:
        attacked(apply, *arguments, **options)
    text = str(error.value)
    assert "allowed: " in text and "\n" not in text
    return text, type(error.value.__cause__).__name__


def good(params, image):
    return image.reshape(-1) @ params


def batched(params, images):
    return images.reshape(len(images), -1) @ params


def random(params, image, key):
    return good(params, image) + jax.random.normal(key, (3,))


def flat(params, images):
    return images @ params


def convolved(params, images):
    """Of a batch of images, channels first."""
    return jax.lax.conv(images, params, (1, 1), "VALID")[:, :, 0, 0]


KERNEL = jax.random.normal(KEY, (3, 1, 4, 5))


@pytest.mark.parametrize(
    ("apply", "params", "takes", "call"),
    [
        (batched, WEIGHTS, "a batch of images", "apply(params, image[None])[0]"),
        (
            convolved,
            KERNEL,
            "a batch of images, channels first",
            "apply(params, image.transpose(2, 0, 1)[None])[0]",
        ),
        (
            lambda params, image: convolved(params, image[None])[0],
            KERNEL,
            "channels first",
            "apply(params, image.transpose(2, 0, 1))",
        ),
        (flat, WEIGHTS, "flat images", "apply(params, image.reshape(-1))"),
        (
            lambda params, images: jax.vmap(flat, (None, 0))(params, images),
            WEIGHTS,
            "a batch of flat images",
            "apply(params, image.reshape(1, -1))[0]",
        ),
        (
            Expectation(lambda params, images, key: batched(params, images)),
            WEIGHTS,
            "a batch of images",
            "apply(params, image[None], key)[0]",
        ),
    ],
    ids=["batched", "batched first", "first", "flat", "batched flat", "random"],
)
def test_another_layout_is_told_and_its_wrapper_works(apply, params, takes, call):
    text, _ = refusal(apply, params)
    assert f"apply takes {takes}; allowed: a function of ONE image" in text
    assert text.endswith(f"return {call}")
    inner = apply.apply if isinstance(apply, Expectation) else apply
    wrapper = text.partition("Wrap it once: ")[2]
    names = {"apply": inner}
    exec(wrapper, names)
    one = names["one"]
    wrapped = Expectation(one) if isinstance(apply, Expectation) else one
    logits = attacked(wrapped, params).logits
    assert logits.shape == (2, 3)
    # An adapter is named where there is one, and does the same.
    named = re.search(r"which (.*) makes of it", text)
    assert (named is None) == ("flat" in takes or wrapped is not one)
    if named:
        known = {"adapters": adapters, "apply": apply, "params": params}
        np.testing.assert_array_equal(attacked(*eval(named[1], known)).logits, logits)


def test_images_that_are_channels_first_are_told():
    first = IMAGES.transpose(0, 3, 1, 2)
    kernel = KERNEL.transpose(2, 3, 1, 0)

    def last(params, image):
        order = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            image[None], params, (1, 1), "VALID", dimension_numbers=order
        )[0, 0, 0]

    text, _ = refusal(last, kernel, first)
    assert text.endswith("images.transpose(0, 2, 3, 1).")
    assert attacked(last, kernel, first.transpose(0, 2, 3, 1)).success.shape == (2,)


class Linen(linen.Module):
    @linen.compact
    def __call__(self, images, train=False):
        images = linen.Dropout(0.5, deterministic=not train)(images)
        images = linen.BatchNorm(use_running_average=not train)(images)
        return linen.Dense(3)(images.reshape(len(images), -1))


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(1, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(20, 3, rngs=rngs)

    def __call__(self, images):
        images = self.dropout(self.norm(images))
        return self.dense(images.reshape(len(images), -1))


def stranger(library):
    """Returns an instance of a class that passes for a library's module."""
    base = type("Module", (), {"__module__": f"{library}.module"})
    return type("Mine", (base,), {"__call__": lambda self, image: image})()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Linen(), "a Flax Linen module"),
        (NNX(nnx.Rngs(0)), "adapters.from_nnx(model), after model.eval()."),
        (stranger("equinox"), "adapters.from_equinox(eqx.nn.inference_mode(model))."),
        (stranger("torch.nn"), "adapters.from_torch(module, image_shape=(height,"),
    ],
    ids=["linen", "nnx", "equinox", "torch"],
)
def test_a_module_is_no_function(module, words):
    text, _ = refusal(module, Linen().init(KEY, IMAGES))
    assert text.startswith("apply is a") and words in text


def test_a_module_that_cannot_be_hashed_is_still_told():
    module = stranger("equinox")
    type(module).__eq__ = lambda self, other: False
    type(module).__hash__ = None
    text, cause = refusal(module)
    assert "an Equinox module" in text and cause == "TypeError"


def test_the_advised_adapters_work():
    attacked(*adapters.from_linen(Linen(), Linen().init(KEY, IMAGES)))
    model = NNX(nnx.Rngs(0))
    model.eval()
    attacked(*adapters.from_nnx(model))


class Counting:
    """A classifier that keeps what it has seen."""

    total = 0.0

    def __call__(self, params, image):
        self.total = self.total + image.mean()
        return self.total * good(params, image)


def test_a_stateful_classifier_is_told():
    training = NNX(nnx.Rngs(0))
    variables = Linen().init(KEY, IMAGES)
    for apply, params, cause in (
        (lambda p, image: training(image[None])[0], None, "TraceContextError"),
        (
            lambda p, image: Linen().apply(
                p, image[None], train=True, rngs={"dropout": KEY}
            )[0],
            variables,
            "ModifyScopeVariableError",
        ),
        (Counting(), WEIGHTS, "UnexpectedTracerError"),
    ):
        text, found = refusal(apply, params)
        assert "changes or draws something outside" in text and "model.eval()" in text
        assert found == cause


def branching(params, image):
    return good(params, image) if image.mean() > 0.5 else -good(params, image)


@pytest.mark.parametrize(
    ("apply", "words", "cause"),
    [
        (lambda image: image, "takes (image); allowed: apply(params, image)", None),
        (random, "hand Expectation(apply)", None),
        (Expectation(good), "hand it without Expectation", None),
        (lambda p, i: good(p, i)[0], "jnp.stack([0 * logit, logit])", None),
        (lambda p, i: good(p, i)[:1], "[0 * logit[0], logit[0]]", None),
        (lambda p, i: jnp.argmax(good(p, i)), "before any argmax", None),
        (lambda p, i: (good(p, i), 0), "gives a tuple for one image", None),
        (
            lambda p, i: np.asarray(i).reshape(-1) @ p,
            "a function of jax.numpy throughout",
            "TracerArrayConversionError",
        ),
        (branching, "jnp.where", "TracerBoolConversionError"),
        (lambda p, i: p["lost"], "fails on one image of shape (4, 5, 1)", "TypeError"),
    ],
)
def test_other_mistakes_are_told(apply, words, cause):
    text, found = refusal(apply)
    assert words in text
    assert cause is None or found == cause


def test_a_logit_of_two_classes_becomes_two():
    def one(params, image):
        logit = good(params, image)[0] - 0.5
        return jnp.stack([0 * logit, logit])

    np.testing.assert_allclose(attacked(one).logits[:, 0], 0)


@pytest.mark.parametrize("leaf", ["relu", jax.nn.relu, np.array(["a"])])
def test_params_are_arrays(leaf):
    with pytest.raises(UsageError, match=r"params\['act'\] is .*allowed: a tree of"):
        attacked(good, {"act": leaf})


def test_a_function_without_a_gradient_is_told():
    def counted(params, image):
        start = (0.0, good(params, image))
        return jax.lax.while_loop(
            lambda carry: carry[0] < image.sum(),
            lambda carry: (carry[0] + 1, 2 * carry[1]),
            start,
        )[1]

    text, cause = refusal(counted)
    assert text.startswith("apply has no gradient (ValueError: Reverse-mode")
    assert cause == "ValueError"
    text, _ = refusal(good, view=counted)
    assert text.startswith("view has no gradient")
    attacked(counted, view=good)
    attacked(counted, attack=Square(0.1, queries=2))


@pytest.mark.parametrize("traced", ["params", "images"])
def test_inside_jit_one_sentence_says_what_to_call(traced):
    given = {"params": WEIGHTS, "images": IMAGES}

    def crafted(value):
        return attacked(good, **(given | {traced: value})).success

    with pytest.raises(UsageError, match=f"{traced} is traced, as inside jax.jit"):
        jax.jit(crafted)(given[traced])


def test_inside_jit_without_arguments():
    with pytest.raises(UsageError, match="the call is traced"):
        jax.jit(lambda: attacked(good).success)()


def test_what_is_advised_inside_jit_works():
    attack = PGD(0.1, steps=2)

    def one(key, image, label):
        return attack(key, lambda image: good(WEIGHTS, image), image, label)

    keys = jax.random.split(KEY, 2)
    assert jax.jit(jax.vmap(one))(keys, IMAGES, LABELS).shape == IMAGES.shape


@pytest.mark.parametrize("loop", ["", "fori"])
def test_no_other_loop_than_those_named(loop):
    with pytest.raises(UsageError, match="allowed: scan, python or None"):
        craft.__wrapped__(  # type: ignore[attr-defined]
            FGSM(0.1), good, WEIGHTS, IMAGES, LABELS, key=KEY, loop=loop
        )
