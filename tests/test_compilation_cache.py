import subprocess
import sys

CODE = """
import sys
import jax, jax.numpy as jnp
import robust_manifold
assert jax.config.jax_compilation_cache_dir is None
robust_manifold.enable_compilation_cache(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
"""


def test_a_line_keeps_programs_in_a_folder(tmp_path, monkeypatch):
    for name in ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "new" / "cache"
    subprocess.run([sys.executable, "-c", CODE, str(folder)], check=True)
    assert list(folder.glob("jit_*"))
