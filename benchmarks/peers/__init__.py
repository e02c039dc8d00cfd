"""The peers: an adapter, a worker and pinned requirements for each. Runs in their environments."""

PINNED = "2026-11-30"
"""On this day each version pinned here and in `http_apps/` was the newest that its index had."""
