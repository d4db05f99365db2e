"""The blocks of a config that say how the networks are made."""

import dataclasses

from robust_manifold.config.components import encoder, model, network_training
from robust_manifold.config.schema import Block, key
from robust_manifold.core.spec import check
from robust_manifold.models import (
    ClassifierSpec,
    EncoderSpec,
    GeneratorSpec,
    ModelSpec,
    registry,
)
from robust_manifold.training import (
    ClassifierTraining,
    EncoderTraining,
    GeneratorTraining,
    NetworkTraining,
    classifier_trainings,
    encoder_trainings,
    generator_trainings,
)

ORIGINS = ("from_run", "weights", "published")
"""The keys of a network's block that say where else it comes from."""


class NetworkBlock(Block):
    """What the blocks of networks have in common."""

    batch_size: int
    from_run: str
    weights: str
    published: str
    """As in the config; of an `Experiment`, empty unless it is taken from there."""

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        # One network is not taken from two places at once.
        if self.from_run:
            check(not self.weights, self, "weights", "empty where from_run is given")

    @property
    def taken_from(self) -> str:
        """Where it comes from, if nothing of it is trained; else empty."""
        return self.from_run or self.weights or self.published


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifier(NetworkBlock):
    """How the classifier is made."""

    model: ClassifierSpec = key(
        "small_cnn", "a classifier, such as madry_cnn", model(ClassifierSpec)
    )
    training: ClassifierTraining = key(
        "cross_entropy",
        "how it is trained, and its optimiser",
        classifier_trainings.build,
    )
    duration: str = key("10 epochs", "such as '10 epochs' or '3000 steps'")
    batch_size: int = key(64, "images a step")
    from_run: str = key("", "workdir of a run whose classifier is taken over")
    weights: str = key("", "npz or safetensors file to take it from")
    published: str = key("", "name of the published weights of it, for pretrained")
    start: str = ""
    """Name of the classifier whose parameters it starts from; the run's own one starts
    anew."""

    @property
    def taken_over(self) -> bool:
        """Whether it comes from elsewhere, so that nothing is trained."""
        return bool(self.taken_from)

    @property
    def needs_spanner(self) -> bool:
        """Whether its training is given the generator."""
        return self.training.needs_spanner and not self.taken_over


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamedClassifier(Classifier):
    """How one of `classifiers` is made."""

    start: str = key(
        "",
        "name of the classifier whose parameters it starts from, or started from where "
        "it is taken over; empty: anew",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generator(NetworkBlock):
    """How the generator is made."""

    model: GeneratorSpec = key(
        "dcgan_generator(latent_size=64)", "a generator", model(GeneratorSpec)
    )
    training: GeneratorTraining = key(
        "gan",
        "how it is trained: gan or vae, with its partner network and optimisers",
        generator_trainings.build,
    )
    duration: str = key("50 epochs", "such as '50 epochs' or '3000 steps'")
    batch_size: int = key(64, "images a discriminator or encoder step")
    from_run: str = key("", "workdir of a run whose generator is taken over")
    weights: str = key("", "npz or safetensors file to take it from")
    published: str = key("", "name of the published weights of it, for pretrained")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder(NetworkBlock):
    """How the encoder that guesses latents is made."""

    model: EncoderSpec | None = key(
        "auto",
        "encoder of images into the generator's latents, for inversion's first "
        "guesses; auto: a VAE's own kind, else conv_encoder where the images' sides "
        "allow it, else vae_encoder",
        encoder,
    )
    """None: chosen to fit the generator."""
    training: EncoderTraining = key(
        "inverting",
        "how it is trained, and its optimiser",
        encoder_trainings.build,
    )
    duration: str = key("5 epochs", "such as '5 epochs' or '3000 steps'")
    batch_size: int = key(128, "images a step")
    from_run: str = key("", "workdir of a run of this generator, to take it from")
    weights: str = key("", "npz or safetensors file to take it from")
    published: str = key("", "name of the published weights of it, for pretrained")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DefenceNetwork(NetworkBlock):
    """A network that defences find by its role, trained by the run or elsewhere."""

    model: ModelSpec = key("", "any model, such as vae_encoder", registry.build)
    training: NetworkTraining | None = key(
        "",
        "how it is trained, such as 'denoising'; empty: elsewhere",
        network_training,
    )
    """None: elsewhere."""
    duration: str = key("10 epochs", "such as '10 epochs' or '3000 steps'")
    batch_size: int = key(128, "images a step")
    weights: str = key(
        "",
        "npz or safetensors file to take it from; files with commas between them are "
        "a stack of equal models (of one: 'FILE,')",
    )
    from_run: str = key("", "workdir of a run to take it from, in place of weights")
    role: str = key(
        "", "its role in that run, such as discriminator; empty where it has a training"
    )
    published: str = key("", "name of the published weights of it, for pretrained")

    def __post_init__(self):
        if self.training is not None:
            super().__post_init__()
            check(not self.is_stack, self, "weights", "one file, which has a training")
            check(not self.role, self, "role", "empty where it has a training")
            return
        check(not self.published, self, "published", "empty where it has no training")
        one = bool(self.files) != bool(self.from_run)
        check(one, self, "weights", "a file, or none and a run in from_run")
        given = bool(self.role) == bool(self.from_run)
        check(given, self, "role", "that of a network in from_run, and else empty")

    @property
    def files(self) -> tuple[str, ...]:
        """The files of `weights`."""
        return tuple(filter(None, map(str.strip, self.weights.split(","))))

    @property
    def is_stack(self) -> bool:
        """Whether the role holds a tuple of networks."""
        return "," in self.weights
