"""What EZPipe's clients send: the request body, which a user may extend, and what it asks of the stages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs
import msgspec

from ..convert import structure, unstructure
from ..errors import InputError
from ..items import Audio, Utterance
from ..ports import assignable, show
from ..stage import Stage
from .refusals import BadRequest

__all__ = ["EZPipeRequest", "body_schema", "read_options", "read_request", "read_sound", "takes_sound"]

NO_USER = "必须提供用户ID"
PCM_RATE_HZ = 16_000
MAX_USER_CHARS = 256

R = TypeVar("R", bound="EZPipeRequest")


def _short(_: object, field: attrs.Attribute[str], value: str) -> None:
    if len(value) > MAX_USER_CHARS:
        raise InputError(field.name, f"{len(value)} characters were given, but at most {MAX_USER_CHARS} are taken")


@attrs.frozen(kw_only=True)
class EZPipeRequest:
    """The body of `POST /input`. Subclass it to add fields with types and defaults: `serve(flow, request=Mine)`.

    A body may hold any other key too. A key that is a stage's section (`LLM`, `TTS`, a stage's name) gives that
    stage its options; any other one counts for each stage whose options have a field of that name and whose
    section does not say otherwise. A field of a subclass counts as if its key were in the body.
    """

    user: str = attrs.field(validator=_short)
    Input: Any
    Entry: int = 0


def read_request(payload: object, cls: type[R]) -> tuple[R, dict[str, Any]]:
    """A decoded body as a request, and all that it says beyond user, Input and Entry.

    Raises: BadRequest without a user; InputError with the path.
    """
    if isinstance(payload, Mapping) and payload.get("user") in (None, ""):
        raise BadRequest(NO_USER)
    request: R = structure(_known(payload, cls), cls, "")
    given = dict(payload) if isinstance(payload, Mapping) else {}
    own = attrs.fields_dict(EZPipeRequest)
    for field in attrs.fields(cls):
        given[field.name] = unstructure(getattr(request, field.name))
    return request, {name: value for name, value in given.items() if name not in own and value is not None}


def read_options(given: Mapping[str, Any], stages: Iterable[Stage]) -> dict[str, Any]:
    """What a request asks of each stage, by the stage's name: of a section only the keys that its module declares.

    Raises: InputError with the path as the client sent it, `LLM.temperature`.
    """
    read: dict[str, Any] = {}
    for stage in stages:
        cls = stage.module.options
        if cls is None:
            continue
        fields = attrs.fields_dict(cast("Any", cls))
        section: dict[str, Any] = {name: given[name] for name in fields if name in given}
        for key in (stage.module.options_key, stage.name):
            if key is not None and key in given and key not in fields:
                known = _known(given[key], cls)
                structure(known, cls, key)
                section |= known
        try:
            options = structure(section, cls, stage.name)
        except InputError as error:  # each section fits: it is a key beside the sections
            raise InputError(error.path.partition(".")[2] or error.path, error.problem) from error
        if section:
            read[stage.name] = options
    return read


def _known(payload: Any, cls: Any) -> Any:
    """The same without the keys that a class does not declare, in the classes within it too."""
    if not (isinstance(payload, Mapping) and isinstance(cls, type) and attrs.has(cls)):
        return payload
    attrs.resolve_types(cls)
    fields = attrs.fields_dict(cast("Any", cls))
    return {name: _known(value, fields[name].type) for name, value in payload.items() if name in fields}


def takes_sound(stage: Stage) -> bool:
    """Is a string that a client sends to this stage a sound?"""
    sound = assignable(Audio, stage.in_type) or assignable(Utterance, stage.in_type)
    return sound and not assignable(str, stage.in_type)


def read_sound(text: str) -> tuple[Audio, bool]:
    """A client's sound, and whether it is a whole utterance (a WAV) or a piece of one (bare PCM16 16 kHz mono).

    Hex is tried first, then base64. Raises: InputError.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError:
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            needed = "sound is needed: hex or base64 of PCM16 16 kHz mono, base64 of a WAV, or ENDASR"
            raise InputError("Input", f"neither hex nor base64 ({error}), but {needed}") from error
    try:
        whole = data[:4] == b"RIFF"
        return (Audio.from_wav(data) if whole else Audio(data, PCM_RATE_HZ)), whole
    except ValueError as error:
        raise InputError("Input", str(error)) from error


def body_schema(cls: type[EZPipeRequest], stages: Sequence[Stage], entry: Stage) -> dict[str, Any]:
    """JSON Schema of the body of `POST /input`: the request class, and the sections that the stages declare."""
    sections: dict[str, list[type]] = {}
    for stage in stages:
        if stage.module.options is not None:
            sections.setdefault(stage.module.options_key or stage.name, []).append(stage.module.options)
    classes = dict.fromkeys([cls, *(options for group in sections.values() for options in group)])
    schemas, definitions = msgspec.json.schema_components(classes, ref_template="#/$defs/{name}")
    references = dict(zip(classes, schemas, strict=True))
    body = definitions.pop(references[cls]["$ref"].rpartition("/")[2])
    properties = body["properties"] | {"Input": _input_schema(entry)}
    for key, group in sections.items():
        parts = [references[options] for options in dict.fromkeys(group)]
        properties.setdefault(key, parts[0] if len(parts) == 1 else {"allOf": parts})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.__name__,
        "type": "object",
        "required": body["required"],
        "additionalProperties": True,
        "properties": properties,
        "$defs": definitions,
    }


def _input_schema(stage: Stage) -> dict[str, Any]:
    if takes_sound(stage):
        about = "Hex or base64 of PCM16 16 kHz mono, a piece of an utterance; ENDASR at its end; or base64 of a WAV."
        return {"type": "string", "description": f"{about} For another Entry what its stage takes."}
    if stage.in_type is str:
        return {"type": "string"}
    return {"description": show(stage.in_type)}
