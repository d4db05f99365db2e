"""Networks behind `Model(init, apply)`: generators, critics, classifiers, encoders."""

# Importing a file of networks enters them in the registry.
from robust_manifold.models import (
    classifiers,
    codebook,
    denoiser,
    discriminators,
    encoders,
    generators,
    mlp,
    one_per_class,
    residual,
)
from robust_manifold.models.encoders import fitting_encoder
from robust_manifold.models.latents import (
    latents_of_classes,
    sample_latents,
    with_classes,
)
from robust_manifold.models.layers import Conv, ConvTranspose
from robust_manifold.models.model import (
    ClassifierSpec,
    DenoiserSpec,
    DiscriminatorSpec,
    EncoderSpec,
    GeneratorSpec,
    Model,
    ModelSpec,
    build,
    count_parameters,
    registry,
)
from robust_manifold.models.torch_weights import (
    from_torch,
    to_torch,
    torch_layers,
    torch_table,
)
from robust_manifold.models.weights import from_table, to_table

__all__ = [
    "ClassifierSpec",
    "Conv",
    "ConvTranspose",
    "DenoiserSpec",
    "DiscriminatorSpec",
    "EncoderSpec",
    "GeneratorSpec",
    "Model",
    "ModelSpec",
    "build",
    "count_parameters",
    "fitting_encoder",
    "from_table",
    "from_torch",
    "latents_of_classes",
    "registry",
    "sample_latents",
    "to_table",
    "to_torch",
    "torch_layers",
    "torch_table",
    "with_classes",
]
