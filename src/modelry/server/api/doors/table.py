"""All inference doors of the service. A new protocol is one more line here; both of its callers read this table."""

from __future__ import annotations

from modelry.server.api.doors.door import Door
from modelry.server.api.doors.explain import ExplainDoor
from modelry.server.api.doors.hugging_face import HuggingFaceDoor
from modelry.server.api.doors.native import NativeDoor
from modelry.server.api.doors.open_inference import OpenInferenceDoor
from modelry.server.api.doors.openai import EmbeddingsDoor
from modelry.server.api.doors.tf_serving import TfServingDoor

DOORS: tuple[Door, ...] = (
    TfServingDoor(),
    NativeDoor(),
    OpenInferenceDoor(),
    EmbeddingsDoor(),
    HuggingFaceDoor(),
    ExplainDoor(),
)
