"""The Grafana dashboards of the chart, written by `make generate` with Grafana's own library."""
