"""Commands for a fleet: what its instances show of each key, and what they are to refuse."""
