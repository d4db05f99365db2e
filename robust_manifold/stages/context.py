"""What every stage is given: the experiment, its data, its networks, its folder."""

import dataclasses
import functools

import jax

from robust_manifold.config import Column, Experiment
from robust_manifold.core import keys
from robust_manifold.core.types import PRNGKey
from robust_manifold.runtime import GracefulStop, MetricsWriter, RunFolder
from robust_manifold.stages.inputs.data import RunData
from robust_manifold.stages.inputs.networks import RunNetworks


@dataclasses.dataclass(frozen=True)
class Context:
    """One run of one experiment.

    Attributes:
      experiment: what to do.
      folder: where the artefacts lie.
      metrics: the lines of metrics.jsonl.
      stop: tells long loops that they have been asked to end.
    """

    experiment: Experiment
    folder: RunFolder
    metrics: MetricsWriter
    stop: GracefulStop

    @functools.cached_property
    def data(self) -> RunData:
        """The images."""
        return RunData(self.experiment, self.stop)

    @functools.cached_property
    def networks(self) -> RunNetworks:
        """The networks, without their parameters; `trained` loads these."""
        return RunNetworks(self.experiment, self.data)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return self.experiment.evaluation.columns

    @property
    def key(self) -> PRNGKey:
        """The root key of the run."""
        return jax.random.key(self.experiment.seed)

    def stream(self, name: str) -> PRNGKey:
        """Returns the key of the stream `name`."""
        return keys.stream(self.key, name)
