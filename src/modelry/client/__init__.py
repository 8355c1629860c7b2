"""The SDK: `Client` and `AsyncClient` speak the HTTP API and answer the records of `modelry.core`.

The async classes in `_async` are written by hand; `scripts/unasync.py` makes the sync ones in `_sync` of them.
"""

from __future__ import annotations

from modelry.client._async.client import AsyncClient
from modelry.client._async.deployments import AsyncDeploymentHandle
from modelry.client._async.jobs import AsyncJobHandle
from modelry.client._sync.client import Client
from modelry.client._sync.deployments import DeploymentHandle
from modelry.client._sync.jobs import JobHandle
from modelry.client.explanations import Explanation
from modelry.client.predictions import Prediction, Text

__all__ = [
    "AsyncClient",
    "AsyncDeploymentHandle",
    "AsyncJobHandle",
    "Client",
    "DeploymentHandle",
    "Explanation",
    "JobHandle",
    "Prediction",
    "Text",
]
