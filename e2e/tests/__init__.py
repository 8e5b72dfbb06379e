"""End-to-end tests: the operator from its chart, on a real kind cluster, with real load; run by `make e2e`."""
