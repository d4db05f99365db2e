r"""Which generator can be inverted best: four GAN losses and two VAEs on MNIST.

  for name in minimax non_saturating wgan_gp hinge vae conv_vae; do
    TFDS_DATA_DIR=... python -m robust_manifold.main \
        --config=experiments/mnist_generators.py:$name --workdir=runs/generators/$name
  done
  robust-manifold collect runs/generators/*

The budget is the same for all: 10 epochs of real images, in minibatches of 64.  All
but the paper's VAE share one generator, so the table compares ways of training it.
Mean errors of the first 1,000 test digits, best of 10 starts, seed 0: .0082, .0094,
.0052, .0064, .0054, .0022, in the order above; docs/generators.md has the whole table.
2 to 8 minutes of training each, on two CPU cores with other work beside it.
"""

from robust_manifold.config import default_config

ADAM = "adam(learning_rate=0.0005, b1=0.5, b2=0.9)"


def gan(loss, k, critic="dcgan_discriminator(width=32)", adam=ADAM):
    """Returns a training of a GAN as a config writes it."""
    return (
        f"gan(loss='{loss}', discriminator={critic}, discriminator_steps={k}, "
        f"optimizer={adam}, discriminator_optimizer={adam})"
    )


SLOW = "adam(learning_rate=0.0002, b1=0.5)"
SPECTRAL = "dcgan_discriminator(width=32, spectral_norm=True)"
TRAININGS = {
    "minimax": gan("minimax", 1, adam=SLOW),
    "non_saturating": gan("non_saturating", 1, adam=SLOW),
    "wgan_gp": gan("wgan_gp", 3),
    "hinge": gan("hinge", 1, SPECTRAL, SLOW),
    "vae": "vae(encoder=vae_encoder)",
    "conv_vae": "vae(encoder=conv_encoder(latent_size=64, width=32))",
}


def get_config(name="wgan_gp"):
    if name not in TRAININGS:
        raise ValueError(f"The training is {name!r}; allowed: {', '.join(TRAININGS)}")
    config = default_config()
    config.title = f"MNIST generators: {name}"
    config.stages = ("fit_classifier", "fit_generator", "measure", "report")
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000

    config.classifier.model = "small_cnn"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )

    config.generator.model = "dcgan_generator(latent_size=64, width=32)"
    if name == "vae":
        config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.training = TRAININGS[name]
    config.generator.duration = "10 epochs"

    config.training.checkpoint_every = 2000
    config.measures.examples = 1000
    config.measures.solver = "adam(steps=100)"
    config.measures.restarts = "10"
    config.measures.samples = 5000
    return config
