"""Text files: one a row with its folder as the label, or all of them as one long text to continue.

Texts are held in memory whole; they must be UTF-8 and stay as they are, letter for letter.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from modelry.core.errors import InvalidData
from modelry.core.jobs import ImportParams
from modelry.core.manifests import Feature
from modelry.worker.data.cells import is_text
from modelry.worker.data.kinds import Kind
from modelry.worker.data.parts import WHOLE, Draft, Part, settle_splits
from modelry.worker.data.readers.naming import have_class_folders, label_files, split_of_name
from modelry.worker.data.readers.tables import choose_tables, read_pieces
from modelry.worker.data.sources import SourceFile
from modelry.worker.data.tables import TableContent

#: Letters of one row of a long text.
PIECE_LETTERS = 64 << 10
#: One text of a folder of texts at most.
MAX_TEXT_BYTES = 64 << 20

_FEATURES = {"text": Feature(kind="text", dtype="string")}
_TABLES = (Kind.CSV, Kind.PARQUET, Kind.JSON)

_Found = list[tuple[SourceFile, Kind]]


def are_labelled(files: list[SourceFile], params: ImportParams) -> bool:
    """Whether text files are rows with labels, and not what lies beside data."""
    texts = _txt(files)
    return bool(texts) and (params.labels_from != "auto" or have_class_folders(texts))


def read_texts(files: list[SourceFile], params: ImportParams) -> Draft:
    """A row for each `.txt` file, labelled by folder or name; raises `InvalidData`."""
    texts = _txt(files)
    parts = {}
    for split, (members, labels) in label_files(texts, params, "texts").items():
        content = _content((_read(file) for file in members), is_ordered=False)
        parts[split] = Part(members[0].name, content, labels, members[0].name)
    left_out = _others(files, texts)
    return Draft("texts", settle_splits(parts), left_out=left_out)


def read_passages(found: _Found, params: ImportParams) -> Draft:
    """One long text in rows of consecutive pieces; its end is the test split where the files have none.

    The text is that of the `.txt` files in the order of their names, or of a column of a table, a line for each row.
    """
    texts, files, left_out = _passages(found, params)
    cut = dict(texts)
    if "test" not in texts:
        cut[WHOLE], test = _cut(texts[WHOLE], params.test_share, files[WHOLE])
        if test:
            cut["test"] = test
    parts = {}
    for split, text in cut.items():
        file = files.get(split, files[WHOLE])
        if not text:
            raise InvalidData(file=file, reason="it holds no text")
        starts = range(0, len(text), PIECE_LETTERS)
        content = _content(text[start : start + PIECE_LETTERS] for start in starts)
        parts[split] = Part(file, content)
    return Draft("text", parts, task="text-generation", left_out=left_out)


def _passages(
    found: _Found, params: ImportParams
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """By split the text and the name of its first file, and what was left out."""
    chosen = _text_files(found, params)
    if chosen:
        pieces = [(split_of_name(file), file.name, _read(file, limit=None)) for file in chosen]
    else:
        tables = _tables(found, params)
        chosen = [file for file, _ in tables]
        pieces = [
            (piece.split, piece.file, _column(piece.table, piece.file, params.text))
            for piece in read_pieces(tables, params)
        ]
    splits = {split for split, _, _ in pieces}
    # Names tell splits only where all of them do: `test-of-time.txt` may be a chapter.
    is_split = None not in splits and WHOLE in splits
    texts: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for split, file, text in pieces:
        name = split if is_split and split is not None else WHOLE
        texts.setdefault(name, []).append(text)
        files.setdefault(name, file)
    joined = {name: "".join(parts) for name, parts in texts.items()}
    return joined, files, _others((file for file, _ in found), chosen)


def _text_files(found: _Found, params: ImportParams) -> list[SourceFile]:
    """The text files to read; none where a table's column is asked for, or there is no text file."""
    if params.text is not None or params.columns is not None:
        return []
    plain = [file for file, kind in found if kind is Kind.TEXT]
    return _txt(plain) or (plain if len(plain) == 1 == len(found) else [])


def _tables(found: _Found, params: ImportParams) -> _Found:
    if params.columns is not None:
        return choose_tables(found, params.columns)[0]
    tables = [each for each in found if each[1] in _TABLES]
    if not tables:
        reason = "it is no text file (.txt) and no table with a column of text"
        raise InvalidData(file=found[0][0].name, reason=reason)
    return tables


def _cut(text: str, share: float, file: str) -> tuple[str, str]:
    """The text and, at its end, the share of its letters that is the test split."""
    kept = len(text) - round(share * len(text))
    if share and not 0 < kept < len(text):
        reason = f"its {len(text)} letters are too few to keep some for the test split"
        raise InvalidData(file=file, reason=reason)
    return text[:kept], text[kept:]


def _column(table: Any, file: str, wanted: str | None) -> str:
    """The texts of a column, each ended by a line break."""
    names = [field.name for field in table.schema if is_text(field.type)]
    if wanted is None and len(names) == 1:
        wanted = names[0]
    if wanted not in names:
        known = ", ".join(names) or "none"
        what = "the column of text was not named" if wanted is None else f"no column '{wanted}'"
        reason = f"{what}; its columns of text: {known}"
        raise InvalidData(file=file, reason=reason, remedy="Name it with --text.")
    texts = (text for text in table.column(wanted).to_pylist() if text)
    return "".join(text if text.endswith("\n") else text + "\n" for text in texts)


def _content(texts: Iterable[str], *, is_ordered: bool = True) -> TableContent:
    table = pa.table({"text": pa.chunked_array([pa.array(list(texts), pa.string())])})
    return TableContent(table, _FEATURES, is_ordered=is_ordered)


def _txt(files: list[SourceFile]) -> list[SourceFile]:
    return [file for file in files if Path(file.base).suffix.lower() == ".txt"]


def _others(files: Iterable[SourceFile], chosen: list[SourceFile]) -> list[str]:
    names = {file.name for file in chosen}
    return [file.name for file in files if file.name not in names]


def _read(file: SourceFile, limit: int | None = MAX_TEXT_BYTES) -> str:
    if limit is not None and file.size_bytes > limit:
        reason = f"it is larger than {limit >> 20} MiB"
        raise InvalidData(file=file.name, reason=reason)
    data = file.place.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"line {line} is not UTF-8"
        raise InvalidData(file=file.name, reason=reason) from None
