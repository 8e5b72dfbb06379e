"""A simulated cluster under a trace, scaled by the real planner or by a peer's policy.

`trace` reads what arrives, `cluster` serves it, `telemetry` tells a policy what a Prometheus would, `policies`
holds dopd and its peers, `runner` puts them together and `report` writes what came out. Time is simulated; nothing
here reads a clock.
"""
