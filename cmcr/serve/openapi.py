"""The API as an OpenAPI 3.1 document: what this very server takes and answers."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

from cmcr.ask.filters import LONGEST
from cmcr.modality import Modality
from cmcr.serve.question import MOST_K, MOST_TERMS, MOST_TEXT
from cmcr.serve.service import Service
from cmcr.serve.settings import Serving

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": MOST_TEXT, "pattern": r"\S", "description": "A text."}
_WEIGHT = r"^({})=(0|[1-9][0-9]{{0,5}})(\.[0-9]{{1,6}})?$"
WHERE: Schema = TEXT | {"maxLength": LONGEST, "description": "A condition over the columns of rows, in SQL."}
WHOLE: Schema = {"type": "integer", "minimum": 1, "maximum": MOST_K, "default": 10, "description": "Hits wanted."}


def document(service: Service, settings: Serving) -> Schema:
    """Return the document."""
    paths = {
        "/search": {
            "post": _asking(
                service, "search", "Find the rows nearest to a text, a row, a file, or a sum of texts and rows."
            )
        },
        "/embed": {"post": _asking(service, "embed", "Return the vector of a question in the space.")},
        "/space": {"get": _plain("What can be asked, and what is searched.", "Space")},
        "/rows/{modality}/{number}": {"get": _of_row(service, list(service.shelves), "What is known about a row.")},
        "/map": {"get": _plain("Rows of all memories as points of a plane.", "Map")},
        "/health": {"get": _plain("That the server runs.", "Health")},
        "/metrics": {
            "get": _answers("Counters, as Prometheus reads them.", {"text/plain": {"schema": {"type": "string"}}})
        },
        "/openapi.json": {"get": _plain("This document.", "Document")},
    }
    if pictured := [each for each in service.shelves if each.registration and each is not Modality.TEXT]:
        paths["/media/{modality}/{number}"] = {"get": _media(service, pictured)}
    info = {"title": "cmcr serve", "version": version("cmcr"), "description": "Ask a connected space."}
    made: Schema = {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": _schemas(service)}}
    if settings.token is not None:
        made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"token": []}]
        paths["/health"]["get"]["security"] = []
    return made


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(summary: str, content: Schema, *statuses: int) -> Schema:
    wrong = {"description": "Why not.", "content": {"application/json": {"schema": _ref("Error")}}}
    answers = {"200": {"description": summary, "content": content}}
    return {"summary": summary, "responses": answers | {str(s): wrong for s in (401, 403, 421, 503, 504, *statuses)}}


def _plain(summary: str, answer: str) -> Schema:
    return _answers(summary, {"application/json": {"schema": _ref(answer)}})


def _asking(service: Service, name: str, summary: str) -> Schema:
    content = {"application/json": {"schema": _ref("Answer" if name == "search" else "Vector")}}
    told = _answers(summary, content, 400, 404, 408, 413, 415, 422)
    kind = "" if name == "search" else "Embedded"
    body: Schema = {"application/json": {"schema": _ref(f"{kind}Question")}}
    if any(each.suffixes for each in service.subject.modalities):
        body["multipart/form-data"] = {"schema": _ref(f"{kind}Form")}
    return told | {"operationId": name, "requestBody": {"required": True, "content": body}}


def _of_row(service: Service, modalities: list[Modality], summary: str) -> Schema:
    return _answers(summary, {"application/json": {"schema": _ref("Row")}}, 400, 404) | _place(modalities)


def _place(modalities: list[Modality]) -> Schema:
    number = {"type": "integer", "minimum": 0, "maximum": 10**12 - 1}
    return {
        "parameters": [
            {"name": "modality", "in": "path", "required": True, "schema": {"enum": [str(m) for m in modalities]}},
            {"name": "number", "in": "path", "required": True, "schema": number},
        ]
    }


def _media(service: Service, modalities: list[Modality]) -> Schema:
    binary: Schema = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    kinds = ("image/jpeg", "image/png", "audio/ogg", "audio/wav", "application/octet-stream")
    told = _answers("A small picture, a sound, or the points of a cloud.", dict.fromkeys(kinds, binary), 400, 404, 422)
    told["responses"]["206"] = {"description": "A range of it.", "content": dict.fromkeys(kinds, binary)}
    told["responses"]["416"] = {"description": "No such range."}
    return told | _place(modalities)


def _schemas(service: Service) -> dict[str, Schema]:
    modality: Schema = {"type": "string", "enum": [str(each) for each in service.shelves]}
    row: Schema = {
        "type": "string",
        "pattern": f"^({'|'.join(service.shelves)})/(0|[1-9][0-9]{{0,11}})$",
        "description": "MODALITY/NUMBER, as a hit's row says it.",
    }
    string: Schema = {"type": "string"}
    return {
        "Error": {"type": "object", "required": ["error"], "properties": {"error": string}},
        "Question": _filtered(_question(service, modality, row)),
        "EmbeddedQuestion": _question(service, modality, row) | {"required": []},
        "Form": _filtered(_form(service, modality)),
        "EmbeddedForm": _form(service, modality) | {"required": ["file"]},
        "Answer": _answer(modality, row),
        "Vector": {
            "type": "object",
            "required": ["query", "query_modality", "encoder", "dim", "vector"],
            "properties": {"dim": {"type": "integer"}, "vector": {"type": "array", "items": {"type": "number"}}},
        },
        "Row": {
            "type": "object",
            "required": ["row", "id", "modality", "source", "text", "note"],
            "properties": {"row": row},
        },
        "Space": {"type": "object", "required": ["space", "method", "dim", "queries", "galleries", "limits"]},
        "Map": {"type": "object", "required": ["total", "explained", "groups", "points"]},
        "Health": {"type": "object", "required": ["status", "version"]},
        "Document": {"type": "object", "required": ["openapi", "info", "paths"]},
    }


def _question(service: Service, modality: Schema, row: Schema) -> Schema:
    sign: Schema = {"enum": [1, -1], "default": 1, "description": "1: added; -1: taken away."}
    term = {
        "type": "object",
        "properties": {"text": TEXT, "row": row, "sign": sign},
        "oneOf": [{"required": ["text"]}, {"required": ["row"]}],
        "additionalProperties": False,
    }
    terms = {"type": "array", "items": term, "minItems": 1, "maxItems": MOST_TERMS}
    weight = {"type": "number", "minimum": 0}
    names = _weighed(service)
    weights = {
        "type": "object",
        "properties": dict.fromkeys(names, weight),
        "additionalProperties": False,
        "description": "By ENCODER:MODALITY, how much an encoder counts where several see one item.",
    }
    own = {"text": TEXT, "row": row, "terms": terms, "modality": modality, "k": WHOLE, "weights": weights}
    return {
        "type": "object",
        "properties": own,
        "required": _needed(service),
        "oneOf": [{"required": [name]} for name in ("text", "row", "terms")],
        "additionalProperties": False,
    }


def _filtered(asked: Schema) -> Schema:
    return asked | {"properties": asked["properties"] | {"where": WHERE}}


def _weighed(service: Service) -> list[str]:
    return [f"{name}:{each}" for name, entry in service.subject.space.encoders.items() for each in entry.modalities]


def _literally(text: str) -> str:
    """Return a pattern of a text, by the rules of JavaScript's patterns, which those of JSON schemas are."""
    return re.sub(r"[.^$*+?()\[\]{}|\\/]", r"\\\g<0>", text)


def _needed(service: Service) -> list[str]:
    return ["modality"] if len(service.shelves) > 1 else []


def _form(service: Service, modality: Schema) -> Schema:
    known = [str(each) for each in service.subject.modalities if each.suffixes]
    own = {
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "Told by its suffix.",
        },
        "modality": modality,
        "query_modality": {"type": "string", "enum": known},
        "k": WHOLE,
        "weight": {
            "type": "array",
            "items": {"type": "string", "pattern": _WEIGHT.format("|".join(map(_literally, _weighed(service))))},
            "description": "ENCODER:MODALITY=WEIGHT, repeated.",
        },
        "up": {"type": "string", "enum": ["y", "z"], "description": "The axis that points up in a point cloud."},
    }
    return {"type": "object", "properties": own, "required": ["file", *_needed(service)], "additionalProperties": False}


def _answer(modality: Schema, row: Schema) -> Schema:
    string, optional = {"type": "string"}, {"type": ["string", "null"]}
    hit = {
        "rank": {"type": "integer", "minimum": 1},
        "id": string,
        "score": {"type": "number"},
        "source": string,
        "text": optional,
        "path": optional,
        "row": row,
    }
    hits = {"type": "array", "items": {"type": "object", "required": list(hit), "properties": hit}}
    own = dict.fromkeys(("space", "method", "memory", "search", "query", "query_modality", "encoder"), string)
    told = own | {"modality": modality, "gallery": {"type": "integer"}, "hits": hits}
    count = {"type": "integer"}
    where = {"type": "object", "properties": {"condition": string, "rows": count, "lacking": count}}
    return {"type": "object", "required": list(told), "properties": told | {"where": where}}
