"""Faults on purpose: each is caused on a kind cluster under load, watched, mended, and written to docs/faults.md.

`python -m e2e.faults` runs all, `python -m e2e.faults NAME ...` some. Only processes and containers of the cluster of
this run are stopped, each by its id, and all are started again.
"""
