"""The look at a program: what it holds, and whether a gradient passes."""

import jax
import jax.numpy as jnp
import pytest

from robust_manifold.evaluation.audits.operations import passable, scan_program

IMAGE = jax.ShapeDtypeStruct((4, 4, 1), jnp.float32)


def while_loop(image):
    return jax.lax.while_loop(lambda x: x.sum() < 1e3, lambda x: 2 * x, image)


def scanned(step):
    return lambda image: jax.lax.scan(lambda x, _: (step(x), None), image, length=3)[0]


@jax.custom_jvp
def straight_through(image):
    return jnp.round(image)


straight_through.defjvp(lambda p, t: (straight_through(*p), t[0]))


def called_back(image):
    return jax.pure_callback(lambda image: image, IMAGE, image)


BLOCKED = {
    "callback": called_back,
    "round": jnp.round,
    "sign": jnp.sign,
    "floor": jnp.floor,
    "stop_gradient": jax.lax.stop_gradient,
    "while": while_loop,
    "argmax": lambda image: jnp.argmax(image).astype(jnp.float32),
    # A comparison decides, and no gradient passes a decision.
    "": lambda image: jnp.where(image > 0.5, 1.0, 0.0),
    "round in a scan": scanned(jnp.round),
    "round in a function": jax.jit(jnp.round),
    "round in a branch": lambda x: jax.lax.cond(True, jnp.round, jnp.sign, x),
}


@pytest.mark.parametrize("name", BLOCKED)
def test_no_gradient_passes(name):
    program = scan_program(BLOCKED[name], IMAGE)
    assert not program.carries
    for word in name.split(" ")[:1]:
        assert not word or word in program.operations
    check = passable(program, "the classifier")
    assert check.verdict == "FLAG" and "no path" in check.sentence


def test_a_callback_with_a_derivative_of_its_own_is_told():
    derived = jax.custom_jvp(called_back)
    derived.defjvp(lambda p, t: (derived(*p), t[0]))
    program = scan_program(derived, IMAGE)
    assert program.carries and program.operations == {"callback": 1}
    check = passable(program, "the classifier")
    assert check.verdict == "PASS"
    assert check.sentence.endswith("What a callback computes is not looked into.")


def half_blocked(image):
    return image + jnp.round(image)


def softmax(image):
    # Its largest entry is taken out through a stop_gradient.
    return jax.nn.softmax(image.reshape(-1))


PASSED = {
    "relu": (jax.nn.relu, set()),
    "half": (half_blocked, {"round"}),
    "softmax": (softmax, {"stop_gradient"}),
    "scan": (scanned(jnp.tanh), {"scan"}),
    "maximum": (lambda x: jnp.where(x > 0, x, 0.0), set()),
    "choice": (lambda x: x.reshape(-1)[jnp.argmax(x)], {"argmax"}),
    "own derivative": (straight_through, {"round"}),
    "key": (lambda x: x + jax.random.normal(jax.random.key(0), x.shape), None),
}


@pytest.mark.parametrize("name", PASSED)
def test_a_gradient_passes(name):
    function, held = PASSED[name]
    program = scan_program(function, IMAGE)
    assert program.carries
    if held is None:
        assert "random_bits" in program.operations
    else:
        assert set(program.operations) == held
    assert passable(program, "the classifier").verdict == "PASS"


def test_what_does_not_come_from_the_image_counts_for_nothing():
    constant = scan_program(lambda image, weight: 2 * weight, IMAGE, jnp.ones(3))
    assert not constant.carries


def test_a_loop_is_counted_once_however_often_it_is_followed():
    def step(carry, _):
        # What depends on the image reaches the second entry in the second round.
        first, second = carry
        return (first, jnp.round(second) + first), None

    def function(image):
        return jax.lax.scan(step, (image, jnp.zeros_like(image)), length=3)[0][1]

    program = scan_program(function, IMAGE)
    assert program.carries and program.operations == {"round": 1, "scan": 1}
