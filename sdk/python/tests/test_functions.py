"""What annotations mean: schemas, inputs and results."""
from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import typing
import unittest
import uuid

from agentfield import InvalidInput
from agentfield.functions import Function
from agentfield.schema import decode, encode, schema_of

try:
    import pydantic
except ImportError:  # recognised, never required
    pydantic = None  # type: ignore[assignment,unused-ignore]


class Mood(enum.Enum):
    CALM = "calm"
    ANGRY = "angry"


@dataclasses.dataclass
class Message:
    text: str
    stars: int = 3


@dataclasses.dataclass
class Ticket:
    id: int
    messages: typing.List[Message] = dataclasses.field(default_factory=list)
    mood: typing.Optional[Mood] = None


class Options(typing.TypedDict, total=False):
    deep: bool


def function(call: typing.Any, **more: typing.Any) -> Function:
    return Function(call, call.__name__, "reasoner", **more)


def bound(call: typing.Any, given: typing.Any) -> typing.Any:
    positional, named = function(call).bind(given)
    return call(*positional, **named)


class Schemas(unittest.TestCase):
    def test_plain_parameters(self) -> None:
        def analyze(message: str, history: typing.List[typing.Dict[str, str]] = [], deep: bool = False) -> typing.Optional[float]:
            """Analyze a message.

            Further lines are for readers of the code.
            """

        f = function(analyze)
        self.assertEqual(f.input_schema, {
            "type": "object", "required": ["message"], "properties": {
                "message": {"type": "string"}, "deep": {"type": "boolean"},
                "history": {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "string"}}}}})
        self.assertEqual(f.output_schema, {"type": ["number", "null"]})
        self.assertEqual(f.description, "Analyze a message.")

    def test_models_of_the_standard_library(self) -> None:
        message = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}, "stars": {"type": "integer"}}}
        self.assertEqual(schema_of(Ticket), {"type": "object", "required": ["id"], "properties": {
            "id": {"type": "integer"}, "messages": {"type": "array", "items": message},
            "mood": {"anyOf": [{"enum": ["calm", "angry"]}, {"type": "null"}]}}})
        self.assertEqual(schema_of(Options), {"type": "object", "properties": {"deep": {"type": "boolean"}}})
        self.assertEqual(schema_of(typing.Literal["a", "b"]), {"enum": ["a", "b"]})
        self.assertEqual(schema_of(typing.Tuple[int, str])["prefixItems"], [{"type": "integer"}, {"type": "string"}])
        self.assertEqual(schema_of(datetime.datetime), {"type": "string", "format": "date-time"})
        self.assertEqual(schema_of(typing.Any), {})

    def test_one_model_may_be_the_whole_input(self) -> None:
        def triage(ticket: Ticket) -> str:
            return str(ticket.id)

        schema = function(triage).input_schema
        self.assertEqual(set(schema["properties"]), {"id", "messages", "mood"})
        self.assertEqual([option["required"] for option in schema["anyOf"]], [["id"], ["ticket"]])
        self.assertEqual(function(lambda ticket: ticket).input_schema, {"type": "object", "properties": {"ticket": {}}, "required": ["ticket"]})

    def test_names_that_only_type_checkers_know(self) -> None:
        def vague(thing: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
            return str(thing)

        self.assertEqual(function(vague).input_schema["properties"], {"thing": {}})

    def test_names_cannot_hold_dots(self) -> None:
        with self.assertRaises(ValueError):
            Function(print, "a.b", "reasoner")


class Inputs(unittest.TestCase):
    def test_by_name_with_defaults_and_undeclared_keys(self) -> None:
        def greet(name: str, times: int = 1) -> str:
            return name * times

        self.assertEqual(bound(greet, {"name": "a", "colour": "red"}), "a")
        self.assertEqual(bound(greet, {"name": "a", "times": 2.0}), "aa")

    def test_rest(self) -> None:
        def gather(a: int, **rest: typing.Any) -> typing.Any:
            return a, rest

        self.assertEqual(bound(gather, {"a": 1, "b": 2}), (1, {"b": 2}))

    def test_a_dict_takes_the_whole_input(self) -> None:
        def triage(ticket: dict) -> dict:
            return ticket

        self.assertEqual(bound(triage, {"ticket_id": 1, "message": "m"}), {"ticket_id": 1, "message": "m"})
        self.assertEqual(bound(triage, {"ticket": {"ticket_id": 1}}), {"ticket_id": 1})

    def test_a_model_takes_the_whole_input_or_its_name(self) -> None:
        def triage(ticket: Ticket) -> Ticket:
            return ticket

        want = Ticket(7, [Message("hi", 5)], Mood.ANGRY)
        given = {"id": 7, "messages": [{"text": "hi", "stars": 5}], "mood": "angry", "more": True}
        self.assertEqual(bound(triage, given), want)
        self.assertEqual(bound(triage, {"ticket": given}), want)

    def test_what_does_not_fit_says_where(self) -> None:
        def triage(ticket: Ticket, when: typing.Union[datetime.date, None] = None, who: typing.Union[uuid.UUID, int] = 1) -> None:
            return None

        for given, path in (({}, "ticket"), ({"ticket": {"messages": [{"stars": 1}], "id": 1}}, "ticket.messages.0.text"),
                            ({"ticket": {"id": True}}, "ticket.id"), ({"ticket": {"id": 1}, "when": "soon"}, "when"),
                            ({"ticket": {"id": 1, "mood": "sad"}}, "ticket.mood"), ({"ticket": {"id": 1}, "who": "me"}, "who"), ([], "")):
            with self.subTest(given), self.assertRaises(InvalidInput) as caught:
                bound(triage, given)
            self.assertEqual(caught.exception.path, path)
            self.assertEqual(caught.exception.status, 422)


class Results(unittest.TestCase):
    def test_round_trip(self) -> None:
        for hint, value, text in (
                (Ticket, Ticket(1, [Message("é")], Mood.CALM), '{"id":1,"messages":[{"text":"é","stars":3}],"mood":"calm"}'),
                (typing.List[int], [1, 2], "[1,2]"), (type(None), None, "null"), (str, 'a"b', '"a\\"b"'), (typing.Set[int], {2, 1}, "[1,2]"),
                (datetime.datetime, datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc), '"2026-01-02T00:00:00+00:00"'),
                (bytes, b"\x00\xff", '"AP8="'), (typing.Dict[str, Message], {"a": Message("x", 1)}, '{"a":{"text":"x","stars":1}}')):
            with self.subTest(hint):
                self.assertEqual(encode(value).decode(), text)
                self.assertEqual(decode(json.loads(text), hint), value)

    def test_what_json_cannot_say_is_an_error(self) -> None:
        for value in (object(), float("nan"), {("a", "b"): 1}):
            with self.subTest(value), self.assertRaises((TypeError, ValueError)):
                encode(value)


class StandIn:
    """A model with the methods by which those of Pydantic 2 are recognised."""

    def __init__(self, message: str, conversation_history: typing.Any = ()) -> None:
        self.message, self.conversation_history = message, list(conversation_history)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandIn) and self.model_dump() == other.model_dump()

    @classmethod
    def model_json_schema(cls) -> typing.Any:
        line = {"type": "object", "properties": {"role": {"type": "string"}}, "required": ["role"]}
        return {"type": "object", "required": ["message"], "$defs": {"Line": line}, "properties": {
            "message": {"type": "string"}, "conversation_history": {"type": "array", "items": {"$ref": "#/$defs/Line"}}}}

    @classmethod
    def model_validate(cls, given: typing.Any) -> "StandIn":
        for i, line in enumerate(given.get("conversation_history", [])):
            if "role" not in line:
                wrong = ValueError("1 validation error")
                wrong.errors = lambda: [{"loc": ("conversation_history", i, "role"), "msg": "Field required"}]  # type: ignore[attr-defined]
                raise wrong
        return cls(**given)

    def model_dump(self, mode: str = "python") -> typing.Any:
        return {"message": self.message, "conversation_history": self.conversation_history}


def models() -> typing.Iterator[typing.Any]:
    yield StandIn
    if pydantic is not None:
        class Line(pydantic.BaseModel):
            role: str

        class SentimentInput(pydantic.BaseModel):
            message: str
            conversation_history: typing.List[Line] = []

        SentimentInput.model_rebuild(_types_namespace={"Line": Line, "typing": typing})
        yield SentimentInput


class Pydantic(unittest.TestCase):
    def test_models_are_recognised(self) -> None:
        for model in models():
            with self.subTest(model):
                def analyze(given: typing.Any) -> typing.Any:
                    return given

                analyze.__annotations__ = {"given": model, "return": typing.List[model]}
                f = function(analyze)
                self.assertIn("Line", f.input_schema["$defs"])
                self.assertEqual(f.output_schema["items"]["required"], ["message"])
                made = bound(analyze, {"message": "Help!", "conversation_history": [{"role": "user"}]})
                self.assertEqual(made, model(message="Help!", conversation_history=[{"role": "user"}]))
                self.assertEqual(json.loads(encode(made))["conversation_history"], [{"role": "user"}])
                with self.assertRaises(InvalidInput) as caught:
                    bound(analyze, {"message": "Help!", "conversation_history": [{}]})
                self.assertEqual(caught.exception.path, "conversation_history.0.role")
