"""Pure train steps: of classifiers, generators with their partners, and encoders."""

# Importing a file of trainings enters them in the registry.
from robust_manifold.training.adversarial import Adversarial
from robust_manifold.training.certified import (
    Certified,
    CertifiedMetrics,
    CertifiedOnManifold,
)
from robust_manifold.training.classifier import (
    ClassifierMetrics,
    ClassifierState,
    ClassifierTraining,
    CrossEntropy,
)
from robust_manifold.training.classifier import registry as classifier_trainings
from robust_manifold.training.denoising import (
    Denoising,
    DenoisingMetrics,
    DenoisingState,
)
from robust_manifold.training.duration import steps_of
from robust_manifold.training.encoder import (
    EncoderMetrics,
    EncoderState,
    EncoderTraining,
    Inverting,
    guessed_images,
)
from robust_manifold.training.encoder import registry as encoder_trainings
from robust_manifold.training.enhanced import EnhancedINC
from robust_manifold.training.fast import FastFGSM
from robust_manifold.training.gan import GanMetrics, GanState, GanTraining
from robust_manifold.training.gan_losses import GanLoss
from robust_manifold.training.generator import GeneratorTraining, Setting
from robust_manifold.training.generator import registry as generator_trainings
from robust_manifold.training.multi_steepest import MultiSteepest
from robust_manifold.training.network import NetworkTraining
from robust_manifold.training.network import registry as network_trainings
from robust_manifold.training.noisy import Noisy
from robust_manifold.training.optimizers import Adam, Momentum, Optimizer, as_optimizer
from robust_manifold.training.optimizers import registry as optimizers
from robust_manifold.training.overpowered import OverpoweredAdversarial
from robust_manifold.training.pairs import KeptPairs, PairMemory, PairMetrics
from robust_manifold.training.regression import RegressionMetrics, SquaredError
from robust_manifold.training.substitute import (
    SubstituteRound,
    SubstituteTraining,
    TrainedSubstitute,
    train_substitute,
)
from robust_manifold.training.substitute import registry as substitutes
from robust_manifold.training.trades import TRADES, TradesMetrics
from robust_manifold.training.vae import VaeMetrics, VaeState, VaeTraining

__all__ = [
    "TRADES",
    "Adam",
    "Adversarial",
    "Certified",
    "CertifiedMetrics",
    "CertifiedOnManifold",
    "ClassifierMetrics",
    "ClassifierState",
    "ClassifierTraining",
    "CrossEntropy",
    "Denoising",
    "DenoisingMetrics",
    "DenoisingState",
    "EncoderMetrics",
    "EncoderState",
    "EncoderTraining",
    "EnhancedINC",
    "FastFGSM",
    "GanLoss",
    "GanMetrics",
    "GanState",
    "GanTraining",
    "GeneratorTraining",
    "Inverting",
    "KeptPairs",
    "Momentum",
    "NetworkTraining",
    "MultiSteepest",
    "Noisy",
    "Optimizer",
    "OverpoweredAdversarial",
    "PairMemory",
    "PairMetrics",
    "RegressionMetrics",
    "Setting",
    "SquaredError",
    "SubstituteTraining",
    "SubstituteRound",
    "TradesMetrics",
    "TrainedSubstitute",
    "VaeMetrics",
    "VaeState",
    "VaeTraining",
    "as_optimizer",
    "classifier_trainings",
    "encoder_trainings",
    "generator_trainings",
    "guessed_images",
    "network_trainings",
    "optimizers",
    "steps_of",
    "substitutes",
    "train_substitute",
]
