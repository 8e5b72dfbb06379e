"""Traces that come along, and the script that cut them."""
