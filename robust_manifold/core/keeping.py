"""Long work that is kept piece by piece, so that whoever goes on later finds it done.

A piece is a call of one function on some examples.  It is known by all that its result
depends on, so that the same call finds it, in whatever order and process it is made.
Who keeps the pieces, and where, is not known here: without a keeper all is computed.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np

from robust_manifold.core.types import Params, PRNGKey

T = TypeVar("T")


class Call(NamedTuple):
    """What a piece is known by."""

    function: Callable[[Params, PRNGKey, Any], Any]
    """Of one example; it hashes by value."""
    params: Params
    key: PRNGKey
    ids: np.ndarray
    examples: Any
    """A tree of arrays with a common leading axis, as `ids`."""
    together: int
    """Examples that a program computes: results are rounded accordingly."""


@runtime_checkable
class Keeper(Protocol):
    """Keeps pieces of work.  In a job, all processes ask alike and get like answers."""

    @property
    def steps(self) -> int:
        """How many steps of a loop may be taken before it is told of them."""
        ...

    @property
    def recalled_seconds(self) -> float:
        """What it took to compute all that was recalled."""
        ...

    def recall(self, call: Call, *, whole: bool) -> list[np.ndarray] | None:
        """Returns the bytes of each array that was kept of a call; None if none were.

        Args:
          call: that is about to be made.
          whole: whether its result is asked for, or how far it had come.
        """
        ...

    def keep(
        self,
        call: Call,
        arrays: Callable[[], list[np.ndarray]],
        *,
        whole: bool,
        steps: int | None = None,
    ) -> None:
        """Keeps the arrays of a call; it may raise, to end the work.

        Args:
          call: that was made, or is under way.
          arrays: returns them; it is not asked where they are not kept.
          whole: whether they are the result, or say how far the call has come.
          steps: that were taken since the last time.
        """
        ...

    def forget(self) -> None:
        """Lets go of all pieces: what they are for is stored."""
        ...


_KEEPER: contextvars.ContextVar[Keeper | None] = contextvars.ContextVar(
    "keeper", default=None
)


@contextlib.contextmanager
def keeping(keeper: Keeper) -> Iterator[None]:
    """Has a keeper told of all work of this thread."""
    token = _KEEPER.set(keeper)
    try:
        yield
    finally:
        _KEEPER.reset(token)


def keeper() -> Keeper | None:
    """Returns who keeps the work of this thread."""
    return _KEEPER.get()


def forget() -> None:
    """Tells the keeper that all work so far is stored."""
    if (own := keeper()) is not None:
        own.forget()


def recalled_seconds() -> float:
    """Returns what it took to compute all that was recalled, so far, in this thread."""
    own = keeper()
    return own.recalled_seconds if own is not None else 0.0


def kept(call: Call, compute: Callable[[], T], like: Callable[[], T]) -> T:
    """Returns what a call gives, computed now or earlier.

    Args:
      call: what is computed.
      compute: returns its result, a tree of NumPy arrays where there is a keeper.
      like: returns the tree of `jax.ShapeDtypeStruct` that the result is like.
    """
    own = keeper()
    if own is None:
        return compute()
    if (found := recalled(own, call, like, whole=True)) is not None:
        return found
    result = compute()
    own.keep(call, lambda: _bytes(result), whole=True)
    return result


def recalled(
    keeper: Keeper, call: Call, like: Callable[[], T], *, whole: bool
) -> T | None:
    """Returns what was kept of a call, as a tree like another; None if nothing was."""
    arrays = keeper.recall(call, whole=whole)
    if arrays is None:
        return None
    leaves, tree = jax.tree.flatten(like())
    return jax.tree.unflatten(
        tree,
        [
            array.view(leaf.dtype).reshape(leaf.shape)
            for array, leaf in zip(arrays, leaves, strict=True)
        ],
    )


def hold(keeper: Keeper, call: Call, steps: int, state: Callable[[], Any]) -> None:
    """Tells the keeper how far a call has come, after so many steps more."""
    keeper.keep(call, lambda: _bytes(state()), whole=False, steps=steps)


def _bytes(tree: Any) -> list[np.ndarray]:
    """Returns the bytes of each array: not every type can be stored as it is."""
    return [
        np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
        for leaf in jax.tree.leaves(tree)
    ]
