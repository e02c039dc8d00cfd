"""One small app, unguarded and behind each guard, and what it takes to serve and to load them.

Every app answers `GET /` with the same JSON. It finds its tenant in the environment: ISSUER,
AUDIENCE and JWKS_URI. The Python apps are imported by uvicorn, each in the environment of its peer.
"""
