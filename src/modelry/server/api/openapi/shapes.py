"""JSON schemas of what doors and foreign protocols take and give; those of the management API come from its code."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 1}
FLAG: Schema = {"type": "boolean"}
#: A number, a text, or lists of such, nested as the shape says.
NESTED: Schema = {"description": "Numbers (or texts), nested as the tensor's shape says."}


def ref(name: str) -> Schema:
    """A part that is written down once."""
    return {"$ref": f"#/components/schemas/{name}"}


def listing(item: Schema, least: int = 0) -> Schema:
    """A list."""
    return {"type": "array", "items": item, **({"minItems": least} if least else {})}


def exactly(required: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object that is taken: with these fields and no others."""
    return {**having(required, **fields), "additionalProperties": False}


def having(required: tuple[str, ...] = (), **fields: Schema) -> Schema:
    """An object that is given: with these fields, and perhaps others later."""
    found: Schema = {"type": "object", "properties": fields}
    return {**found, "required": list(required)} if required else found


def all_of(**fields: Schema) -> Schema:
    """An object that is given, with all of these fields."""
    return having(tuple(fields), **fields)


ENCODED = exactly(("b64",), b64={"type": "string", "contentEncoding": "base64"})
SAMPLE: Schema = {"anyOf": [ENCODED, NESTED]}
SIGNATURE: Schema = {"type": "string", "const": "serving_default"}
TENSOR_TAKEN = exactly(
    ("name", "shape", "datatype"),
    name=TEXT,
    shape=listing({"type": "integer", "minimum": 0}),
    datatype=TEXT,
    parameters=exactly(binary_data_size={"type": "integer", "minimum": 0}),
    data=NESTED,
)
OUTPUT_WANTED = exactly(
    ("name",), name=TEXT, parameters=exactly(binary_data=FLAG, classification=COUNT)
)
TENSOR_GIVEN = having(
    ("name", "datatype", "shape"),
    name=TEXT,
    datatype=TEXT,
    shape=listing({"type": "integer"}),
    data=NESTED,
)
SIGNED = listing(all_of(name=TEXT, datatype=TEXT, shape=listing({"type": "integer"})))
MODEL_OBJECT = all_of(
    id=TEXT, object={"const": "model"}, created={"type": "integer"}, owned_by=TEXT
)
TF_STATUS = listing(all_of(version=TEXT, state=TEXT, status={"type": "object"}))

#: What the answers above name with `ref`.
PARTS: dict[str, Schema] = {
    "Error": all_of(error=all_of(code=TEXT, message=TEXT, remedy=TEXT, retryable=FLAG)),
    "ErrorText": all_of(error=TEXT),
    "OpenAIError": all_of(
        error=all_of(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code=TEXT)
    ),
}
