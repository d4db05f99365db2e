"""Networks of a finished run, built from what is stored beside their parameters."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from robust_manifold import models
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params
from robust_manifold.runtime import load_params, read_params_metadata
from robust_manifold.stages import roles
from robust_manifold.stages.networks import trained

ROLES = ("classifier", "generator", "encoder", "discriminator", "vae_encoder")
"""The networks that a run can hold, beside those with a name of their own."""


class StoredNetwork(NamedTuple):
    """A network of a run, ready for use.

    Attributes:
      text: the model as a config writes it.
      model: its functions.
      params: its parameters.
      sha256: of the parameters; equal networks have equal ones, wherever they lie.
    """

    text: str
    model: models.Model
    params: Params
    sha256: str
    made_for: str | None
    """Of an encoder: `sha256` of the generator it was made for, if that is known."""


def roles_in(run: str | os.PathLike[str]) -> list[str]:
    """Returns the roles of a run's networks.

    "classifier-NAME" and "network-NAME" are included.
    """
    manifests = Path(run).glob(trained.folder("*") + "/*/manifest.json")
    stored = {path.parents[2].name for path in manifests}
    named = {
        role
        for role in stored - {*ROLES}
        if roles.classifier_of(role) or roles.network_of(role)
    }
    return [*(role for role in ROLES if role in stored), *sorted(named)]


def params_folder(run: str | os.PathLike[str], role: str) -> Path:
    """Returns the folder of the parameters of a role.

    Raises:
      UsageError: if the run holds no network of this role.
    """
    found = roles_in(run)
    if role not in found:
        has = f"it has a {' and a '.join(found)}" if found else "it has no network"
        raise UsageError(
            f"--run is {str(run)!r}, which holds no finished {role} ({has}); allowed: "
            "the workdir of a run that has one."
        )
    return Path(run, trained.folder(role))


def build_arguments(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `models.build` from the metadata of parameters."""
    spec = models.registry.build(stored["model"])
    image_shape, classes = stored["input_shape"], 0
    if isinstance(spec, models.ClassifierSpec):
        classes = stored["output_shape"][0]
    elif isinstance(spec, models.GeneratorSpec):
        image_shape = stored["output_shape"]
        classes = stored["input_shape"][0] - spec.latent_size
    elif isinstance(spec, models.DenoiserSpec):
        image_shape = stored["output_shape"]
    return {"spec": spec, "image_shape": image_shape, "classes": classes}


def load(run: str | os.PathLike[str], role: str) -> StoredNetwork:
    """Returns the network of a role, class-conditional ones included.

    Raises:
      UsageError: if the run holds no such network, it is damaged, or its parameters
        do not fit its model.
    """
    folder = params_folder(run, role)
    stored = read_params_metadata(folder).metadata
    model = models.build(**build_arguments(stored))
    table = models.to_table(load_params(folder))
    try:
        params = models.from_table(model, table)
    except UsageError as error:
        raise UsageError(f"--run: the {role} of {str(run)!r}: {error}") from None
    digest = trained.digest(stored["model"], params)
    return StoredNetwork(
        stored["model"], model, params, digest, stored.get(trained.GENERATOR)
    )
