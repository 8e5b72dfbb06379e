"""Kubernetes, as far as the operator touches it: reads, server-side apply, pods over HTTP, Events, the Lease."""

from dopd.cluster.apikey import PostWithKey, WithKey
from dopd.cluster.apply import Applier
from dopd.cluster.client import ApiError, Kubernetes
from dopd.cluster.kinds import Kind
from dopd.cluster.podhttp import PodAccess, PodHttp, PodHttpError, PodPost

__all__ = [
    "ApiError",
    "Applier",
    "Kind",
    "Kubernetes",
    "PodAccess",
    "PodHttp",
    "PodHttpError",
    "PodPost",
    "PostWithKey",
    "WithKey",
]
