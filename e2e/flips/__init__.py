"""Flips on a real kind cluster under load; `make e2e-flips` runs them."""
