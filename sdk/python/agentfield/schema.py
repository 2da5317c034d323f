"""Annotations as JSON Schema, JSON as annotated values, and values as JSON.

Dataclasses, TypedDicts and enums of the standard library are known; Pydantic models (1 and 2) are recognised by their
methods, so that nothing has to be installed. What is not recognised may be anything.
"""
from __future__ import annotations

import base64
import collections.abc
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import types
import typing
import uuid
from typing import Any, Callable, Dict, Optional, Tuple

from .errors import InvalidInput

Schema = Dict[str, Any]
_PLAIN: Dict[Any, Schema] = {
    str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"}, float: {"type": "number"}, type(None): {"type": "null"},
    None: {"type": "null"}, dict: {"type": "object"}, list: {"type": "array"}, tuple: {"type": "array"}, set: {"type": "array"},
    frozenset: {"type": "array"}, bytes: {"type": "string", "contentEncoding": "base64"}, decimal.Decimal: {"type": "string"},
    datetime.datetime: {"type": "string", "format": "date-time"}, datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string"}, uuid.UUID: {"type": "string", "format": "uuid"}, pathlib.Path: {"type": "string"},
}
_PARSERS: Dict[Any, Callable[[Any], Any]] = {
    datetime.datetime: lambda text: datetime.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text),
    datetime.date: datetime.date.fromisoformat, datetime.time: datetime.time.fromisoformat, uuid.UUID: uuid.UUID,
    decimal.Decimal: decimal.Decimal, bytes: lambda text: base64.b64decode(text, validate=True), pathlib.Path: pathlib.Path,
}
_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))
_LISTS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Set, collections.abc.Collection)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_EMPTY = dataclasses.MISSING


def hints_of(thing: Any) -> Dict[str, Any]:
    """The annotations of a function or class; names that cannot be resolved count as anything."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception:  # a name that exists only for type checkers, or in a scope that is gone
        raw = getattr(thing, "__annotations__", {})
        return {name: Any if isinstance(hint, str) else hint for name, hint in raw.items()}


def is_pydantic(hint: Any) -> bool:
    return isinstance(hint, type) and (hasattr(hint, "model_validate") or hasattr(hint, "parse_obj") and hasattr(hint, "__fields__"))


def is_model(hint: Any) -> bool:
    """Whether the annotation has named fields of its own."""
    return is_pydantic(hint) or isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or _is_typed_dict(hint))


def is_mapping(hint: Any) -> bool:
    return hint in _MAPS or typing.get_origin(hint) in _MAPS


def _is_typed_dict(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, dict) and hasattr(hint, "__total__")


def _unwrap(hint: Any) -> Tuple[Any, str]:
    """The type below Annotated, NewType, Required and the like, and the first text that Annotated gives it."""
    text = ""
    while True:
        origin = typing.get_origin(hint)
        if hasattr(hint, "__metadata__"):
            text = text or next((m for m in hint.__metadata__ if isinstance(m, str)), "")
            hint = hint.__origin__
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif getattr(origin, "_name", "") in ("Required", "NotRequired", "ReadOnly"):
            hint = typing.get_args(hint)[0]
        else:
            return hint, text


def describe(hint: Any, defs: Schema, within: Tuple[Any, ...] = ()) -> Schema:
    """The JSON Schema of an annotation. Further keys are allowed everywhere; shared definitions go into ``defs``."""
    hint, text = _unwrap(hint)
    schema = _describe(hint, defs, within)
    return {**schema, "description": text} if text else schema


def _describe(hint: Any, defs: Schema, within: Tuple[Any, ...]) -> Schema:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    try:
        if hint in _PLAIN:
            return dict(_PLAIN[hint])
    except TypeError:  # not hashable, so none of the plain ones
        return {}
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin in _UNIONS:
        return _describe_union([describe(arg, defs, within) for arg in args])
    if origin is tuple and args and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [describe(arg, defs, within) for arg in args], "minItems": len(args), "maxItems": len(args)}
    if origin in _LISTS or origin is tuple:
        return {"type": "array", "items": describe(args[0], defs, within)} if args else {"type": "array"}
    if hint in _LISTS:
        return {"type": "array"}
    if is_mapping(hint):
        return {"type": "object", "additionalProperties": describe(args[1], defs, within)} if len(args) == 2 else {"type": "object"}
    if is_pydantic(hint):
        return _describe_pydantic(hint, defs)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"enum": [member.value for member in hint]}
    if is_model(hint):
        return {"type": "object"} if hint in within else _describe_fields(hint, defs, within + (hint,))
    return {}


def _describe_union(options: "list[Schema]") -> Schema:
    if {} in options:
        return {}
    if all(set(option) == {"type"} for option in options):
        return {"type": [option["type"] for option in options]}
    return {"anyOf": options}


def _describe_pydantic(model: Any, defs: Schema) -> Schema:
    if hasattr(model, "model_json_schema"):
        schema = dict(model.model_json_schema())
        defs.update(schema.pop("$defs", {}))
    else:
        schema = dict(model.schema(ref_template="#/$defs/{model}"))
        defs.update(schema.pop("definitions", {}))
    if "$ref" in schema:  # a model that contains itself
        schema = dict(defs[schema["$ref"].rsplit("/", 1)[-1]])
    return schema


def fields_of(model: Any) -> Dict[str, Tuple[Any, Any]]:
    """Of a model of the standard library: field → (annotation, default), where a field without default has to be given."""
    hints = hints_of(model)
    if _is_typed_dict(model):
        return {name: (hint, _EMPTY if name in model.__required_keys__ else None) for name, hint in hints.items()}
    return {f.name: (hints.get(f.name, Any), f.default if f.default_factory is _EMPTY else f.default_factory)
            for f in dataclasses.fields(model) if f.init}


def _describe_fields(model: Any, defs: Schema, within: Tuple[Any, ...]) -> Schema:
    properties, required = {}, []
    for name, (hint, default) in fields_of(model).items():
        properties[name] = describe(hint, defs, within)
        if default is _EMPTY:
            required.append(name)
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def schema_of(hint: Any) -> Schema:
    """The whole JSON Schema of one annotation, with the definitions that it refers to."""
    defs: Schema = {}
    schema = describe(hint, defs)
    return {**schema, "$defs": defs} if defs else schema


def decode(value: Any, hint: Any, path: str = "") -> Any:
    """A JSON value as its annotation wants it. Raises InvalidInput where it does not fit."""
    hint, _ = _unwrap(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in _UNIONS:
        return _decode_union(value, args, path)
    if origin is typing.Literal:
        if value not in args:
            raise InvalidInput(path, f"must be one of {', '.join(map(repr, args))}")
        return value
    if is_pydantic(hint):
        return _decode_pydantic(value, hint, path)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _parse(hint, value, path, f"must be one of {', '.join(repr(m.value) for m in hint)}")
    if is_model(hint):
        return _decode_fields(value, hint, path)
    if is_mapping(hint):
        _need(isinstance(value, dict), path, "must be an object")
        return {key: decode(item, args[1], _join(path, key)) for key, item in value.items()} if len(args) == 2 else value
    if origin in _LISTS or origin is tuple or hint in _LISTS or hint is tuple:
        return _decode_list(value, origin or hint, args, path)
    if isinstance(hint, type) and hint in _PARSERS:
        _need(isinstance(value, str), path, "must be a text")
        return _parse(_PARSERS[hint], value, path, f"{value[:80]!r} is no {hint.__name__}")
    return _decode_plain(value, hint, path)


def _decode_plain(value: Any, hint: Any, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    for kind, word in ((str, "a text"), (bool, "true or false"), (int, "a whole number"), (float, "a number"), (type(None), "null")):
        if hint is kind or hint is None and kind is type(None):
            _need(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), path, "must be " + word)
    return value


def _decode_union(value: Any, args: Tuple[Any, ...], path: str) -> Any:
    problem: Optional[InvalidInput] = None
    for arg in sorted(args, key=lambda a: not (isinstance(a, type) and type(value) is a)):  # what it is already, first
        try:
            return decode(value, arg, path)
        except InvalidInput as wrong:
            if problem is None or len(wrong.path) > len(problem.path):
                problem = wrong  # the option that got furthest says best what is wrong
    raise problem or InvalidInput(path, "fits none of the options")


def _decode_list(value: Any, kind: Any, args: Tuple[Any, ...], path: str) -> Any:
    _need(isinstance(value, list), path, "must be a list")
    if kind is tuple and args and args[-1] is not Ellipsis:
        _need(len(value) == len(args), path, f"must have {len(args)} items")
        return tuple(decode(item, arg, _join(path, i)) for i, (item, arg) in enumerate(zip(value, args)))
    items = [decode(item, args[0], _join(path, i)) for i, item in enumerate(value)] if args else value
    return kind(items) if kind in (tuple, set, frozenset) else items


def _decode_fields(value: Any, model: Any, path: str) -> Any:
    _need(isinstance(value, dict), path, "must be an object")
    given = {}
    for name, (hint, default) in fields_of(model).items():
        if name in value:
            given[name] = decode(value[name], hint, _join(path, name))
        else:
            _need(default is not _EMPTY, _join(path, name), "is missing")
    return {**value, **given} if _is_typed_dict(model) else model(**given)


def _decode_pydantic(value: Any, model: Any, path: str) -> Any:
    try:
        return model.model_validate(value) if hasattr(model, "model_validate") else model.parse_obj(value)
    except ValueError as wrong:  # Pydantic's ValidationError is one, with a list of what is wrong
        errors: Any = getattr(wrong, "errors", list)()
        for key in errors[0]["loc"] if errors else ():
            path = _join(path, key)
        raise InvalidInput(path, errors[0]["msg"] if errors else str(wrong)) from wrong


def _need(fits: bool, path: str, problem: str) -> None:
    if not fits:
        raise InvalidInput(path, problem)


def _parse(parser: Callable[[Any], Any], value: Any, path: str, problem: str) -> Any:
    try:
        return parser(value)
    except (ValueError, ArithmeticError, TypeError) as wrong:
        raise InvalidInput(path, problem) from wrong


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def encode(value: Any) -> bytes:
    """A value as JSON. Raises TypeError or ValueError when it cannot be written."""
    return json.dumps(value, default=plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def plain(value: Any) -> Any:
    """What stands in JSON for a value that has no form of its own there."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if is_pydantic(type(value)):
        return value.dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (collections.abc.Iterable)) and not isinstance(value, type):
        return list(value)
    if isinstance(value, (uuid.UUID, decimal.Decimal, pathlib.PurePath)):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
