"""An engine stand-in: SGLang's HTTP surface and its prefill/decode hand-over, timed by an EngineProfile, without a GPU.

It exists so that everything around the engine (gateway, operator, probes, dashboards, load tests) can run for real on
a machine that has no GPU. What it imitates, and what it does not, is listed in docs/simulator.md.
"""

SGLANG_VERSION = "0.5.23"
"""The release whose behaviour is imitated."""
