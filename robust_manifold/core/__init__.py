"""Words, keys, norms, specs and batching: what every other layer stands on."""
