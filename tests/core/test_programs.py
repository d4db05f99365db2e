import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.core import programs
from robust_manifold.core.programs import Program, compile_together


def double(x):
    return 2 * x


def test_what_is_compiled_ahead_is_not_compiled_again(caplog):
    program = Program(double)
    x = jax.device_put(np.ones(3, np.float32), jax.devices()[0])
    lowered = [program.jitted.lower(x), Program(jnp.sin).jitted.lower(x)]
    compile_together(lowered)
    with jax.log_compiles():
        np.testing.assert_array_equal(program(x), [2, 2, 2])
    assert "Finished XLA compilation" not in caplog.text


def test_what_fails_in_a_thread_is_told():
    class Broken:
        def compile(self):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        compile_together([Broken()])


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    options = {jax.default_backend(): {"xla_cpu_no_such_option": False}}
    monkeypatch.setattr(programs, "_OPTIONS", options)
    programs._known.cache_clear()
    try:
        assert float(Program(double)(1.0)) == 2.0
    finally:
        programs._known.cache_clear()
