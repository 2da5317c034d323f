"""Functions: their names, their schemas, and how an input is bound to their parameters (by name, and whole where there is one)."""
from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from concurrent.futures import Executor
from typing import Any, Callable, Dict, List, Optional

from .errors import InvalidInput
from .schema import Schema, decode, describe, hints_of, is_mapping, is_model, schema_of

_BAD = set("./?#% ")


class Function:
    """A reasoner or a skill: a Python function, sync or async, that can be called by name."""

    def __init__(self, call: Callable[..., Any], name: str, kind: str, *, description: Optional[str] = None, tags: Optional[List[str]] = None,
                 input_schema: Optional[Schema] = None, output_schema: Optional[Schema] = None, idempotent: bool = False) -> None:
        if not name or len(name) > 255 or _BAD & set(name):
            raise ValueError(f"the function name {name!r} is empty, too long, or has dots, slashes or spaces in it")
        self.call, self.name, self.kind, self.tags, self.idempotent = call, name, kind, list(tags or []), idempotent
        self.description = description if description is not None else (inspect.getdoc(call) or "").split("\n\n")[0].replace("\n", " ")
        self._schemas = input_schema, output_schema
        parameters = list(inspect.signature(call).parameters.values())
        self.parameters = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.takes_rest = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))

    # What follows from the annotations is looked at when it is needed: by then the types they name exist.

    @functools.cached_property
    def hints(self) -> Dict[str, Any]:
        return hints_of(self.call)

    @functools.cached_property
    def whole(self) -> Any:
        """The only parameter's type, if the whole input may be its value."""
        only = self.hints.get(self.parameters[0].name, Any) if len(self.parameters) == 1 else None
        return only if only is not None and (is_model(only) or is_mapping(only)) else None

    @functools.cached_property
    def input_schema(self) -> Schema:
        return self._describe_input() if self._schemas[0] is None else self._schemas[0]

    @functools.cached_property
    def output_schema(self) -> Schema:
        return self._describe_output() if self._schemas[1] is None else self._schemas[1]

    def _describe_input(self) -> Schema:
        defs: Schema = {}
        properties = {p.name: describe(self.hints.get(p.name, Any), defs) for p in self.parameters}
        required = [p.name for p in self.parameters if p.default is p.empty]
        schema: Schema = {"type": "object", "properties": properties}
        if self.whole is not None:
            schema = self._describe_whole(self.parameters[0].name, next(iter(properties.values())), defs)
        elif required:
            schema["required"] = required
        return {**schema, "$defs": defs} if defs else schema

    def _describe_whole(self, name: str, inner: Schema, defs: Schema) -> Schema:
        """Of a function with one dict or model: the input may be that itself, or have it under the parameter's name."""
        if "properties" not in inner:
            return {"type": "object"}
        if name in inner["properties"]:
            return inner
        return {**{key: value for key, value in inner.items() if key != "required"}, "anyOf": [
            {"required": inner.get("required", [])}, {"required": [name], "properties": {name: inner}}]}

    def _describe_output(self) -> Schema:
        return schema_of(self.hints["return"]) if "return" in self.hints else {}

    def bind(self, given: Any) -> "tuple[List[Any], Dict[str, Any]]":
        """The arguments for an input: keys by parameter name; undeclared ones are ignored unless the function takes ``**rest``."""
        if self.whole is not None:
            return self._bind_whole(given)
        if not isinstance(given, dict):
            raise InvalidInput("", "the input must be an object")
        positional: List[Any] = []
        named: Dict[str, Any] = {}
        for p in self.parameters:
            if p.name in given:
                value = decode(given[p.name], self.hints.get(p.name, Any), p.name)
            elif p.default is p.empty:
                raise InvalidInput(p.name, "is missing")
            else:
                value = p.default
            if p.kind is p.POSITIONAL_ONLY:
                positional.append(value)
            else:
                named[p.name] = value
        if self.takes_rest:
            named.update({key: value for key, value in given.items() if key not in {p.name for p in self.parameters}})
        return positional, named

    def _bind_whole(self, given: Any) -> "tuple[List[Any], Dict[str, Any]]":
        parameter = self.parameters[0]
        inner = given.get(parameter.name) if isinstance(given, dict) else None
        if isinstance(inner, dict):
            try:
                return [], {parameter.name: decode(inner, self.whole, parameter.name)}
            except InvalidInput:
                if set(given) == {parameter.name}:
                    raise
        if not given and parameter.default is not parameter.empty:
            return [], {}
        value = decode(given, self.whole)
        return ([value], {}) if parameter.kind is parameter.POSITIONAL_ONLY else ([], {parameter.name: value})

    async def invoke(self, given: Any, threads: Executor) -> Any:
        """Run the function; one that is not async runs in a thread, with the same context."""
        positional, named = self.bind(given)
        if self.is_async:
            return await self.call(*positional, **named)
        inside = functools.partial(contextvars.copy_context().run, self.call, *positional, **named)
        value = await asyncio.get_running_loop().run_in_executor(threads, inside)
        return await value if inspect.isawaitable(value) else value

    def registration(self) -> Dict[str, Any]:
        entry: Dict[str, Any] = {"id": self.name, "input_schema": self.input_schema, "output_schema": self.output_schema, "tags": self.tags}
        if self.description:
            entry["description"] = self.description
        if self.idempotent:
            entry["idempotent"] = True
        return entry
