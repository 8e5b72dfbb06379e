"""The HTTP surface of SGLang 0.5.23, as far as gateways, operators, probes and clients use it."""
