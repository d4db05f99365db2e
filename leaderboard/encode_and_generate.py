"""One pass through a VAE's encoder and decoder.

MagNet's reformer (Meng and Chen 2017), and Li and Ji 2019.
"""

from robust_manifold import adapters


def entry():
    spanner = adapters.spanner_from_published("mnist_vae_decoder", "mnist_vae_encoder")
    return {
        "defence": "encode_and_generate",
        "networks": {"generator": spanner},
        "title": "encode and generate, VAE",
    }
