"""A real Kubernetes on this machine, whatever the machine can reach.

Two shapes are offered. `python -m e2e.cluster up` brings up a kind cluster with two GPU workers, on the published node
image where it can be pulled and on images built from package registries where it cannot. `controlplane` runs only etcd
and the control plane on loopback, in seconds, for tests that need a real API server but no running containers.
"""
