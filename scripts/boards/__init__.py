"""Grafana's boards: made here with Grafana's SDK, shipped as JSON (src/skep/monitor/grafana).

`python -m scripts.boards` writes them. The package `skep` does not import this, nor the SDK.
"""
