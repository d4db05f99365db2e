"""The networks of a run, without their parameters, and how long each is trained."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

from robust_manifold import defenses, models
from robust_manifold.config import CLASSIFIER, Experiment
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.networks import GENERATOR, THRESHOLD, Networks
from robust_manifold.stages import roles
from robust_manifold.stages.inputs import by_role, needed
from robust_manifold.stages.inputs.data import RunData
from robust_manifold.training import Setting, steps_of


@dataclasses.dataclass(frozen=True)
class RunNetworks:
    """The networks of a run.

    Attributes:
      experiment: says which.
      data: the images that they fit.
    """

    experiment: Experiment
    data: RunData

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of those that the run's stages train or use."""
        return self.roles_of(self.experiment.stages)

    def roles_of(self, stages: Collection[str]) -> tuple[str, ...]:
        """Returns the roles of those that some stages train or use."""
        return needed.networks(self.experiment, stages)

    def block_of(self, role: str) -> Any:
        """Returns the block of the config that says how a network is made."""
        if (name := roles.classifier_of(role)) is not None:
            return self.experiment.classifier_of(name)
        if (name := roles.network_of(role)) is not None:
            return self.experiment.networks[name]
        return getattr(self.experiment, role)

    def model_of(self, role: str) -> models.Model:
        """Returns the network of one of `roles`."""
        if (name := roles.classifier_of(role)) is not None:
            return self.classifier_of(name)
        if (name := roles.network_of(role)) is not None:
            return self.trained_by_role(name)
        return getattr(self, role)

    @property
    def classifier(self) -> models.Model:
        """The run's own classifier."""
        return self.classifier_of(CLASSIFIER)

    def classifier_of(self, name: str) -> models.Model:
        """Returns the classifier of a name."""
        return self._build(self.experiment.classifier_of(name).model)

    @property
    def generator(self) -> models.Model:
        """The generator."""
        return self._build(self.experiment.generator.model)

    @functools.cached_property
    def partner(self) -> models.Model:
        """What the generator is trained with: its discriminator or its encoder."""
        return self.experiment.generator.training.build_partner(
            self.generator,
            image_shape=self.data.dataset.image_shape,
            classes=len(self.data.dataset.class_names),
        )

    @property
    def encoder(self) -> models.Model:
        """The encoder that inversion has its first guesses from."""
        return self._build(self.encoder_spec)

    @property
    def encoder_spec(self) -> models.EncoderSpec:
        """The encoder as the config gives it, or, for "auto", one that fits."""
        blocks = self.experiment
        if blocks.encoder.model is not None:
            return blocks.encoder.model
        partner = blocks.generator.training.partner
        if isinstance(partner, models.EncoderSpec):
            return partner
        size = blocks.generator.model.latent_size
        return models.fitting_encoder(size, self.data.dataset.image_shape)

    @property
    def substitute(self) -> models.Model:
        """The network of the substitute adversary."""
        try:
            return self._build(self.experiment.evaluation.substitute.model)
        except UsageError as error:
            raise UsageError(f"config.evaluation.substitute: {error}") from None

    def trained_by_role(self, name: str) -> models.Model:
        """Returns one of `config.networks` that the run trains."""
        block = self.experiment.networks[name]
        try:
            model = self._build(block.model)
            if block.training is not None:
                shape = self.data.dataset.image_shape
                block.training.check_network(model, shape)
        except UsageError as error:
            raise UsageError(f"config.networks.{name}.model: {error}") from None
        return model

    def _build(self, spec: models.ModelSpec | str) -> models.Model:
        # Equal specs give the same object.
        return models.build(
            spec,
            image_shape=self.data.dataset.image_shape,
            classes=len(self.data.dataset.class_names),
            outputs=self.data.dataset.outputs,
        )

    @functools.cached_property
    def spanner(self) -> Spanner:
        """The generator and, where a stage of the run fits one, its encoder.

        `trained.load_spanner` returns their parameters.
        """
        encodes = "encoder" in self.roles
        return Spanner(
            self.generator.apply,
            self.generator.input_shape,
            self.generator.starts,
            self.encoder.apply if encodes else None,
            self.generator.class_generator,
        )

    @property
    def of_defences(self) -> Networks:
        """The networks that a defence of the run may use, by role.

        `trained.load_column` returns their parameters.
        """
        networks: dict[str, Any] = {}
        networks |= {role: found.network for role, found in self.further.items()}
        for name in needed.trained_networks(self.experiment):
            networks[name] = self.trained_by_role(name).apply
        if GENERATOR in self.roles:
            networks[GENERATOR] = self.spanner
        if any(
            THRESHOLD in c.defence.needs for c in self.experiment.evaluation.columns
        ):
            networks[THRESHOLD] = defenses.given_number
        return Networks(**networks)

    @functools.cached_property
    def further(self) -> dict[str, by_role.Found]:
        """Those of `config.networks` that the run does not train, read once."""
        return {
            role: by_role.read(
                role,
                block,
                image_shape=self.data.dataset.image_shape,
                classes=len(self.data.dataset.class_names),
                outputs=self.data.dataset.outputs,
                trained_on=self.data.digests["train"]["sha256"],
            )
            for role, block in self.experiment.networks.items()
            if block.training is None
        }

    def classifier_steps(self, name: str) -> int:
        """Returns the duration of a classifier's training in steps."""
        block = self.experiment.classifier_of(name)
        place = roles.place(roles.of_classifier(name))
        return self._steps(place, block.duration, block.batch_size)

    def network_steps(self, name: str) -> int:
        """Returns the duration of the training of one of `config.networks` in steps."""
        block = self.experiment.networks[name]
        return self._steps(f"networks.{name}", block.duration, block.batch_size)

    @functools.cached_property
    def generator_setting(self) -> Setting:
        """The networks and the duration of the generator's training."""
        block = self.experiment.generator
        # A step takes several minibatches, and so does its share of an epoch.
        images = block.batch_size * block.training.minibatches
        steps = self._steps("generator", block.duration, images)
        return Setting(self.generator, self.partner, steps)

    @functools.cached_property
    def encoder_setting(self) -> Setting:
        """The networks and the duration of the encoder's training."""
        block = self.experiment.encoder
        steps = self._steps("encoder", block.duration, block.batch_size)
        setting = Setting(self.generator, self.encoder, steps)
        try:
            block.training.check_networks(setting)
        except UsageError as error:
            raise UsageError(f"config.encoder.model: {error}") from None
        return setting

    def _steps(self, name: str, duration: str, batch_size: int) -> int:
        examples = len(self.data.dataset.train.labels)
        if batch_size > examples:
            raise UsageError(
                f"config.{name}.batch_size asks for {batch_size} images a step; "
                f"allowed: at most the {examples} training images."
            )
        try:
            return steps_of(duration, examples=examples, batch_size=batch_size)
        except UsageError as error:
            raise UsageError(f"config.{name}: {error}") from None

    def check(self) -> None:
        """Refuses networks that can't be built or trained for the run's images.

        Raises:
          UsageError: for the first of them.
        """
        for name in filter(None, map(roles.classifier_of, self.roles)):
            _ = self.classifier_of(name), self.classifier_steps(name)
        for name in filter(None, map(roles.network_of, self.roles)):
            _ = self.trained_by_role(name), self.network_steps(name)
        if "generator" in self.roles:
            _ = self.generator_setting
        if "encoder" in self.roles:
            _ = self.encoder_setting
