"""Explicit, disjoint train, validation and test splits of what a source holds."""

import numpy as np
from jaxtyping import Int64

from robust_manifold.core.errors import UsageError
from robust_manifold.data.dataset import Split
from robust_manifold.data.sources.base import Parts


def permutation(n: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Returns a random order of 0..n-1 that is the same for every NumPy version.

    NumPy guarantees the raw stream of the PCG64 bit generator for ever, but not
    what `Generator.permutation` makes of it; so the stream itself is sorted.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def cut(
    parts: Parts, *, validation_examples: int, test_examples: int, seed: int
) -> tuple[Split, Split, Split]:
    """Returns disjoint (train, validation, test) splits of a source's parts.

    A validation or test part that the source itself declares is used: whole and in
    its own order where its size is given as 0, else a random choice of that size
    (the rest of it is left unused, never trained on).  A part that the source lacks
    is empty where its size is 0, else carved from the training part in a random
    order, in which the remaining training examples then are too.  The test split
    does not depend on the size of the validation split, and of two sizes with the
    same seed the larger split begins with the smaller one.

    Args:
      parts: what the source holds.
      validation_examples: size of the validation split; 0: official, else none.
      test_examples: size of the test split; 0: official, else none.
      seed: of the random orders.

    Raises:
      UsageError: if a size is negative, or larger than what there is.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"seed is {seed}; allowed: 0 to 2**63 - 1.")
    validation = _official(
        "validation_examples", validation_examples, parts.validation, seed
    )
    test = _official("test_examples", test_examples, parts.test, seed)

    n = parts.train.size
    n_test = test_examples if test is None else 0
    n_validation = validation_examples if validation is None else 0
    carved = n_test + n_validation
    if carved == 0:
        train = parts.train
    elif carved >= n:
        raise UsageError(
            f"validation_examples={n_validation} and test_examples={n_test} are to be "
            f"taken from {n} training examples; allowed: a sum of at most {n - 1}."
        )
    else:
        train = parts.train.take(permutation(n, seed))
    if test is None:
        test = train.take(slice(0, n_test))
    if validation is None:
        validation = train.take(slice(n_test, carved))
    return train.take(slice(carved, None)), validation, test


def _official(field: str, size: int, part: Split | None, seed: int) -> Split | None:
    """Returns `size` examples of the source's own split, if it has one."""
    if size < 0:
        raise UsageError(f"{field} is {size}; allowed: 0 or more.")
    if part is None or size == 0:
        return part
    if size > part.size:
        raise UsageError(
            f"{field} is {size}; allowed: at most {part.size}, the size of the "
            "source's own split, or 0 for all of it."
        )
    return part.take(permutation(part.size, seed)[:size])
