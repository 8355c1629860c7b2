"""The catalogue as a project sees it: well-known models, what was recorded of those imported, what can be made."""

from __future__ import annotations

from typing import Any

from modelry.core.catalogue import PRETRAINED, TRAINABLE, CatalogueEntry, Pretrained
from modelry.server.store import Store, models

#: The newest import of a repository: the version as `name:3`, and its manifest's source.
Imported = dict[str, tuple[str, dict[str, Any]]]


def list_catalogue(store: Store, project: str) -> list[CatalogueEntry]:
    """Pretrained models first, then what can be trained here."""
    with store.read() as tx:
        imported = {
            str(source["repository"]): (f"{name}:{version}", source)
            for name, version, source in models.list_sources(tx, project)
            if source.get("repository")
        }
    return [
        *(_pretrained(entry, imported) for entry in PRETRAINED),
        *(
            CatalogueEntry(
                kind="trainable",
                name=f"{entry.recipe} {entry.preset}",
                task=entry.task,
                summary=entry.summary,
                command=entry.command,
                state="can be made",
                duration=entry.duration,
            )
            for entry in TRAINABLE
        ),
    ]


def _pretrained(entry: Pretrained, imported: Imported) -> CatalogueEntry:
    model, source = imported.get(entry.repository, (None, {}))
    name = entry.repository.rpartition("/")[2]
    return CatalogueEntry(
        kind="pretrained",
        name=entry.repository,
        task=entry.task,
        summary=entry.summary,
        command=f"modelry models import hf://{entry.repository} --name {name}",
        state="untried" if model is None else "imported",
        licence=entry.licence,
        model=model,
        revision=source.get("revision"),
        size_bytes=source.get("size_bytes"),
        recorded_licence=source.get("licence"),
    )
