"""The console: the web page that an operator keeps open during a rotation or an incident.

`pip install 'jwks-guard[console]'`. See docs/console.md.
"""
