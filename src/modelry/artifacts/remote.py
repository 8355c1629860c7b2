"""Blobs behind an fsspec address, with a local folder before them.

Everything is written to the cache first and uploaded in one piece, so that a remote blob is whole or absent. Several
machines share no lock: between a put and a sweep only the grace period decides, so it should be an hour or more.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from modelry.artifacts.folder import BlobFolder, Swept, is_digest
from modelry.core.errors import InternalError, NotFound

_CHUNK_BYTES = 1 << 20


def is_remote(address: str) -> bool:
    """Whether an address needs fsspec; plain paths and `file://` do not."""
    return "://" in address and not address.startswith("file://")


class RemoteBlobs:
    """The blobs at one fsspec address."""

    def __init__(self, address: str, cache: Path | None) -> None:
        import fsspec  # a local service starts without it

        self._system: Any
        self._system, root = fsspec.core.url_to_fs(address)
        self._root: str = root.rstrip("/")
        self.cache = BlobFolder(cache or _default_cache(address))

    def exists(self, digest: str) -> bool:
        """Whether the blob is at the address."""
        return is_digest(digest) and bool(self._system.isfile(self._path(digest)))

    def upload(self, digest: str) -> None:
        """Sends a cached blob; present content is sent again, which makes it young for the sweep."""
        path = self._path(digest)
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._system.put_file(str(self.cache.path(digest)), path)

    def download(self, digest: str) -> None:
        """Brings a blob into the cache, verified; raises `NotFound`."""
        if self.cache.exists(digest):
            return
        if not is_digest(digest):
            raise NotFound(noun="content", name=digest)
        writer = self.cache.writer()
        found = hashlib.sha256()
        try:
            with self._system.open(self._path(digest), "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    found.update(chunk)
                    writer.write(chunk)
            if found.hexdigest() != digest:
                raise InternalError(reason=f"the content {digest} at its address was altered")
            writer.commit()
        except FileNotFoundError:
            raise NotFound(noun="content", name=digest) from None
        finally:
            writer.abort()

    def sweep(self, referenced: frozenset[str], older_than: float) -> Swept:
        """Removes unreferenced blobs last put before `older_than`, here and in the cache."""
        removed = freed = kept = 0
        for path, size in self._blobs():
            is_young = path.rpartition("/")[2] in referenced or self._put_at(path) >= older_than
            if is_young:
                kept += 1
                continue
            self._system.rm_file(path)
            removed += 1
            freed += size
        self.cache.sweep(referenced, older_than)
        return Swept(removed, freed, kept)

    def usage(self) -> tuple[int, int]:
        """Blobs and their bytes."""
        sizes = [size for _, size in self._blobs()]
        return len(sizes), sum(sizes)

    def _path(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _put_at(self, path: str) -> float:
        return float(self._system.modified(path).timestamp())

    def _blobs(self) -> list[tuple[str, int]]:
        self._system.invalidate_cache()
        if not self._system.exists(self._root):
            return []
        found = self._system.find(self._root, detail=True)
        return [(path, int(info["size"])) for path, info in found.items()]


def _default_cache(address: str) -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "modelry" / hashlib.sha256(address.encode()).hexdigest()[:16]
