"""A small data set and experiment for tests of the whole program."""

import os
import pathlib

import numpy as np

CONFIG = """
from robust_manifold.config import default_config


def get_config():
    config = default_config()
    config.data.source = "npz:{data}"
    config.data.validation_examples = 20
    config.data.test_examples = 20
    config.classifier.model = "linear"
    config.classifier.duration = "12 steps"
    config.classifier.batch_size = 16
    config.generator.model = "dcgan_generator(latent_size=4, width=2)"
    config.generator.training = "gan(discriminator=dcgan_discriminator(width=2))"
    config.generator.duration = "8 steps"
    config.generator.batch_size = 8
    left_out = ("fit_encoder", "fit_classifiers", "diagnose", "audit")
    config.stages = tuple(s for s in config.stages if s not in left_out)
    config.encoder.model = "vae_encoder(latent_size=4, hidden=8)"
    config.encoder.duration = "8 steps"
    config.encoder.batch_size = 16
    config.measures.examples = 6
    config.measures.solver = "adam(steps=3)"
    config.measures.restarts = "2"
    config.measures.validation_examples = 3
    config.measures.samples = 20
    config.evaluation.examples = 8
    config.evaluation.round_size = 4
    config.evaluation.validation_examples = 4
    config.evaluation.attacks = ("fgsm(epsilon=0.1)",)
    config.evaluation.defences = (
        "none",
        "invert_and_classify(solver=adam(steps=3), restarts=2)",
    )
    config.training.log_every = 4
    config.training.checkpoint_every = 4
    return config
"""


def write_digits(path: pathlib.Path, n: int = 120, **changes) -> None:
    """Writes an .npz source of n blurred bars in three classes; `changes` replace."""
    labels = np.arange(n) % 3
    images = np.random.default_rng(0).integers(0, 60, (n, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 8 * label : 8 + 8 * label] += 150
    np.savez(path, **({"images": images, "labels": labels} | changes))


def environment_of(devices: int) -> dict[str, str]:
    """Returns the environment of a process with so many virtual CPU devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
    }
