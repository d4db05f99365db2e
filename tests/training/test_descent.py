"""One step of an optimiser on several networks, and the moving average."""

import jax.numpy as jnp
import numpy as np

from robust_manifold.training import Momentum
from robust_manifold.training.descent import descend, moving_average, remember


def test_one_loss_trains_two_networks():
    transform = Momentum(0.1, momentum=0.0).build(1)
    networks = ({"params": jnp.array(3.0)}, {"params": jnp.array(2.0)})

    def loss_of(networks):
        a, b = (network["params"] for network in networks)
        return a * b, (networks, a + b)

    after = descend(loss_of, networks, transform, remember(transform, networks))
    assert after.loss == 6 and after.measured == 5
    np.testing.assert_allclose(after.networks[0]["params"], 3 - 0.1 * 2)
    np.testing.assert_allclose(after.networks[1]["params"], 2 - 0.1 * 3)


def test_statistics_become_what_the_network_says_even_where_the_loss_has_a_slope():
    transform = Momentum(0.1).build(1)
    network = {"params": jnp.array(1.0), "batch_stats": jnp.array(5.0)}

    def loss_of(networks):
        (network,) = networks
        loss = network["params"] * network["batch_stats"]
        return loss, (({**network, "batch_stats": jnp.array(7.0)},), None)

    memory = remember(transform, (network,))
    after = descend(loss_of, (network,), transform, memory)
    assert after.networks[0]["batch_stats"] == 7
    np.testing.assert_allclose(after.networks[0]["params"], 1 - 0.1 * 5)


def test_the_average_starts_short_and_decays_as_told():
    def one(decay, step):
        average = {"w": jnp.zeros(())}
        params = {"w": jnp.ones(())}
        return float(moving_average(average, params, decay, jnp.int32(step))["w"])

    np.testing.assert_allclose(one(0.999, 0), 0.9, rtol=1e-6)
    np.testing.assert_allclose(one(0.9, 1000), 0.1, rtol=1e-5)
    assert one(0.0, 0) == one(0.0, 1000) == 1
