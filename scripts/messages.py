"""Writes `server/api/grpc/wire/*_pb2.py` and their types from the `.proto` files beside them.

python scripts/messages.py            writes
python scripts/messages.py --check    tells which files are not current; exit status 1 if any

The modules differ from what `protoc` writes in one thing: their messages live in a pool of their own. Triton's client
registers messages of the same names, and a program may hold both.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

WIRE = Path(__file__).parent.parent / "src" / "modelry" / "server" / "api" / "grpc" / "wire"

MODULE = '''\
"""Generated from {source} by scripts/messages.py; edit that file."""

from google.protobuf import descriptor_pool, message_factory

DESCRIPTOR = descriptor_pool.DescriptorPool().AddSerializedFile(
{content}
)
globals().update(
    (name, message_factory.GetMessageClass(message))
    for name, message in DESCRIPTOR.message_types_by_name.items()
)
'''
#: Bytes of the description in one line.
WIDTH = 32


def compile_(source: Path) -> dict[Path, str]:
    """The module and its types."""
    with tempfile.TemporaryDirectory() as folder:
        described = Path(folder) / "described"
        words = [f"--proto_path={WIRE}", f"--pyi_out={folder}", f"--descriptor_set_out={described}"]
        if protoc.main(["protoc", *words, source.name]) != 0:
            raise SystemExit(f"{source} is not understood")
        (file,) = FileDescriptorSet.FromString(described.read_bytes()).file
        module = source.with_name(f"{source.stem}_pb2.py")
        types = (Path(folder) / f"{module.stem}.pyi").read_text()
    data = file.SerializeToString(deterministic=True)
    lines = [f"    {data[at : at + WIDTH]!r}" for at in range(0, len(data), WIDTH)]
    text = MODULE.format(source=source.name, content="\n".join(lines))
    return {module: text, module.with_suffix(".pyi"): types}


def current() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    return {
        path: text
        for source in sorted(WIRE.glob("*.proto"))
        for path, text in compile_(source).items()
    }


def stale() -> list[Path]:
    """The generated files that are not what they should be."""
    return [
        path for path, text in current().items() if not path.exists() or path.read_text() != text
    ]


def main() -> int:
    if "--check" in sys.argv[1:]:
        wrong = stale()
        for path in wrong:
            print(f"not current: {path.name}; run python scripts/messages.py")
        return 1 if wrong else 0
    for path, text in current().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
