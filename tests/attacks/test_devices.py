"""One or four virtual devices give the same adversarial images and projections."""

import os
import subprocess
import sys

import numpy as np

SCRIPT = """
import sys
import jax, jax.numpy as jnp, numpy as np
from robust_manifold import attacks, inversion

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
    attacks.PGD(0.1, "l2", steps=5, restarts=2), classify, w, images,
    np.arange(6) % 3, key=key, batch_size=3,
)
inverted = inversion.invert(
    generate, a, images, key=key, solver="adam(steps=20)", restarts=2,
    latent_shape=(3,), batch_size=3,
)
np.savez(
    sys.argv[1], devices=jax.device_count(), images=crafted.images,
    success=crafted.success, latent=inverted.latent, errors=inverted.restart_errors,
)
"""


def _run(path, devices):
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(path, allow_pickle=False)


def test_one_and_four_devices_agree(tmp_path):
    one, four = _run(tmp_path / "1.npz", 1), _run(tmp_path / "4.npz", 4)
    assert (one["devices"], four["devices"]) == (1, 4)
    np.testing.assert_array_equal(one["success"], four["success"])
    for name in ("images", "latent", "errors"):
        np.testing.assert_allclose(one[name], four[name], atol=1e-6)
