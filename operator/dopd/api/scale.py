"""WorkerScale: how many workers of one role somebody else's scaler asks for, where spec.scaling.mode is External.

The operator makes one for each role. It has the scale subresource, so that a HorizontalPodAutoscaler, KEDA or
`kubectl scale` can write to it. Its number is theirs alone: the operator writes it once, with what there is then.
"""

from typing import Annotated

from pydantic import Field

from dopd.api.base import Model

MOST_WORKERS = 1000


class WorkerScaleSpec(Model):
    """Workers of one role of a DisaggregatedInference whose spec.scaling.mode is External."""

    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)]
    """Workers that the scaler asks for. The bounds of spec.scaling hold in any case."""


class WorkerScaleStatus(Model):
    """What there is."""

    workers: int = 0
    """Workers that hold their place, those that start included."""
    selector: str = ""
    """Label selector of their pods."""
