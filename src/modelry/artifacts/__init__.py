"""Content-addressed files: data sets, models, uploads and checkpoints, on a disk or behind an fsspec address.

Both sides of the house use it. It knows digests and bytes; names, owners and who still needs what live in the database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import BinaryIO

from modelry.artifacts.folder import BlobFolder, BlobWriter, Swept
from modelry.artifacts.remote import RemoteBlobs, is_remote
from modelry.core.errors import NotFound
from modelry.core.files import FileRef, safe_path

__all__ = ["ArtifactWriter", "Artifacts", "Swept"]

_CHUNK_BYTES = 1 << 20


class ArtifactWriter:
    """Streams one file into the artifacts; nothing is visible before `commit()`.

    As a context manager it aborts whatever was not committed.
    """

    def __init__(self, path: str, blob: BlobWriter, remote: RemoteBlobs | None) -> None:
        self.path = path
        self._blob = blob
        self._remote = remote

    @property
    def size_bytes(self) -> int:
        """How much was written so far."""
        return self._blob.size_bytes

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Appends; raises `StorageFull` (and forgets everything) where the disk is full."""
        return self._blob.write(data)

    def commit(self) -> FileRef:
        """Makes the content durable and visible; it survives a power cut from here on."""
        digest = self._blob.commit()
        if self._remote is not None:
            self._remote.upload(digest)
        return FileRef(self.path, digest, self._blob.size_bytes)

    def abort(self) -> None:
        """Forgets what was written; does nothing after a commit."""
        self._blob.abort()

    def __enter__(self) -> ArtifactWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


class Artifacts:
    """All content of one service.

    `address` is a folder or an fsspec address such as `s3://bucket/blobs`. Content from elsewhere is kept in `cache`
    (default: a folder in the user's cache folder), verified when it arrives.
    """

    def __init__(self, address: str, *, cache: Path | None = None) -> None:
        self.address = address
        self._remote: RemoteBlobs | None = None
        if is_remote(address):
            self._remote = RemoteBlobs(address, cache)
            self._folder = self._remote.cache
        else:
            self._folder = BlobFolder(Path(address.removeprefix("file://")))

    def writer(self, path: str) -> ArtifactWriter:
        """A new file to be streamed in; `path` is what the `FileRef` will say."""
        return ArtifactWriter(safe_path(path), self._folder.writer(), self._remote)

    def put_file(self, source: Path, path: str) -> FileRef:
        """Copies a file in. Content that exists already is kept once, and counts as new for the sweep."""
        with source.open("rb") as file, self.writer(path) as writer:
            while chunk := file.read(_CHUNK_BYTES):
                writer.write(chunk)
            return writer.commit()

    def put_bytes(self, data: bytes, path: str) -> FileRef:
        """Copies bytes in."""
        with self.writer(path) as writer:
            writer.write(data)
            return writer.commit()

    def exists(self, digest: str) -> bool:
        """Whether the content is here."""
        where = self._remote or self._folder
        return where.exists(digest)

    def local_path(self, digest: str) -> Path:
        """A read-only file with this content on this machine; raises `NotFound`."""
        if self._remote is not None:
            self._remote.download(digest)
        path = self._folder.path(digest)
        if not path.is_file():
            raise _missing(digest)
        return path

    def open(self, digest: str) -> BinaryIO:
        """The content as a file to read; raises `NotFound`."""
        try:
            return self.local_path(digest).open("rb")
        except FileNotFoundError:
            raise _missing(digest) from None

    def read_bytes(self, digest: str) -> bytes:
        """The whole content; raises `NotFound`."""
        with self.open(digest) as file:
            return file.read()

    def fetch(self, files: Iterable[FileRef], folder: Path) -> None:
        """Lays the files out in `folder`, by hard links where possible; nothing may write into them.

        Raises `InvalidData` for a path that leaves the folder and `NotFound` for content that is gone.
        """
        planned = [(folder / safe_path(file.path), file.digest) for file in files]
        folder.mkdir(parents=True, exist_ok=True)
        for target, digest in planned:
            self.local_path(digest)
            try:
                self._folder.link(digest, target)
            except FileNotFoundError:
                raise _missing(digest) from None

    def sweep(self, referenced: Collection[str], older_than: float) -> Swept:
        """Removes content that is not `referenced` and was last put before `older_than` (epoch seconds).

        Leftovers of killed writers go too. Safe beside running puts: content put again while the sweep runs stays.
        """
        where = self._remote or self._folder
        return where.sweep(frozenset(referenced), older_than)

    def usage(self) -> tuple[int, int]:
        """How many pieces of content there are, and their bytes."""
        where = self._remote or self._folder
        return where.usage()


def _missing(digest: str) -> NotFound:
    return NotFound(
        noun="content",
        name=digest,
        remedy="It was removed, or this process reads other artifacts than the one that wrote it.",
    )
