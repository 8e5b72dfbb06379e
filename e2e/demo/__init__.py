"""The demo: a manifest becomes a serving cluster that follows a real trace, on a real kind cluster, told as it goes.

`python -m e2e.demo` needs no GPU: the engines are simulated, everything else is the real thing.
"""
