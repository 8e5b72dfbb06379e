"""Endurance: workers come and go for a long time under an open-loop load, and every token is counted at the client.

`python -m e2e.endurance` plays a seeded sequence of scale-downs, rebalances, rollouts, evictions and node drains on the
kind cluster, and writes what it cost: requests, losses, GPUs held at each event of the audit log, times.
"""
