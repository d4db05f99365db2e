"""Networks behind `Model(init, apply)`: generators, critics, classifiers, encoders."""

# Importing a file of networks enters them in the registry.
from robust_manifold.models import classifiers, discriminators, encoders, generators
from robust_manifold.models.layers import Conv, ConvTranspose
from robust_manifold.models.model import (
    ClassifierSpec,
    DiscriminatorSpec,
    EncoderSpec,
    GeneratorSpec,
    Model,
    ModelSpec,
    build,
    count_parameters,
    registry,
)

__all__ = [
    "ClassifierSpec",
    "Conv",
    "ConvTranspose",
    "DiscriminatorSpec",
    "EncoderSpec",
    "GeneratorSpec",
    "Model",
    "ModelSpec",
    "build",
    "count_parameters",
    "registry",
]
