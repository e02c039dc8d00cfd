"""JOSE as pure functions on bytes and dicts: no clock, no I/O, no state."""
