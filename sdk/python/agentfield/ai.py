"""``app.ai``: a language model behind the OpenAI-compatible chat API, litellm if it is installed, or an offline model.

The environment decides: AGENTFIELD_AI is ``fake``, ``openai``, ``litellm`` or empty. Empty takes what is configured: an address
(AGENTFIELD_AI_URL, OPENAI_BASE_URL) or a key (AGENTFIELD_AI_KEY, OPENAI_API_KEY). AGENTFIELD_AI_MODEL names the model.

The offline model knows nothing. It fills the schema with values that depend on the prompt alone, so that an agent can be tried and tested
without network, and gives the same answer every time.
"""
from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import Any, Dict, List, Optional

from .client import SHORT, Answer, Client
from .errors import AIError, InvalidInput
from .schema import Schema, decode, encode, plain, schema_of

_TRIES = 4
_TIMEOUT = 300.0


class AI:
    """Asks the configured model. ``model`` is the default of the agent."""

    def __init__(self, model: str = "") -> None:
        self.model = model or os.getenv("AGENTFIELD_AI_MODEL", "")
        self.url = os.getenv("AGENTFIELD_AI_URL") or os.getenv("OPENAI_BASE_URL") or ""
        self.key = os.getenv("AGENTFIELD_AI_KEY") or os.getenv("OPENAI_API_KEY") or ""
        self.kind = os.getenv("AGENTFIELD_AI", "").lower() or self._configured()
        if self.kind not in ("", "fake", "openai", "litellm"):
            raise ValueError(f"AGENTFIELD_AI is {self.kind!r}: use fake, openai or litellm")

    def _configured(self) -> str:
        if self.url:
            return "openai"
        if not (self.key or self.model):
            return ""
        return "litellm" if _litellm() is not None else "openai"

    async def ask(self, prompt: Any, system: Any, user: Any, schema: Any, options: Dict[str, Any]) -> Any:
        """The model's words, or with a schema (a type, or a JSON Schema as a dict) a value of it."""
        messages = [{"role": role, "content": _text(words)} for role, words in (("system", system), ("user", user), ("user", prompt))
                    if words is not None]
        if not messages:
            raise ValueError("give the model a prompt, or system= and user=")
        wanted = schema if isinstance(schema, dict) else schema_of(schema) if schema is not None else None
        if self.kind == "fake":
            said = offline(messages, wanted)
            return _typed(said, schema)
        if not self.kind:
            raise AIError("no model is configured: set OPENAI_API_KEY, or AGENTFIELD_AI_URL (and AGENTFIELD_AI_KEY) to any OpenAI-compatible "
                          "address, or AGENTFIELD_AI=fake for the offline model")
        if wanted is None:
            return await self._chat(messages, None, options)
        return await self._typed_chat(messages, wanted, schema, options)

    async def _typed_chat(self, messages: List[Dict[str, str]], wanted: Schema, schema: Any, options: Dict[str, Any]) -> Any:
        """Ask for JSON; an answer that does not fit is sent back once, with what is wrong."""
        rule = {"role": "system", "content": "Answer with one JSON value and nothing else. It must fit this JSON Schema: " + json.dumps(wanted)}
        messages = [rule] + messages
        problem: Optional[Exception] = None
        for _ in range(2):
            said = await self._chat(messages, wanted, options)
            try:
                return _typed(json.loads(_without_fence(said)), schema)
            except (ValueError, InvalidInput) as wrong:
                problem = wrong
                messages = messages + [{"role": "assistant", "content": said},
                                       {"role": "user", "content": f"That does not fit: {wrong}. Answer again, with JSON that fits the schema."}]
        raise AIError(f"the model's answer does not fit the schema: {problem}") from problem

    async def _chat(self, messages: List[Dict[str, str]], wanted: Optional[Schema], options: Dict[str, Any]) -> str:
        asked: Dict[str, Any] = {"model": self.model or "gpt-4o-mini", "messages": messages,
                                 **{key: value for key, value in options.items() if value is not None}}
        if wanted is not None:
            asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}
        answer = await (_ask_litellm(asked, self.url, self.key) if self.kind == "litellm" else self._post(asked))
        try:
            return answer["choices"][0]["message"]["content"] or ""
        except (KeyError, IndexError, TypeError) as wrong:
            raise AIError("the model's answer is not in the form of the chat API") from wrong

    async def _post(self, asked: Dict[str, Any]) -> Any:
        client = Client(self.url or "https://api.openai.com/v1")
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}" if self.key else ""}
        problem = "it did not answer"
        try:
            for failures in range(_TRIES):
                if failures:
                    await asyncio.sleep(min(0.5 * 2 ** failures, SHORT))
                try:
                    answer = await client.request("POST", "/chat/completions", headers, encode(asked), _TIMEOUT)
                except (OSError, asyncio.TimeoutError) as broken:
                    problem = str(broken) or "it did not answer in time"
                    continue
                if 200 <= answer.status < 300:
                    return answer.json()
                problem = f"{answer.status} {_complaint(answer)}"
                if answer.status == 400 and "response_format" in asked:  # a server that knows no schemas: the words of the prompt must do
                    asked = {key: value for key, value in asked.items() if key != "response_format"}
                elif answer.status not in (408, 409, 429) and answer.status < 500:
                    break
        finally:
            await client.close()
        raise AIError(f"the model at {client.url} could not be asked: {problem}")


async def _ask_litellm(asked: Dict[str, Any], url: str, key: str) -> Any:
    litellm = _litellm()
    if litellm is None:
        raise AIError("AGENTFIELD_AI is litellm, which is not installed: pip install litellm")
    try:
        return await litellm.acompletion(**asked, **({"api_base": url} if url else {}), **({"api_key": key} if key else {}))
    except Exception as problem:  # it has a tree of errors of its own
        raise AIError(f"the model could not be asked: {problem}") from problem


def _litellm() -> Any:
    try:
        import litellm  # type: ignore[import-not-found,unused-ignore]  # optional, and slow to import
    except ImportError:
        return None
    return litellm


def _typed(said: Any, schema: Any) -> Any:
    return said if schema is None or isinstance(schema, dict) else decode(said, schema)


def _text(words: Any) -> str:
    return words if isinstance(words, str) else json.dumps(words, default=plain, ensure_ascii=False)


def _without_fence(said: str) -> str:
    said = said.strip()
    if said.startswith("```"):
        said = said.split("\n", 1)[-1].rsplit("```", 1)[0]
    return said


def _complaint(answer: Answer) -> str:
    said = answer.json()
    error = said.get("error") if isinstance(said, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or answer.body[:200].decode("utf-8", "replace"))


def offline(messages: List[Dict[str, str]], schema: Optional[Schema]) -> Any:
    """The offline model: without a schema a sentence that says what it is, with one a value that fits."""
    seed = hashlib.sha256(json.dumps(messages).encode()).digest()
    if schema is None:
        return f"(offline model) I was asked: {' '.join(messages[-1]['content'].split())[:200]}"
    return _fill(schema, schema.get("$defs", {}), seed, "answer", 0)


def _fill(schema: Schema, defs: Schema, seed: bytes, name: str, depth: int) -> Any:
    """A value that fits; which one depends on the seed and the name."""
    if "$ref" in schema:
        schema = {**defs.get(schema["$ref"].rsplit("/", 1)[-1], {}), **{k: v for k, v in schema.items() if k != "$ref"}}
    n = int.from_bytes(hashlib.sha256(seed + name.encode()).digest()[:6], "big")
    if "const" in schema or "enum" in schema:
        choices = schema.get("enum") or [schema["const"]]
        return choices[n % len(choices)]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            options = [option for option in schema[key] if option.get("type") != "null"] or schema[key]
            return _fill(options[n % len(options)], defs, seed, name, depth)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object":
        required = schema.get("required", [])
        return {key: _fill(value, defs, seed, f"{name}.{key}", depth + 1) for key, value in schema.get("properties", {}).items()
                if depth < 6 or key in required}
    if kind == "array":
        if "prefixItems" in schema:
            return [_fill(item, defs, seed, f"{name}.{i}", depth + 1) for i, item in enumerate(schema["prefixItems"])]
        count = max(schema.get("minItems", 0), 0 if depth >= 6 else min(1 + n % 2, schema.get("maxItems", 2)))
        return [_fill(schema.get("items", {}), defs, seed, f"{name}.{i}", depth + 1) for i in range(count)]
    return _fill_plain(kind, schema, n, name.rsplit(".", 1)[-1])


def _fill_plain(kind: str, schema: Schema, n: int, name: str) -> Any:
    if kind == "boolean":
        return n % 2 == 0
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
        bottom = low if low is not None else 0 if high is None or high >= 0 else high - 10
        top = high if high is not None else bottom + (10 if kind == "integer" else 1)
        if kind == "number":
            return round(bottom + (top - bottom) * (1 + n % 98) / 100, 4)
        bottom += schema.get("exclusiveMinimum") == low and low is not None
        top -= schema.get("exclusiveMaximum") == high and high is not None
        return int(bottom) + n % (int(top) - int(bottom) + 1)
    if kind == "null":
        return None
    formats = {"date-time": "2026-01-15T10:30:00+00:00", "date": "2026-01-15", "uuid": f"00000000-0000-4000-8000-{n:012x}",
               "email": "someone@example.com", "uri": "https://example.com/"}
    text = formats.get(schema.get("format", "")) or ("" if "contentEncoding" in schema else f"{name.replace('_', ' ')} (offline model)")
    return text[:schema.get("maxLength", len(text))].ljust(schema.get("minLength", 0), ".")
