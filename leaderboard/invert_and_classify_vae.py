"""Invert and Classify (Ilyas et al. 2017) on a VAE's decoder.

Four steps of Levenberg-Marquardt from an encoder's guess and from a random latent; the
nearer image is classified.
"""

from robust_manifold import adapters

INC = (
    "invert_and_classify(solver=levenberg_marquardt(steps=4), "
    "restarts=restarts(count=2, encoded=1))"
)


def entry():
    spanner = adapters.spanner_from_published("mnist_vae_decoder", "mnist_vae_encoder")
    return {
        "defence": INC,
        "networks": {"generator": spanner},
        "title": "Invert and Classify, VAE",
        "source": "https://arxiv.org/abs/1712.09196",
    }
