"""How cost and memory grow: with keys, issuers, decisions, WebSockets and instances.

python -m benchmarks.scale            # all parts, at most 8 minutes
python -m benchmarks.scale keys       # one part
python -m benchmarks.scale.report     # docs/scale.md and its charts, from what these left
"""
