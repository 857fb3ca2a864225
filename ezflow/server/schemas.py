"""JSON Schemas of what a server takes and gives, made from the attrs classes that read and write it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_args

import attrs
import msgspec

from ..convert import union_members
from ..items import Audio, Utterance
from ..modules import Module
from ..ports import show
from ..request import takes
from ..stage import Stage
from .bounds import Between, Length

__all__ = ["DIALECT", "PCM16", "WAV", "by_entry", "components", "either", "example", "item_schema"]
__all__ += ["reads_by_itself"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Base64 of an even number of bytes: whole samples of 16 bits.
_CHAR = "[A-Za-z0-9+/]"
PCM16 = f"^(?:{_CHAR}{{8}})*(?:{_CHAR}{{3}}=|{_CHAR}{{6}}==)?$"
WAV = "^UklGR"  # base64 of RIFF
NUMBERS = {">=": "minimum", ">": "exclusiveMinimum", "<=": "maximum", "<": "exclusiveMaximum"}


def components(types: Iterable[Any], *, lenient: Collection[type] = ()) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The schemas of these types, and the definitions to which they refer as `#/$defs/...`.

    Of attrs classes they tell the bounds of their validators too, what `about` says of a field, and that an
    unknown key is refused, but for those that are `lenient`. Of a type that has no schema they tell the name.
    """
    wanted = list(types)
    classes = list(dict.fromkeys(cls for one in wanted for cls in _within(one)))
    known = [one for one in (*wanted, *classes) if _has_schema(one)]
    made, definitions = msgspec.json.schema_components(known, ref_template="#/$defs/{name}")
    for cls, schema in zip(known, made, strict=True):
        if cls in classes:
            # msgspec gives classes of one name longer ones.
            definition = definitions[schema["$ref"].removeprefix("#/$defs/")]
            if cls is Audio:
                definition.clear()
                definition |= {"type": "string", "contentEncoding": "base64", "description": "A WAV, or PCM16 16 kHz."}
                continue
            if cls not in lenient:
                definition["additionalProperties"] = False
            for field in attrs.fields(cls):
                _describe(definition["properties"][field.name], field)
    schemas = iter(made)
    return [next(schemas) if _has_schema(one) else {"description": show(one)} for one in wanted], definitions


def item_schema(stage: Stage, sound: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """What a client may give a stage, as far as its type says it; and types whose schemas may stand there too.

    `sound`: the schema of a sound, in the words of the protocol.
    """
    if reads_by_itself(stage):
        return {"description": f"What {stage.name} reads by itself, as {show(stage.in_type)}."}, []
    kind, members = takes(stage), union_members(stage.in_type)
    if kind == "text":
        return {"type": "string"}, []
    rest = [member for member in members if member not in (Audio, Utterance)]
    if kind == "audio":
        return ({"type": "string"} if str in members else {**sound}), [one for one in rest if one is not str]
    if any(one is Any or one is object for one in members):
        return {"description": "Any JSON value."}, []
    return {}, rest


def either(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What fits one of these; of those that say nothing, none counts beside others."""
    said = [schema for schema in schemas if schema]
    return {"anyOf": said} if len(said) > 1 else said[0] if said else {}


def by_entry(
    stages: Sequence[Stage], schemas: Sequence[dict[str, Any]], *, entry: str, item: str, named: bool
) -> dict[str, Any]:
    """What a body says of its item: one schema, or a choice where stages take different things.

    `entry`, `item`: the fields in which they stand; `named`: an entry may be told by name.
    """
    groups: list[tuple[dict[str, Any], list[Stage]]] = []
    for stage, schema in zip(stages, schemas, strict=True):
        same = next((group for known, group in groups if known == schema), None)
        if same is None:
            groups.append((schema, [stage]))
        else:
            same.append(stage)
    if len(groups) == 1:
        return {"properties": {item: groups[0][0]}}
    choices = []
    for schema, group in groups:
        places = [place for stage in group for place in ([stage.index, stage.name] if named else [stage.index])]
        choice = {
            "title": f"into {', '.join(stage.name for stage in group)}",
            "properties": {entry: {"enum": places}, item: schema},
        }
        if group[0].index:  # without an entry it is 0
            choice["required"] = [entry]
        choices.append(choice)
    return {"properties": {item: {"description": "What the stage takes at which it enters."}}, "oneOf": choices}


def reads_by_itself(stage: Stage) -> bool:
    """Has its module a `decode` of its own, so that its type does not say what it is sent?"""
    return type(stage.module).decode is not Module.decode


def example(schema: Mapping[str, Any], definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """A value that fits a schema made here, as small as may be."""
    if "$ref" in schema:
        return example(definitions[schema["$ref"].rpartition("/")[2]], definitions, depth + 1)
    if "enum" in schema:
        return schema["enum"][0]
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return example(choices[0], definitions, depth)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: example(properties[name], definitions, depth) for name in schema.get("required", ())}
        case "array":
            return [example(schema["items"], definitions, depth + 1)] if schema.get("items") and depth < 4 else []
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
    return "hello"


def _within(annotation: Any) -> Iterator[type]:
    """The attrs classes of which a type is made."""
    found: dict[type, None] = {}
    waiting = [annotation]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, type) and attrs.has(one):
            if one not in found:
                found[one] = None
                with suppress(NameError):  # which leaves it without a schema
                    attrs.resolve_types(one)
                    waiting += [field.type for field in attrs.fields(one)]
        else:
            waiting += [part for part in get_args(one) if part is not ...]
    yield from (cls for cls in found if _has_schema(cls))


def _has_schema(annotation: Any) -> bool:
    try:
        msgspec.json.schema_components([annotation])
    except (TypeError, NameError):
        return False
    return True


def _describe(schema: dict[str, Any], field: attrs.Attribute[Any]) -> None:
    schema |= dict(_bounds(field.validator))
    if description := field.metadata.get("description"):
        schema["description"] = description


def _bounds(validator: Any) -> Iterator[tuple[str, float]]:
    """What validators (ours; of attrs' own `ge(1)`, `optional(lt(2))`, a list of them) say, in a schema's words."""
    if isinstance(validator, Length):
        yield from (("minLength", validator.least), ("maxLength", validator.most))
    elif isinstance(validator, Between):
        yield from (("minimum", validator.least), ("maximum", validator.most))
    elif (compared := getattr(validator, "compare_op", None)) in NUMBERS:
        yield NUMBERS[compared], validator.bound
    inner = [getattr(validator, "validator", None), *getattr(validator, "_validators", ())]
    for one in filter(None, inner):
        yield from _bounds(one)
