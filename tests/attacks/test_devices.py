"""One or three virtual devices give the same adversarial images and projections."""

import subprocess
import sys

import numpy as np

from tests.support import environment_of

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
from robust_manifold import attacks, inversion, models

rng = np.random.default_rng(0)
w = jax.device_put(jnp.asarray(rng.normal(size=(16, 3)), jnp.float32), jax.devices()[0])
a = jax.device_put(jnp.asarray(rng.normal(size=(3, 16)), jnp.float32), jax.devices()[0])
images = rng.uniform(size=(6, 4, 4, 1)).astype(np.float32)

def classify(params, image):
    return jnp.tanh(image.reshape(-1)) @ params

def generate(params, latent):
    return jax.nn.sigmoid(latent @ params).reshape(4, 4, 1)

key = jax.random.key(0)
crafted = attacks.craft(
    attacks.PGD(0.5, "l2", steps=10, restarts=2, stop=True), classify, w, images,
    np.arange(6) % 3, key=key, batch_size=3,
)
inverted = inversion.invert(
    generate, a, images, key=key, latent_shape=(3,), batch_size=3
)
model = models.build("dcgan_generator(latent_size=8, width=2)")
digits = rng.uniform(size=(5, 28, 28, 1)).astype(np.float32)
searched = inversion.invert(
    model.apply, model.init(key), digits, key=key, latent_shape=(8,), tile=2,
    solver="lbfgs(steps=40)",
)
np.savez(
    sys.argv[1], devices=jax.device_count(), images=crafted.images,
    success=crafted.success, queries=crafted.queries.forwards,
    latent=inverted.latent, errors=inverted.restart_errors,
    searched=searched.latent, projections=searched.image,
)
"""


def _run_elsewhere(path, devices):
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path)]
    environment = environment_of(devices)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(path, allow_pickle=False)


def _run_here(path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", str(path)])
    exec(SCRIPT, {})
    return np.load(path, allow_pickle=False)


def test_the_number_of_devices_changes_nothing(tmp_path, monkeypatch):
    one = _run_here(tmp_path / "1.npz", monkeypatch)
    many = _run_elsewhere(tmp_path / "3.npz", 3)
    assert (one["devices"], many["devices"]) == (1, 3)
    # A search would amplify a difference in rounding: there must be none.
    for name in set(one.files) - {"devices"}:
        np.testing.assert_array_equal(one[name], many[name], err_msg=name)
    # Images are ready at different times.
    assert len(set(one["queries"])) > 1
