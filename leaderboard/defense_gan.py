"""Defense-GAN (Samangouei, Kabkab and Chellappa 2018) with a VAE's decoder.

50 steps of momentum down the squared distance, from two random latents; the nearer
image of both is classified.
"""

from robust_manifold import adapters


def entry():
    spanner = adapters.spanner_from_published("mnist_vae_decoder", "mnist_vae_encoder")
    return {
        "defence": "defense_gan(steps=50, restarts=2)",
        "networks": {"generator": spanner},
        "title": "Defense-GAN, 50 steps",
        "source": "https://arxiv.org/abs/1805.06605",
    }
