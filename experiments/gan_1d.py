"""The convergence picture of Goodfellow et al. 2014: Algorithm 1 in one dimension.

  python -m robust_manifold.main --config=experiments/gan_1d.py

Trains generator and discriminator on numbers from a normal distribution cut off at two
deviations, by the minimax loss, from uniform latents, and draws the densities of both
and the discriminator over the training: figures and an animation in the report.

At the end, total variation and largest |D - 1/2| are .022 and .075 for seed 0, .040
and .070 for 1, .024 and .074 for 2, which chose the setting; .177 and .049 for 20,
.059 and .034 for 21, which did not.  About 75 s of training beside other work.
"""

from robust_manifold.config import default_config


def get_config():
    config = default_config()
    config.title = "Algorithm 1 in one dimension"
    config.stages = ("convergence", "report")
    config.convergence.density = "truncated_normal(mean=1.0, deviation=0.5)"
    config.convergence.generator = "mlp_generator(hidden=32, activation='tanh')"
    config.convergence.training = (
        "gan(loss='minimax', discriminator_steps=3, "
        "discriminator=mlp_discriminator(hidden=64, activation='tanh'), "
        "optimizer=adam(learning_rate=0.002, b1=0.0, b2=0.99, schedule='cosine'), "
        "discriminator_optimizer="
        "adam(learning_rate=0.005, b1=0.0, b2=0.99, schedule='cosine'))"
    )
    config.convergence.steps = 16000
    config.convergence.batch_size = 1024
    config.convergence.frames = 60
    return config
