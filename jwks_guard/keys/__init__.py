"""The only place that decides whether a key is trusted."""
