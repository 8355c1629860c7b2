"""Modelry: AI models as a service, on your own machine.

The public names load on first use, so that `import modelry` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from modelry.client import AsyncClient, Client, Text
    from modelry.core.errors import ModelryError

__all__ = ["AsyncClient", "Client", "ModelryError", "Text", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Client", "AsyncClient", "Text"):
        import modelry.client

        return getattr(modelry.client, name)
    if name == "ModelryError":
        from modelry.core.errors import ModelryError

        return ModelryError
    raise AttributeError(f"module 'modelry' has no attribute '{name}'")
