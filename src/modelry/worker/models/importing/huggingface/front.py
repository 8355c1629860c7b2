"""What stands before a network: how media become its inputs, with samples to compare the form on."""

from __future__ import annotations

from dataclasses import dataclass

from modelry.core.manifests import MediaInput, TensorSpec
from modelry.worker.models.importing.comparing import Case


@dataclass(frozen=True, slots=True)
class Front:
    """Inputs carry the names of the library's own arguments."""

    media: MediaInput
    inputs: list[TensorSpec]
    #: Batches as they are served; the first is the example the graph is traced with.
    cases: list[Case]
