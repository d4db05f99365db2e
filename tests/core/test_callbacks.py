"""Functions of NumPy arrays within programs."""

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.callbacks import called

SHAPE = jax.ShapeDtypeStruct((2,), np.float32)


def test_under_vmap_there_is_one_call_for_all():
    asked = []

    def swapped(image, scale):
        asked.append(image.shape)
        return image[..., ::-1] * scale[..., None]

    def apply(image, scale):
        return called(swapped, SHAPE, image, scale)

    images, scales = jnp.arange(6.0).reshape(3, 2), jnp.array([1.0, 2.0, 3.0])
    found = jax.jit(jax.vmap(apply))(images, scales)
    assert found.tolist() == [[1, 0], [6, 4], [15, 12]]
    assert asked == [(3, 2)]
