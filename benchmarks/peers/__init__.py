"""The peers: an adapter, a worker and pinned requirements for each. Runs in their environments."""
