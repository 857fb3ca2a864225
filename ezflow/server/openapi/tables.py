"""JSON Schemas as tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

__all__ = ["Row", "SchemaView", "refers", "rows", "type_of", "view"]

BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}


@attrs.frozen
class Row:
    """A field: what it is called, what it holds, whether it must be there, and what there is to say of it."""

    name: str
    type: str
    required: bool
    about: str
    refers: tuple[str, ...]


@attrs.frozen
class SchemaView:
    """A schema: its fields, and, where it is a choice, each variant with the fields that are its own."""

    name: str
    about: str
    type: str
    rows: tuple[Row, ...]
    variants: tuple[SchemaView, ...] = ()


def view(name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> SchemaView:
    """A schema of a document, with those that it has among the document's components."""
    own = tuple(rows(schema))
    choices = [_resolved(choice, schemas) for choice in schema.get("oneOf", ())]
    if choices and all("properties" in choice for choice in choices):
        # What all variants share is told once.
        shared = [
            field
            for field in choices[0]["properties"]
            if not own and all(choice["properties"].get(field) == choices[0]["properties"][field] for choice in choices)
        ]
        required = [one for one in shared if all(one in choice.get("required", ()) for choice in choices)]
        first = {"properties": {field: choices[0]["properties"][field] for field in shared}, "required": required}
        variants = tuple(
            SchemaView(
                choice.get("title", ""),
                choice.get("description", ""),
                "",
                tuple(row for row in rows(choice) if row.name.partition(".")[0] not in shared),
            )
            for choice in choices
        )
        return SchemaView(name, schema.get("description", ""), "", (*own, *rows(first)), variants)
    return SchemaView(name, schema.get("description", ""), type_of(schema), own)


def type_of(schema: Mapping[str, Any]) -> str:
    """What a value is, in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type")
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        told = list(dict.fromkeys(choice.get("title") or type_of(choice) for choice in choices))
        return f"{kind}: {' | '.join(told)}" if kind else " | ".join(told)
    if isinstance(kind, list):
        return " | ".join(kind)
    if kind == "array":
        return f"array of {type_of(schema['items'])}" if schema.get("items") else "array"
    if kind == "object" and isinstance(more := schema.get("additionalProperties"), Mapping):
        return f"object of {type_of(more)}"
    if kind == "string":
        how = "base64" if schema.get("contentEncoding") == "base64" else schema.get("format", "")
        return f"string ({how})" if how else "string"
    return str(kind) if kind else "anything"


def rows(schema: Mapping[str, Any], path: str = "") -> Iterator[Row]:
    """The fields of an object, and those of the objects in it."""
    required: Sequence[str] = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        said = [field["description"]] if "description" in field else []
        if bounds := [form.format(field[key]) for key, form in BOUNDS.items() if key in field]:
            said.append(f"{', '.join(bounds)}.")
        if "maxLength" in field:
            said.append(f"{field.get('minLength', 0)} to {field['maxLength']} characters.")
        if "default" in field:
            said.append(f"By default `{json.dumps(field['default'], ensure_ascii=False)}`.")
        yield Row(f"{path}{name}", type_of(field), name in required, " ".join(said), tuple(refers(field)))
        inner = field.get("items", field) if field.get("type") == "array" else field
        yield from rows(inner, f"{path}{name}{'[]' if inner is not field else ''}.")


def refers(schema: Any) -> Iterator[str]:
    """The names of the schemas that one names."""
    if isinstance(schema, Mapping):
        if isinstance(found := schema.get("$ref"), str):
            yield found.rpartition("/")[2]
        for key in ("anyOf", "oneOf", "allOf", "items", "additionalProperties", "contentSchema"):
            yield from refers(schema.get(key))
    elif isinstance(schema, list):
        for one in schema:
            yield from refers(one)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    return schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
