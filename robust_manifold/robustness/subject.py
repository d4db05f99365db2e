"""What is evaluated: a classifier behind a defence, however it was handed in."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold import defenses
from robust_manifold.attacks import Expectation
from robust_manifold.attacks.contract import output_of
from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import GENERATOR, Networks
from robust_manifold.core.types import PRNGKey
from robust_manifold.defenses.apply import check_networks
from robust_manifold.evaluation.attacked import defence_stream
from robust_manifold.evaluation.audits.operations import scan_program
from robust_manifold.evaluation.cascades import (
    Donor,
    Judged,
    bare_network,
    inverted,
)
from robust_manifold.robustness.functions import OpaqueDefence, defence_of


class Part(NamedTuple):
    """Some of the images.

    Attributes:
      images: [n, height, width, channels].
      labels: [n].
      ids: global ids [n].
    """

    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def take(self, place: slice) -> "Part":
        """Returns some of them."""
        return Part(*(array[place] for array in self))


Tell = Callable[[float, str], None]
"""Is called with the share of a round that is done, and what is done next."""


class Subject(NamedTuple):
    """A classifier behind a defence, with the key of each image if that is fixed.

    Attributes:
      judged: as a cascade attacks it, under keys that it does not know.
      random: whether its output depends on the defence's key.
      key: the root of the evaluation.
    """

    judged: Judged
    random: bool
    key: PRNGKey

    @property
    def name(self) -> str:
        """The defence as a config writes it, or as a function is called."""
        defence = self.judged.defence
        try:
            return defenses.registry.to_string(defence)
        except KeyError:
            return str(defence)

    @property
    def opaque(self) -> bool:
        """Whether JAX cannot see what the defence does."""
        return isinstance(self.judged.defence, OpaqueDefence)

    @property
    def root(self) -> PRNGKey:
        """The root of the keys with which the defence meets images, as in a run."""
        return keys.stream(self.key, self.stream_name)

    def known(self, ids: np.ndarray) -> Judged:
        """Returns it with one key for each of some images, which the attack knows."""
        return dataclasses.replace(self.judged, keys=keys.per_example(self.root, ids))

    def defended(
        self, images: np.ndarray, ids: np.ndarray, key: PRNGKey | None = None
    ) -> defenses.Defended:
        """Returns what becomes of images.

        Args:
          images: [n, height, width, channels].
          ids: global ids [n].
          key: the root of the defence's keys; `root` by default.
        """
        judged = self.judged
        return defenses.defend(
            judged.defence,
            judged.networks,
            judged.classify,
            judged.params,
            images,
            key=self.root if key is None else key,
            ids=ids,
        )

    def outputs(
        self, images: np.ndarray, ids: np.ndarray, key: PRNGKey | None = None
    ) -> np.ndarray:
        """Returns the outputs for images; arguments as for `defended`."""
        return np.asarray(self.defended(images, ids, key).output)

    @property
    def stream_name(self) -> str:
        """What the random stream is named by that the defence's keys come from."""
        try:
            return defence_stream(self.judged.defence)
        except KeyError:
            return f"defence {self.name}"

    @property
    def donors(self) -> tuple[Donor, ...]:
        """The bare network, and a short inversion of the generator if there is one."""
        judged = self.judged
        if judged.bare:
            return ()
        bare, params = judged.classify, judged.params.classifier
        donors = [bare_network(bare, params)]
        spanner: Any = judged.networks.get(GENERATOR)
        if spanner is not None:
            spanned = judged.params.networks[GENERATOR]
            donors.append(inverted("the generator", spanner, spanned, bare, params))
        return tuple(donors)


def subject_of(
    classifier: Any,
    defence: Any,
    networks: Mapping[str, Any] | None,
    images: np.ndarray,
    key: PRNGKey,
) -> Subject:
    """Returns what is to be evaluated; arguments as for `evaluate`.

    Raises:
      UsageError: for what is no classifier, no defence or no network.
    """
    apply, params = _classifier_of(classifier)
    # Here, before any work, a classifier is told what is wrong with it.
    output_of(apply, params, jax.ShapeDtypeStruct(images.shape[1:], images.dtype))
    built = _defence_of(defence, images[0], key)
    bound, of_networks = _networks_of(networks)
    check_networks(built, bound)
    judged = Judged(built, bound, apply, defenses.DefenseParams(of_networks, params))
    judged.classes(images)
    return Subject(judged, _depends_on_key(judged, images[0]), key)


def _classifier_of(classifier: Any) -> tuple[Any, Any]:
    pair = isinstance(classifier, tuple) and len(classifier) == 2
    if not pair or not callable(classifier[0]):
        raise UsageError(
            f"classifier is {_shown(classifier)}; allowed: a pair (apply, params) "
            "where apply(params, image) gives the logits of ONE image. "
            "robust_manifold.adapters makes one of a model of another library."
        )
    if isinstance(classifier[0], Expectation):
        raise UsageError(
            "classifier is an Expectation; allowed: a classifier that draws nothing, "
            "behind a defence that does, (key, image) -> image."
        )
    return classifier[0], classifier[1]


def _defence_of(defence: Any, image: np.ndarray, key: PRNGKey) -> defenses.Defense:
    if defence is None:
        return defenses.NoDefense()
    if isinstance(defence, str):
        return defenses.registry.build(defence)
    if isinstance(defence, defenses.Defense):
        return defence
    if callable(defence):
        return defence_of(defence, image, key)
    raise UsageError(
        f"defence is {_shown(defence)}; allowed: None, a defence of robust_manifold or "
        "its text, image -> image, or (key, image) -> image."
    )


def _networks_of(networks: Any) -> tuple[Networks, dict[str, Any]]:
    """Returns the networks by role, and their parameters."""
    pairs = networks is None or isinstance(networks, Mapping)
    given: Mapping[str, Any] = (networks or {}) if pairs else {}
    for role, pair in given.items():
        pairs &= isinstance(role, str) and isinstance(pair, tuple) and len(pair) == 2
    if not pairs:
        raise UsageError(
            f"networks is {_shown(networks)}; allowed: pairs of a network and its "
            "parameters by role, such as {'generator': (spanner, params)}."
        )
    return (
        Networks(**{role: network for role, (network, _) in given.items()}),
        {role: params for role, (_, params) in given.items()},
    )


def _depends_on_key(judged: Judged, image: np.ndarray) -> bool:
    """Returns whether the output depends on the defence's key; nothing is computed."""
    if judged.bare:
        return False
    defended: Any = judged.apply.apply
    data = jax.random.key_data(jax.random.key(0))

    def output(data, params, image):
        return defended(params, image, jax.random.wrap_key_data(data))

    return scan_program(output, data, judged.params, image).depends


def digest_of(tree: Any) -> str:
    """Returns a checksum of a tree of arrays and numbers, by their places in it."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        key = isinstance(leaf, jax.Array) and jnp.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        if key:
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        place = f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}"
        found.update(place.encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def _shown(value: Any) -> str:
    text = repr(value)
    short = len(text) <= 80 and "\n" not in text
    return text if short else f"of the type {type(value).__name__}"
