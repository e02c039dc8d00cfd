"""Whether a key can be revoked: what instances count and show, and the verdict from it."""
