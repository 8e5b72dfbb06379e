"""From a resource and its targets to the manifests of its children. Pure: dictionaries in, dictionaries out."""

from dopd.workloads.children import Owner, Targets, child_manifests

__all__ = ["Owner", "Targets", "child_manifests"]
