"""What `apply` must be, and the sentence for a classifier that is something else."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from robust_manifold.attacks.random import Apply, Expectation
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params

_LONGEST = 200
"""Characters of another library's error that a sentence repeats."""


class _Layout(NamedTuple):
    """Another form in which a classifier may want its image."""

    what: str
    """It takes."""
    call: str
    """How it is called, where `{}` stands for its name and `{key}` for its key."""
    argument: Callable[[Any], Any]
    result: Callable[[Any], Any]
    adapter: str = ""
    """What makes one of single images of it, where a function of the package does."""


def _same(array: Any) -> Any:
    return array


def _first(array: Any) -> Any:
    return array[0]


_LAYOUTS = (
    _Layout(
        "a batch of images",
        "{}(params, image[None]{key})[0]",
        lambda image: image[None],
        _first,
        "adapters.batched({}, params)",
    ),
    _Layout(
        "channels first",
        "{}(params, image.transpose(2, 0, 1){key})",
        lambda image: image.transpose(2, 0, 1),
        _same,
        "adapters.channels_first(({}, params))",
    ),
    _Layout(
        "a batch of images, channels first",
        "{}(params, image.transpose(2, 0, 1)[None]{key})[0]",
        lambda image: image.transpose(2, 0, 1)[None],
        _first,
        "adapters.channels_first(adapters.batched({}, params))",
    ),
    _Layout(
        "flat images",
        "{}(params, image.reshape(-1){key})",
        lambda image: image.reshape(-1),
        _same,
    ),
    _Layout(
        "a batch of flat images",
        "{}(params, image.reshape(1, -1){key})[0]",
        lambda image: image.reshape(1, -1),
        _first,
    ),
)

_MODULES = {
    ("flax", "linen"): ("a Flax Linen module", "from_linen(module, variables)"),
    ("flax", "nnx"): ("a Flax NNX module", "from_nnx(model), after model.eval()"),
    ("equinox",): (
        "an Equinox module",
        "from_equinox(eqx.nn.inference_mode(model))",
    ),
    ("torch",): (
        "a PyTorch module",
        "from_torch(module, image_shape=(height, width, channels)), after "
        "module.eval()",
    ),
}
"""Libraries whose modules are taken for functions: what they are, what adapts them."""

_STATE = (
    "TraceContextError",
    "UnexpectedTracerError",
    "ModifyScopeVariableError",
    "InvalidRngError",
    "MissingRNGError",
)
_NUMPY = ("TracerArrayConversionError",)
_FLOW = (
    "TracerBoolConversionError",
    "TracerIntegerConversionError",
    "ConcretizationTypeError",
)


def check_not_traced(**arguments: Any) -> None:
    """Raises a `UsageError` if a function is called inside one of JAX's own.

    Args:
      **arguments: what it was called with, by name.
    """
    # Inside jax.jit whatever JAX makes is traced, arguments or not.
    for name, tree in (arguments | {"the call": jax.device_put(0)}).items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(tree)):
            raise UsageError(
                f"{name} is traced, as inside jax.jit, grad or vmap; allowed: arrays, "
                "outside of these, since this call compiles by itself. Inside, attack "
                "one image: attack(key, classify, image, label), under jax.vmap for "
                "many."
            )


def check_function(name: str, function: Any) -> None:
    """Raises a `UsageError` unless a function can be called and hashed."""
    if not callable(function):
        inner = callable(getattr(function, "apply", None))
        hint = " Did you mean its method `apply`?" if inner else ""
        raise UsageError(
            f"{name} is {_shown(function)}; allowed: a function of parameters and "
            f"image.{hint}"
        )
    try:
        hash(function)
    except TypeError as error:
        raise _of_module(name, function) or UsageError(
            f"{name} cannot be hashed; allowed: a function, or a callable whose "
            "__hash__ goes with its __eq__."
        ) from error


def check_params(params: Params) -> None:
    """Raises a `UsageError` unless parameters are a tree of arrays and numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not _is_array(leaf):
            raise UsageError(
                f"params{jax.tree_util.keystr(path)} is {_shown(leaf)}; allowed: a "
                "tree of arrays and numbers. Keep the rest of a model out of it, as by "
                "eqx.partition(model, eqx.is_array) or nnx.split(model)."
            )


def output_of(
    apply: Apply,
    params: Params,
    image: jax.ShapeDtypeStruct,
    criterion: Criterion = MISCLASSIFIED,
    name: str = "apply",
) -> jax.ShapeDtypeStruct:
    """Returns shape and type of one output of a network, from shapes alone.

    Args:
      apply: `apply(params, image) -> logits`, or an `Expectation`.
      params: of `apply`.
      image: shape and type of ONE image.
      criterion: what is wanted of the output.
      name: of the argument that `apply` is.

    Raises:
      UsageError: unless it gives floats and, for a criterion on classes, a vector of 2
        logits or more.  The sentence says how the function at hand is wrapped; an
        error of the function's own is its cause.
    """
    check_function(name, apply)
    check_params(params)
    _check_arguments(name, apply)
    try:
        logits = _called(apply, params, image)
    except UsageError:
        raise
    except Exception as error:
        raise _refused(name, apply, params, image, error) from error
    fits = _is_vector(logits) if criterion.classes else _is_floats(logits)
    if fits:
        return logits
    raise _misshapen(name, apply, params, image, logits)


def classes_of(
    apply: Apply, params: Params, image: jax.ShapeDtypeStruct, name: str = "apply"
) -> int:
    """Returns the number of classes of a classifier; arguments as for `output_of`."""
    return output_of(apply, params, image, name=name).shape[0]


def told_by(name: str, error: Exception) -> UsageError | None:
    """Returns the sentence for an error whose kind tells what is wrong; else None."""
    kind = type(error).__name__
    if kind in _STATE:
        return stateful(name, first_line(error))
    if kind in _NUMPY:
        return UsageError(
            f"{name} makes a NumPy array of what JAX traces; allowed: a function of "
            "jax.numpy throughout, which JAX can compile and differentiate."
        )
    if kind in _FLOW:
        return UsageError(
            f"{name} decides by the value of an array; allowed: jnp.where or "
            "jax.lax.cond in place of `if`, since JAX compiles it for all values."
        )
    return None


def stateful(name: str, why: str) -> UsageError:
    """Returns the sentence for a classifier that is not in inference mode."""
    return UsageError(
        f"{name} changes or draws something outside its arguments ({why}); allowed: a "
        "pure function of params and image. Put the model into evaluation mode (NNX, "
        "PyTorch: model.eval(); Equinox: eqx.nn.inference_mode(model); Linen, Haiku: "
        "train=False), or hand a random one as Expectation(apply)."
    )


@contextlib.contextmanager
def pure(name: str) -> Iterator[None]:
    """Raises a `UsageError` for errors within it that `told_by` knows."""
    try:
        yield
    except Exception as error:
        known = told_by(name, error)
        if known is None:
            raise
        raise known from error


def first_line(error: BaseException) -> str:
    """Returns an error's kind and the first line of what it says, shortened."""
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    if len(line) > _LONGEST:
        line = line[:_LONGEST] + "…"
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _called(apply: Apply, params: Params, image: Any, layout: Any = None) -> Any:
    """Returns the shapes of what a classifier gives for one image, in a layout."""
    random = isinstance(apply, Expectation)
    more = (jax.eval_shape(lambda: jax.random.key(0)),) if random else ()
    if layout is None:
        # An equal function is not traced again.
        return jax.eval_shape(apply, params, image, *more)
    call = _inner(apply)

    def laid_out(params: Params, image: Any, *key: Any) -> Any:
        return layout.result(call(params, layout.argument(image), *key))

    return jax.eval_shape(laid_out, params, image, *more)


def _refused(name: str, apply: Apply, params, image, error: Exception) -> UsageError:
    """Returns the sentence for a classifier that fails on one image."""
    known = _of_module(name, _inner(apply)) or told_by(name, error)
    return (
        known
        or _of_layout(name, apply, params, image)
        or UsageError(
            f"{name} fails on one image of shape {image.shape} "
            f"({first_line(error)}); allowed: {name}(params, image) -> logits "
            "[classes] for ONE image [height, width, channels], without a batch axis."
        )
    )


def _misshapen(name: str, apply: Apply, params, image, logits: Any) -> UsageError:
    """Returns the sentence for a classifier that gives something else than logits."""
    shape = getattr(logits, "shape", None)
    wanted = "allowed: a vector of logits for 2 classes or more"
    if shape is None:
        return UsageError(
            f"{name} gives a {type(logits).__name__} for one image; {wanted}, alone."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        return UsageError(
            f"{name} gives logits of type {logits.dtype}; allowed: floats, the logits "
            "before any argmax."
        )
    if other := _of_layout(name, apply, params, image):
        return other
    hint = ""
    if shape in ((), (1,)):
        logit = "logit" if shape == () else "logit[0]"
        hint = (
            f" A logit of the second of two classes becomes jnp.stack([0 * {logit}, "
            f"{logit}]), or takes criterion=SignFlips(); a regression has no classes: "
            "criterion=Deviates(tolerance)."
        )
    return UsageError(f"{name} gives {shape} for one image; {wanted}.{hint}")


def _of_layout(name: str, apply: Apply, params, image) -> UsageError | None:
    """Returns the sentence for a classifier that takes its images in another form."""
    key = ", key" if isinstance(apply, Expectation) else ""
    for layout in _LAYOUTS:
        if not _works(apply, params, image, layout):
            continue
        call = layout.call.format(name, key=key)
        adapter = "" if key else layout.adapter.format(name)
        made = adapter and f", which {adapter} makes of it"
        return UsageError(
            f"{name} takes {layout.what}; allowed: a function of ONE image, here of "
            f"shape {image.shape}{made}. Wrap it once: def one(params, image{key}): "
            f"return {call}"
        )
    turned = jax.ShapeDtypeStruct((*image.shape[1:], image.shape[0]), image.dtype)
    if image.shape[0] in (1, 3) and _works(apply, params, turned):
        return UsageError(
            f"images have the shape {image.shape} each; allowed: [height, width, "
            f"channels], which {name} takes: images.transpose(0, 2, 3, 1)."
        )
    return None


def _works(apply: Apply, params, image, layout: _Layout | None = None) -> bool:
    """Returns whether a classifier gives logits for an image in another form."""
    try:
        return _is_vector(_called(apply, params, image, layout))
    # Whatever a user's function raises: it does not work in this form.
    except Exception:
        return False


def _check_arguments(name: str, apply: Apply) -> None:
    """Raises a `UsageError` if a function takes other arguments than these."""
    call, random = _inner(apply), isinstance(apply, Expectation)
    try:
        signature = inspect.signature(call)
    # Some callables have none.
    except (TypeError, ValueError):
        return
    if _takes(signature, 3 if random else 2):
        return
    shown = ", ".join(signature.parameters)
    wanted = f"{name}(params, image{', key' if random else ''}) -> logits"
    hint = ""
    if random and _takes(signature, 2):
        hint = " Without a key it is no random classifier: hand it without Expectation."
    elif not random and _takes(signature, 3):
        hint = " If the third is a random key, hand Expectation(apply)."
    elif _takes(signature, 1):
        hint = f" Wrap it once: def one(params, image): return {name}(image)"
    refused = UsageError(f"{name} takes ({shown}); allowed: {wanted}.{hint}")
    raise _of_module(name, call) or refused


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _inner(apply: Apply) -> Any:
    return apply.apply if isinstance(apply, Expectation) else apply


def _of_module(name: str, function: Any) -> UsageError | None:
    """Returns the sentence for a module of a known library; None for anything else."""
    for cls in type(function).__mro__:
        parts = cls.__module__.split(".")
        for library, (what, how) in _MODULES.items():
            if tuple(parts[: len(library)]) == library and cls.__name__ == "Module":
                return UsageError(
                    f"{name} is {what}; allowed: a function {name}(params, image) -> "
                    f"logits for ONE image, by apply, params = adapters.{how}."
                )
    return None


def _is_vector(logits: Any) -> bool:
    shape = getattr(logits, "shape", ())
    return len(shape) == 1 and shape[0] >= 2 and _is_floats(logits)


def _is_floats(output: Any) -> bool:
    dtype = getattr(output, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, bool | int | float | complex):
        return True
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or not hasattr(leaf, "shape"):
        return False
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return True
    try:
        return np.dtype(dtype).kind not in "OSUM"
    except TypeError:
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"of type {type(value).__name__}"
