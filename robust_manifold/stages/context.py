"""What every stage is given: the experiment, its data, its models, its folder."""

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from robust_manifold import attacks, data, defenses, models
from robust_manifold.config import CLASSIFIER, Column, Experiment
from robust_manifold.core import batching, keys
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.networks import ENCODER, GENERATOR, Networks
from robust_manifold.core.types import PRNGKey
from robust_manifold.inversion import Restarts, as_restarts
from robust_manifold.runtime import (
    GracefulStop,
    Interrupted,
    MetricsWriter,
    RunFolder,
    devices,
)
from robust_manifold.stages import roles
from robust_manifold.stages.networks import by_role
from robust_manifold.stages.table import rows
from robust_manifold.training import Setting, steps_of


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

    @property
    def key(self) -> PRNGKey:
        """The root key of the run."""
        return jax.random.key(self.experiment.seed)

    def stream(self, name: str) -> PRNGKey:
        """Returns the key of the stream `name`."""
        return keys.stream(self.key, name)

    def _stop_while_decoding(self, done: int, total: int) -> None:
        # Of this process alone: others may find the images decoded.
        if self.stop.signal is not None and done < total:
            raise Interrupted(f"stopped after {done} of {total} images were decoded")

    @functools.cached_property
    def dataset(self) -> data.Dataset:
        """The images, loaded once."""
        block = self.experiment.data
        return data.load(
            block.source,
            data_dir=block.data_dir or None,
            validation_examples=block.validation_examples,
            test_examples=block.test_examples,
            label=block.label or None,
            class_names=block.class_names,
            crop=block.crop,
            image_size=block.image_size or None,
            cache_dir=block.cache_dir,
            seed=block.split_seed,
            on_progress=self._stop_while_decoding,
        )

    @functools.cached_property
    def test(self) -> data.Split:
        """The test images that are attacked and counted."""
        split = self.dataset.test
        count = self.experiment.evaluation.examples or split.size
        return split.take(slice(count))

    @functools.cached_property
    def measured(self) -> data.Split:
        """The test images that the generator is measured by."""
        split = self.dataset.test
        return split.take(slice(self.experiment.measures.examples or split.size))

    @functools.cached_property
    def diagnosed(self) -> data.Split:
        """The test images that solvers are compared on."""
        split = self.dataset.test
        return split.take(slice(self.experiment.diagnostics.examples or split.size))

    @property
    def batch_size(self) -> int:
        """Test images computed at a time: one shape for all rounds of a run."""
        block = self.experiment.evaluation
        round_size = min(block.round_size, self.test.size)
        largest = batching.DEFAULT_BATCH_SIZE * jax.device_count()
        return block.batch_size or min(round_size, largest)

    @functools.cached_property
    def validated(self) -> data.Split:
        """The validation images that every defence projects."""
        count = self.experiment.evaluation.validation_examples
        return self.dataset.validation.take(slice(count))

    @functools.cached_property
    def given(self) -> tuple[data.Attacked, ...]:
        """The attacked images that files give."""
        shape, classes = self.dataset.image_shape, len(self.dataset.class_names)
        try:
            return tuple(
                spec.read(shape, classes) for spec in self.experiment.evaluation.given
            )
        except UsageError as error:
            raise UsageError(f"config.evaluation.given: {error}") from None

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return self.experiment.evaluation.columns

    @functools.cached_property
    def classifier(self) -> models.Model:
        """The run's own classifier, without its parameters."""
        return self.classifier_of(CLASSIFIER)

    def classifier_of(self, name: str) -> models.Model:
        """Returns the classifier of a name, without its parameters."""
        if name not in self._classifiers:
            model = self._build(self.experiment.classifier_of(name).model)
            self._classifiers[name] = model
        return self._classifiers[name]

    @functools.cached_property
    def _classifiers(self) -> dict[str, models.Model]:
        """Those built so far: what is built twice would be compiled twice."""
        return {}

    def model_of(self, role: str) -> models.Model:
        """Returns the network of a role of `networks`, without its parameters."""
        if (name := roles.classifier_of(role)) is not None:
            return self.classifier_of(name)
        return getattr(self, role)

    def block_of(self, role: str) -> Any:
        """Returns the block of the config that says how a network is made."""
        if (name := roles.classifier_of(role)) is not None:
            return self.experiment.classifier_of(name)
        return getattr(self.experiment, role)

    @functools.cached_property
    def generator(self) -> models.Model:
        """The generator, without its parameters."""
        return self._build(self.experiment.generator.model)

    @functools.cached_property
    def partner(self) -> models.Model:
        """What the generator is trained with: its discriminator or its encoder."""
        return self.experiment.generator.training.build_partner(
            self.generator,
            image_shape=self.dataset.image_shape,
            classes=len(self.dataset.class_names),
        )

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
        return models.fitting_encoder(size, self.dataset.image_shape)

    @functools.cached_property
    def encoder(self) -> models.Model:
        """The encoder that inversion has its first guesses from, without parameters."""
        return self._build(self.encoder_spec)

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

    @functools.cached_property
    def spanner(self) -> Spanner:
        """The generator and, where a stage of the run fits one, its encoder.

        `trained.load_spanner` returns their parameters.
        """
        encodes = "encoder" in self.networks
        return Spanner(
            self.generator.apply,
            self.generator.input_shape,
            self.generator.starts,
            self.encoder.apply if encodes else None,
        )

    @property
    def defence_networks(self) -> Networks:
        """The networks that a defence of the run may use, by role.

        `trained.load_column` returns their parameters.
        """
        roles = {role: found.network for role, found in self.by_role.items()}
        if GENERATOR in self.networks:
            roles[GENERATOR] = self.spanner
        return Networks(**roles)

    @functools.cached_property
    def by_role(self) -> dict[str, by_role.Found]:
        """The networks of `config.networks`, read once."""
        return {
            role: by_role.read(
                role,
                block,
                image_shape=self.dataset.image_shape,
                classes=len(self.dataset.class_names),
                trained_on=self.digests["train"]["sha256"],
            )
            for role, block in self.experiment.networks.items()
        }

    def _build(self, spec) -> models.Model:
        return models.build(
            spec,
            image_shape=self.dataset.image_shape,
            classes=len(self.dataset.class_names),
        )

    def classifier_steps(self, name: str) -> int:
        """Returns the duration of a classifier's training in steps."""
        block = self.experiment.classifier_of(name)
        place = roles.place(roles.of_classifier(name))
        return self._steps(place, block.duration, block.batch_size)

    @functools.cached_property
    def setting(self) -> Setting:
        """The networks and the duration of the generator's training."""
        block = self.experiment.generator
        # A step takes several minibatches, and so does its share of an epoch.
        images = block.batch_size * block.training.minibatches
        steps = self._steps("generator", block.duration, images)
        return Setting(self.generator, self.partner, steps)

    @property
    def networks(self) -> tuple[str, ...]:
        """The roles of those of the run's networks that its stages train or use.

        They are "classifier", "generator", where one of the run's stages is
        fit_encoder "encoder", and "classifier-NAME" of the config's `classifiers`.
        """
        return self.networks_of(self.experiment.stages)

    def networks_of(self, stages: Collection[str]) -> tuple[str, ...]:
        """Returns the roles of those networks that some stages train or use."""
        inverts = {"measure", "diagnose"} | self._generating_stages
        needed = {
            "classifier": {"fit_classifier", "measure"},
            "generator": {"fit_generator", "fit_encoder"} | inverts,
        }
        if "fit_encoder" in self.experiment.stages:
            needed["encoder"] = {"fit_encoder"} | inverts
        for name in self.named_classifiers:
            needed[roles.of_classifier(name)] = {"fit_classifiers"}
            if self.experiment.classifier_of(name).needs_spanner:
                needed["generator"] |= {"fit_classifiers"}
                # An encoder only comes along, where there is one.
                needed.get("encoder", set()).add("fit_classifiers")
        for name in self.experiment.evaluation.classifiers:
            needed[roles.of_classifier(name)] |= {"attack", "evaluate", "audit"}
        if any(CLASSIFIER in self._line(name) for name in self.named_classifiers):
            needed["classifier"] |= {"fit_classifiers"}
        return tuple(role for role, users in needed.items() if users & set(stages))

    @functools.cached_property
    def named_classifiers(self) -> tuple[str, ...]:
        """The names of the config's `classifiers` that are trained, in their order.

        They are those that a column names, and those that their training needs; where
        no stage of the run has columns, all of them.
        """
        using = {"attack", "evaluate"} & set(self.experiment.stages)
        wanted = self.experiment.evaluation.classifiers
        if not using:
            wanted = tuple(self.experiment.classifiers)
        lines = [name for last in wanted for name in self._line(last)]
        return tuple(name for name in dict.fromkeys(lines) if name != CLASSIFIER)

    def _line(self, name: str) -> tuple[str, ...]:
        """Returns a classifier after those that its training needs."""
        return (*self.experiment.trained_for(name), name)

    @property
    def _generating_stages(self) -> set[str]:
        """The stages that need the generator for a defence or an adversary."""
        block = self.experiment.evaluation
        kinds = {text.partition("(")[0] for text in block.adversaries}
        searches = "latent" in kinds and bool(block.attacks)
        generating = {GENERATOR, ENCODER}
        if not any(generating & set(c.defence.needs) for c in block.columns):
            if block.attacks and any(generating & needs for needs in self._stand_ins):
                # The audit looks through the adversary's eyes, too.
                return {"attack", "audit"}
            return {"attack"} if searches else set()
        # All but the oblivious adversary meet the defended classifier itself, a
        # substitute where it is trained.
        meets = bool(kinds - {"oblivious"}) and bool(block.attacks)
        return {"evaluate", "audit"} | ({"attack"} if meets else set())

    @property
    def _stand_ins(self) -> Iterator[set[str]]:
        """Yields the roles of networks that each adversary needs of its own."""
        block = self.experiment.evaluation
        for spec in map(defenses.adversaries.build, block.adversaries):
            for column in block.columns:
                yield set(spec.needs(column.defence))

    @property
    def _trains_substitutes(self) -> bool:
        block = self.experiment.evaluation
        return "substitute" in block.adversaries and bool(block.attacks)

    @functools.cached_property
    def substitute(self) -> models.Model:
        """The network of the substitute adversary, without its parameters."""
        try:
            return self._build(self.experiment.evaluation.substitute.model)
        except UsageError as error:
            raise UsageError(f"config.evaluation.substitute: {error}") from None

    def _check_attacks(self) -> None:
        """Refuses what can't be made of this run's images."""
        for attack in self.experiment.evaluation.attacks:
            if isinstance(attack, attacks.Patch):
                try:
                    attack.check_images(self.dataset.image_shape[-1])
                except UsageError as error:
                    raise UsageError(f"config.evaluation.attacks: {error}") from None
        if self._trains_substitutes:
            self._check_substitute()

    def _check_substitute(self) -> None:
        """Refuses a substitute that can't be trained on this run's images."""
        _ = self.substitute
        seeds = self.experiment.evaluation.substitute.seeds
        if seeds > self.dataset.validation.size:
            raise UsageError(
                "config.evaluation.substitute: SubstituteTraining.seeds is "
                f"{seeds}; allowed: at most the {self.dataset.validation.size} "
                "validation images."
            )

    def _steps(self, name: str, duration: str, batch_size: int) -> int:
        examples = len(self.dataset.train.labels)
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
        """Raises a `UsageError` for whatever can be seen to fail before any work."""
        if not self.networks:
            return
        stages = set(self.experiment.stages)
        if {"attack", "evaluate"} & stages:
            # Before the images are read, which may take long.
            rows.check_rows(self.experiment.evaluation)
            own = {GENERATOR, ENCODER} & set(self.networks)
            further = self.experiment.networks
            rows.check_networks(self.experiment.evaluation, own, further)
        split = self.dataset.test
        if split.size == 0:
            raise UsageError(
                f"{self.experiment.data.source!r} has no test images of its own; set "
                "config.data.test_examples to take some from its training images."
            )
        for name, users in {
            "evaluation": {"attack", "evaluate", "audit"},
            "measures": {"measure"},
            "diagnostics": {"diagnose"},
        }.items():
            count = getattr(self.experiment, name).examples
            if users & stages and count > split.size:
                raise UsageError(
                    f"config.{name}.examples is {count}; allowed: at most the "
                    f"{split.size} test images."
                )
        neighbours = self.experiment.measures.neighbours
        if "measure" in stages and neighbours >= split.size:
            raise UsageError(
                f"config.measures.neighbours is {neighbours}; allowed: less than the "
                f"{split.size} test images."
            )
        for name in filter(None, map(roles.classifier_of, self.networks)):
            _ = self.classifier_of(name), self.classifier_steps(name)
        if "attack" in stages:
            self._check_attacks()
        if "evaluate" in stages:
            _ = self.given
        if "generator" in self.networks:
            _ = self.setting
        if "encoder" in self.networks:
            _ = self.encoder_setting
        self._check_starts(stages)

    @functools.cached_property
    def digests(self) -> dict[str, dict[str, Any]]:
        """Size and checksum of each split."""
        return {
            name: {"examples": split.size, "sha256": _digest(split)}
            for name, split in self.dataset._asdict().items()
            if isinstance(split, data.Split)
        }

    def check_same_guesses(self, stages: Collection[str]) -> None:
        """Refuses to invert with an encoder beside what was inverted without one.

        `config.stages`, which may change in a run folder, says whether there is one.

        Args:
          stages: those that are about to run.
        """
        inverting = self.networks_of(set(stages) - {"fit_generator", "fit_encoder"})
        if "generator" not in inverting:
            return
        file, uses = "guesses.json", self.spanner.encode is not None
        if not self.folder.has(file):
            self.folder.write_json(file, {"encoder": uses})
            devices.barrier(f"{file} written")
        if self.folder.read_json(file)["encoder"] != uses:
            was, now = ("without", "with") if uses else ("with", "without")
            raise UsageError(
                f"{self.folder.path} holds inversions {was} an encoder, and "
                f"config.stages is now {now} fit_encoder; choose another --workdir, or "
                "give the stored stages."
            )

    def check_same_networks(self, stages: Collection[str]) -> None:
        """Reads the networks of `config.networks`, and refuses others than before.

        Args:
          stages: those that are about to run.
        """
        if not {"attack", "evaluate", "audit"} & set(stages) or not self.by_role:
            return
        if not self.folder.has(by_role.FILE):
            told = {
                role: {**found.origin, "sha256": found.sha256}
                for role, found in self.by_role.items()
            }
            self.folder.write_json(by_role.FILE, told)
            devices.barrier(f"{by_role.FILE} written")
        for role, stored in self.folder.read_json(by_role.FILE).items():
            if stored["sha256"] != self.by_role[role].sha256:
                raise UsageError(
                    f"config.networks.{role} has other parameters than when "
                    f"{self.folder.path} was made; use another --workdir."
                )

    def _check_starts(self, stages: Collection[str]) -> None:
        """Refuses restarts that ask for an encoder where none is trained."""
        if "encoder" in self.networks:
            return
        blocks = self.experiment
        asking = {
            "measures.restarts": ({"measure"}, [blocks.measures.restarts]),
            "diagnostics.restarts": ({"diagnose"}, [blocks.diagnostics.restarts]),
            "evaluation.adversaries": ({"attack"}, [*self._asked_by_adversaries()]),
            "evaluation.defences": (
                self._generating_stages,
                [
                    as_restarts(defence.restarts)
                    for defence in blocks.evaluation.defences
                    if isinstance(defence, defenses.InvertAndClassify)
                ],
            ),
        }
        for name, (users, every) in asking.items():
            for restarts in every:
                if users & set(stages) and restarts.encoded:
                    raise UsageError(
                        f"config.{name}: Restarts.encoded is {restarts.encoded}; "
                        "allowed: 0 or None where config.stages has no fit_encoder."
                    )

    def _asked_by_adversaries(self) -> Iterator[Restarts]:
        """Yields the restarts that adversaries have of their own."""
        block = self.experiment.evaluation
        for adversary in map(defenses.adversaries.build, block.adversaries):
            if not isinstance(adversary, defenses.BPDA):
                continue
            if isinstance(adversary.stand_in, defenses.InvertAndClassify):
                yield as_restarts(adversary.stand_in.restarts)
            elif adversary.stand_in is None and any(c.projects for c in block.columns):
                yield as_restarts(adversary.restarts)

    def check_same_data(self) -> None:
        """Refuses a folder whose artefacts were made from other images."""
        splits = self.digests
        if not self.folder.has("data.json"):
            self.folder.write_json("data.json", splits)
            devices.barrier("data.json written")
        for name, stored in self.folder.read_json("data.json").items():
            if stored != splits[name]:
                raise UsageError(
                    f"The {name} images of {self.experiment.data.source!r} have "
                    f"changed since {self.folder.path} was made; use another --workdir."
                )


def _digest(split: data.Split) -> str:
    digest = hashlib.sha256()
    for array in split:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
