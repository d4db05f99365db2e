"""Both convolutions equal Flax's, in value and in every derivative."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.models import convolution as module
from robust_manifold.models.convolution import convolution, transposed_convolution

FORMS = {
    "convolution": (convolution, nn.Conv),
    "transposed": (transposed_convolution, nn.ConvTranspose),
}
# (height, width), kernel, strides, padding, channels, features
CASES = [
    ((7, 7), (5, 5), (2, 2), "SAME", 3, 6),
    ((7, 7), (5, 5), (2, 2), "SAME", 6, 1),
    ((8, 7), (4, 4), (2, 2), "SAME", 6, 7),
    ((9, 8), (3, 3), (1, 1), "SAME", 5, 6),
    ((10, 9), (5, 4), (2, 3), "VALID", 6, 5),
    ((9, 9), (1, 1), (2, 2), "VALID", 6, 5),
    ((9, 9), (2, 1), (3, 3), "SAME", 6, 2),
    ((8, 8), (5, 5), (2, 2), ((1, 2), (2, 0)), 6, 5),
    ((8, 8), (3, 3), (2, 2), ((2, 3), (0, 4)), 2, 6),
    ((8, 8), (5, 5), (3, 3), ((4, 4), (4, 4)), 1, 3),
    ((14, 14), (4, 4), (2, 2), "SAME", 9, 10),
    ((7, 7), (5, 5), (2, 2), "SAME", 10, 9),
    ((9, 10), (4, 4), (2, 2), "VALID", 10, 16),
    ((5, 6), (3, 3), (1, 1), "VALID", 32, 9),
    ((4, 5), (1, 1), (1, 1), "VALID", 256, 9),
    ((4, 5), (1, 1), (2, 1), "VALID", 9, 10),
    ((6, 5), (5, 5), (1, 1), "SAME", 17, 9),
    ((6, 7), (4, 2), (1, 1), "SAME", 9, 20),
    ((7, 9), (3, 3), (1, 1), ((0, 3), (4, 1)), 17, 3),
    ((7, 9), (3, 4), (1, 1), ((2, -1), (-1, 2)), 17, 3),
    ((6, 9), (5, 3), (1, 1), "SAME", 1, 16),
]


def flax_form(layer, kernel, strides, padding):
    linen = layer(kernel.shape[-1], kernel.shape[:2], strides, padding, use_bias=False)
    return lambda x, w: linen.apply({"params": {"kernel": w}}, x)


def outputs_and_gradients(f):
    """The value and both gradients, each entry of the value weighted differently."""

    def compute(x, w):
        value, pullback = jax.vjp(f, x, w)
        weight = jnp.sin(1 + jnp.arange(value.size)).reshape(value.shape)
        return value, pullback(weight.astype(value.dtype))

    return compute


def operands(case, dtype=jnp.float32, n=3):
    size, kernel, _, _, channels, features = case
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (n, *size, channels), dtype)
    return x, jax.random.normal(keys[1], (*kernel, channels, features), dtype)


def both(form, case, dtype=jnp.float32, n=3):
    ours, layer = FORMS[form]
    x, w = operands(case, dtype, n)
    theirs = flax_form(layer, w, case[2], case[3])
    return (lambda a, b: ours(a, b, strides=case[2], padding=case[3])), theirs, x, w


def assert_close(ours, theirs, rtol=2e-5):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = float(jnp.max(jnp.abs(b))) + 1e-6
        np.testing.assert_allclose(
            np.asarray(a, np.float32) / scale,
            np.asarray(b, np.float32) / scale,
            atol=rtol,
        )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_value_and_gradients_equal_those_of_flax(form, case):
    ours, theirs, x, w = both(form, case)
    assert_close(
        jax.jit(outputs_and_gradients(ours))(x, w),
        jax.jit(outputs_and_gradients(theirs))(x, w),
    )


@pytest.mark.parametrize(
    ("form", "dtype"),
    [
        ("convolution", "bfloat16"),
        ("transposed", "bfloat16"),
        ("transposed", "float16"),
    ],
)
def test_dtypes(form, dtype):
    ours, theirs, x, w = both(form, CASES[2], dtype=jnp.dtype(dtype))
    tolerance = {"bfloat16": 2e-2, "float16": 2e-3}[dtype]
    assert_close(
        jax.jit(outputs_and_gradients(ours))(x, w),
        jax.jit(outputs_and_gradients(theirs))(x, w),
        tolerance,
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)], ids=str)
def test_any_leading_axes(form, shape):
    ours, _, x, w = both(form, CASES[0], n=6)
    flat = ours(x, w)
    images = x[: int(np.prod(shape))].reshape(*shape, *x.shape[1:])
    expected = flat[: int(np.prod(shape))].reshape(*shape, *flat.shape[1:])
    assert_close(ours(images, w), expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, None)], ids=str)
def test_vmap_of_value_and_gradients(form, axes):
    ours, theirs, x, w = both(form, CASES[0])
    xs = jnp.stack([x, 2 * x, x - 1], axes[0]) if axes[0] is not None else x
    ws = jnp.stack([w, 3 * w, w + 1]) if axes[1] is not None else w

    def batched(f):
        return jax.jit(jax.vmap(outputs_and_gradients(f), axes))(xs, ws)

    assert_close(batched(ours), batched(theirs))


@pytest.mark.parametrize("case", [CASES[0], CASES[5]], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_forward_mode_and_second_order(form, case):
    ours, theirs, x, w = both(form, case)
    dx, dw = 0.3 * x[::-1], jnp.sin(w)

    def derivatives(f):
        def loss(x, w):
            return jnp.sum(jnp.tanh(f(x, w)))

        def penalty(x, w):
            # As a critic's gradient penalty: a gradient inside the loss.
            return jnp.sum(jax.grad(loss)(x, w) ** 2)

        @jax.jit
        def compute(x, w):
            return (
                jax.jvp(f, (x, w), (dx, dw)),
                jax.jvp(jax.grad(loss, (0, 1)), (x, w), (dx, dw)),
                jax.grad(penalty, (0, 1))(x, w),
            )

        return compute(x, w)

    assert_close(derivatives(ours), derivatives(theirs), 1e-4)


def test_jacobian_by_forward_mode_equals_that_by_reverse_mode():
    ours, _, x, w = both("transposed", CASES[1], n=1)
    image = x[0, :3, :3]
    forward = jax.jit(jax.jacfwd(ours))(image, w)
    assert_close(forward, jax.jit(jax.jacrev(ours))(image, w))


@pytest.mark.parametrize("form", FORMS)
def test_inside_scan_and_remat(form):
    ours, theirs, x, w = both(form, CASES[0])

    def descend(f):
        @jax.checkpoint
        def step(x, _):
            return x - 0.01 * jax.grad(lambda x: jnp.sum(f(x, w) ** 2))(x), None

        return lambda x: jnp.sum(jax.lax.scan(step, x, None, length=3)[0] ** 2)

    assert_close(
        jax.jit(jax.value_and_grad(descend(ours)))(x),
        jax.jit(jax.value_and_grad(descend(theirs)))(x),
        1e-4,
    )


@pytest.mark.parametrize("n", [64, 65, 200])
def test_kernel_gradient_in_chunks(n):
    ours, theirs, x, w = both("convolution", CASES[0], n=n)
    assert_close(
        jax.jit(outputs_and_gradients(ours))(x, w),
        jax.jit(outputs_and_gradients(theirs))(x, w),
    )


def parameters(case):
    size, kernel, strides, padding, _, _ = case
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(size, kernel, strides, padding)
    return {"strides": strides, "padding": tuple(map(tuple, padding))}


def results(forms, a, b, **arguments):
    return jax.jit(lambda a, b: [form(a, b, **arguments) for form in forms])(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_forms_of_a_convolution_are_one(case, monkeypatch):
    """Whatever the sizes at which one form or another is chosen."""
    monkeypatch.setattr(module, "_MANY_TERMS", 0)
    monkeypatch.setattr(module, "_WORTH_COMPILING", 0)
    x, w = operands(case)
    given = parameters(case)
    columns = module._convolved(x.shape, w.shape, **given)[1]
    forms = [module._convolve_xla, module._convolve_cpu, module._convolve_padded]
    for together in (2, 3):
        forms.append(
            functools.partial(
                module._convolve_columns, columns=columns, together=together
            )
        )
    expected, *found = results(forms, x, w, **given)
    for result in found:
        assert_close(result, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_images_beside_each_other_do_not_meet(case, monkeypatch):
    """Not even where there are few features, and wide gaps."""
    monkeypatch.setattr(module, "_TOO_SMALL", 0)
    monkeypatch.setattr(module, "_WORTH_MOVING", 0)
    monkeypatch.setattr(module, "_WORTH_SHARING", 100)
    x, w = operands(case)
    forms = (module._convolve_xla, module._convolve_shared)
    expected, found = results(forms, x, w, **parameters(case))
    assert_close(found, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_forms_of_an_input_gradient_are_one(case):
    x, w = operands(case)
    y = jnp.sin(module._convolve_xla(x, w, **parameters(case)))
    forms = (
        module._input_gradient_xla,
        module._input_gradient_phases,
        module._input_gradient_strips,
        module._input_gradient_product,
    )
    expected, *found = results(forms, y, w, size=case[0], **parameters(case))
    for result in found:
        assert_close(result, expected)


@pytest.mark.parametrize(
    ("case", "form"),
    [
        (((7, 7), (4, 4), (2, 2), "SAME", 3, 12), "_convolve_columns"),
        (((7, 7), (3, 3), (1, 1), "SAME", 12, 20), "_convolve_side_by_side"),
        (((14, 14), (4, 4), (2, 2), "SAME", 3, 12), "_input_gradient_product"),
        (((14, 14), (4, 4), (2, 2), "SAME", 12, 12), "_input_gradient_strips"),
        (((6, 6), (4, 4), (2, 2), "SAME", 12, 12), "_input_gradient_phases"),
    ],
    ids=str,
)
def test_sizes_choose_the_form(case, form, monkeypatch):
    ours, _, x, w = both("convolution", case)
    monkeypatch.setattr(module, "_WORTH_COMPILING", 0)
    called = []
    compute = getattr(module, form)
    monkeypatch.setattr(
        module, form, lambda *arguments: called.append(1) or compute(*arguments)
    )
    jax.jit(outputs_and_gradients(ours)).trace(x, w).lower(lowering_platforms=("cpu",))
    assert called


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
@pytest.mark.parametrize("form", FORMS)
def test_each_platform_has_its_lowering(form, platform):
    ours, _, x, w = both(form, CASES[2])
    traced = jax.jit(outputs_and_gradients(ours)).trace(x, w)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    # XLA's own gradients spread an operand out by the stride; the CPU's never do.
    assert ("lhs_dilate = [2, 2]" in text) == (platform != "cpu")
    assert text.count("stablehlo.convolution") == 3 or platform == "cpu"


def test_no_residual_but_the_operands():
    """Differentiation stores what the mathematics needs, on every platform."""
    x, w = operands(CASES[0])
    _, pullback = jax.vjp(lambda x, w: convolution(x, w, strides=2), x, w)
    stored = sum(leaf.size for leaf in jax.tree.leaves(pullback))
    assert stored <= x.size + w.size


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"strides": 0}, "strides"),
        ({"strides": (1, 2, 3)}, "strides"),
        ({"padding": "CIRCULAR"}, "padding"),
        ({"padding": ((1, 2),)}, "padding"),
        ({"padding": ((1, 2, 3), (1, 2, 3))}, "padding"),
        ({"padding": ((-9, -9), (0, 0))}, "too small"),
        ({"x": jnp.zeros((2, 7, 7, 4))}, "channels"),
        ({"x": jnp.zeros((2, 7, 7, 3), jnp.bfloat16)}, "dtype"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
@pytest.mark.parametrize("form", FORMS)
def test_misuse(form, change, word):
    ours, _, x, w = both(form, CASES[0])
    arguments = {"x": x, "strides": 2, "padding": "SAME"} | change
    with pytest.raises(UsageError, match=word):
        FORMS[form][0](arguments.pop("x"), w, **arguments)
