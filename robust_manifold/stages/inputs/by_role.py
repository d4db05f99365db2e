"""The networks of `config.networks`, which defences find by their roles.

No stage trains them, and the run folder holds none of their numbers: they are read anew
by each process, and held to the checksums of the first one, as images are.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold import models
from robust_manifold.config import DefenceNetwork
from robust_manifold.core.errors import UsageError
from robust_manifold.core.networks import Network
from robust_manifold.core.types import Params
from robust_manifold.runtime import load_params, read_params_metadata, weight_files
from robust_manifold.stages.inputs import elsewhere

FILE = "networks.json"
"""What a run folder holds of them: model, origin and checksums, by role."""


class Found(NamedTuple):
    """The network of a role, or a stack of them."""

    network: Network
    params: Params
    """Of a stack a tuple, as `network` is."""
    origin: dict[str, Any]
    """Plain values: the model, where it was read, and what is known of its training."""
    sha256: list[str]
    """The checksum of the network, or of each of a stack."""


def read(
    role: str,
    block: DefenceNetwork,
    *,
    image_shape: Sequence[int],
    classes: int,
    outputs: int | None = None,
    trained_on: str,
) -> Found:
    """Returns the network that a block of the config names.

    Args:
      role: of the network.
      block: of the config.
      image_shape: (height, width, channels) of the run's images.
      classes: their number.
      outputs: of a regression, which has no classes, the numbers that it tells.
      trained_on: the checksum of the run's training images.

    Raises:
      UsageError: if it cannot be read or does not fit the model.
    """
    place, text = f"networks.{role}", models.registry.to_string(block.model)
    try:
        model = models.build(
            block.model, image_shape=image_shape, classes=classes, outputs=outputs
        )
    except UsageError as error:
        raise UsageError(f"config.{place}.model: {error}") from None
    wanted, origin = elsewhere.Wanted(place, text, model), {"model": text}
    if block.from_run:
        where = Path(block.from_run) / elsewhere.folder(block.role)
        elsewhere.check_run(wanted, block.role, block.from_run, where, trained_on)
        params: list[Params] = [load_params(where)]
        origin |= elsewhere.kept(read_params_metadata(where).metadata)
        origin |= {"from_run": block.from_run, "role": block.role}
    else:
        params = [_read_file(wanted, file) for file in block.files]
        origin |= {"weights": block.weights}
    network, bound = model.apply, params[0]
    if block.is_stack:
        network, bound = (model.apply,) * len(params), tuple(params)
    digests = [elsewhere.digest(text, each) for each in params]
    return Found(network, bound, origin, digests)


def _read_file(wanted: elsewhere.Wanted, file: str) -> Params:
    try:
        return elsewhere.fitted(wanted, file, weight_files.read(file))
    except UsageError as error:
        raise UsageError(f"config.{wanted.place}.weights: {error}") from None
