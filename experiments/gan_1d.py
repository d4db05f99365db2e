"""The convergence picture of Goodfellow et al. 2014: Algorithm 1 in one dimension.

  python -m robust_manifold.main --config=experiments/gan_1d.py

Trains generator and discriminator by the minimax loss, from uniform latents, on numbers
from a normal distribution cut off at 1.75 deviations, and draws the densities of both
and the discriminator over the training: figures and an animation in the report.

At the end, total variation and largest |D - 1/2| are .020 and .065 for seed 0, .017
and .054 for 1, .026 and .063 for 2, which chose the optimisers; over eleven other seeds
(10 to 14, 20, 21 and 100 to 103) they are at most .033 and .095.  About 40 s on two
CPU cores.
"""

from robust_manifold.config import default_config


def get_config():
    config = default_config()
    config.title = "Algorithm 1 in one dimension"
    config.stages = ("convergence", "report")
    config.convergence.density = "truncated_normal(mean=1.0, deviation=0.5, reach=1.75)"
    config.convergence.generator = "mlp_generator(hidden=32, activation='tanh')"
    config.convergence.training = (
        "gan(loss='minimax', discriminator_steps=3, "
        "discriminator=mlp_discriminator(hidden=64, activation='leaky_relu'), "
        "optimizer=adam(learning_rate=0.001, b1=0.0, schedule='cosine'), "
        "discriminator_optimizer="
        "adam(learning_rate=0.01, b1=0.0, schedule='cosine'))"
    )
    config.convergence.steps = 16000
    config.convergence.batch_size = 1024
    config.convergence.frames = 60
    return config
