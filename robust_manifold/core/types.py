"""The words of the package as array types; see docs/design.md, section 3."""

from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

Image: TypeAlias = Float[Array, "height width channels"]
"""One image, pixels in [0, 1]."""

Latent: TypeAlias = Float[Array, " latent"]
"""One point of a generator's latent space."""

Logits: TypeAlias = Float[Array, " classes"]
"""Unnormalised class scores of one image."""

Output: TypeAlias = Float[Array, "..."]
"""What a network gives for one image: logits, or the numbers of a regression."""

Target: TypeAlias = PyTree[Shaped[Array, "..."]]
"""What a criterion compares one output with, such as the class to leave."""

Scalar: TypeAlias = Float[Array, ""]
Label: TypeAlias = Int[Array, ""]
PRNGKey: TypeAlias = Key[Array, ""]
"""A typed JAX key (`jax.random.key`)."""

Params: TypeAlias = PyTree[Any]

Classify: TypeAlias = Callable[[Image], Output]
"""A network of one image, such as a classifier, with its parameters already bound."""

Generate: TypeAlias = Callable[[Latent], Image]
"""A generator of one image with its parameters already bound."""
