"""Soak: one resource follows a working day in fast motion while faults come at random, and everything is counted.

`python -m e2e.soak` plays eight hours in forty minutes on the kind cluster: an open-loop load, faults drawn from a
seed, a look at the cluster each ten seconds. It says whether the operator's memory stayed flat, whether anything was
lost, and whether the decisions that were logged are what the cluster did.
"""
