"""The folder in which JAX keeps compiled programs from one process to the next."""

import os
from collections.abc import Mapping
from pathlib import Path

_MIN_COMPILE_SECONDS = 0.1
"""Programs that compile faster are not worth a file each; JAX's own second would
leave out nearly all programs of a small network."""


def enable_compilation_cache(folder: str | os.PathLike[str] | None = None) -> None:
    """Lets JAX keep compiled programs, so that the next process need not compile them.

    Call it once, before the first attack.  It changes JAX's settings for the whole
    process, as an import of the package never does.  A folder that cannot be made is
    left out: this costs time, no results.

    Args:
      folder: which must be trusted, since programs are read from it; by default that
        of `JAX_COMPILATION_CACHE_DIR`, else `~/.cache/robust_manifold/xla`.
    """
    # An import of the package alone does not import JAX.
    import jax

    if folder is not None or not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        path = Path(folder or cache_folder(os.environ)).expanduser()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError:
            return
        jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update(
        "jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS
    )


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Returns where compiled programs are kept by default."""
    home = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "robust_manifold" / "xla"
