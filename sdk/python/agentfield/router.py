"""Functions that are collected before there is an agent, or in another file than it."""
from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Tuple

_SEPARATORS = str.maketrans({c: "_" for c in "/.- "})


class Registrar:
    """What an agent and a router have in common: the decorators."""

    def _add(self, call: Callable[..., Any], name: str, kind: str, options: Dict[str, Any]) -> None:
        raise NotImplementedError

    def _decorator(self, kind: str, name: Any, options: Dict[str, Any]) -> Any:
        def decorate(call: Callable[..., Any]) -> Callable[..., Any]:
            self._add(call, name if isinstance(name, str) else call.__name__, kind, options)
            return call

        return decorate(name) if callable(name) else decorate

    def reasoner(self, name: Any = None, *, description: Optional[str] = None, tags: Optional[List[str]] = None,
                 input_schema: Optional[Dict[str, Any]] = None, output_schema: Optional[Dict[str, Any]] = None,
                 idempotent: bool = False) -> Any:
        """Register the decorated function as a reasoner, under its own name or another one; it stays as it is.

        The schemas come from the annotations, the description from the docstring. ``idempotent`` says that the function may see the same
        execution twice without harm: what one instance of the agent fails or loses, the control plane gives to the next one, where the same
        calls and pauses find what they came to.
        """
        return self._decorator("reasoner", name, {"description": description, "tags": tags, "input_schema": input_schema,
                                                  "output_schema": output_schema, "idempotent": idempotent})

    def skill(self, name: Any = None, *, description: Optional[str] = None, tags: Optional[List[str]] = None,
              input_schema: Optional[Dict[str, Any]] = None, output_schema: Optional[Dict[str, Any]] = None,
              idempotent: bool = False) -> Any:
        """The same for a skill: deterministic code, where a reasoner thinks. Both are called in the same way."""
        return self._decorator("skill", name, {"description": description, "tags": tags, "input_schema": input_schema,
                                               "output_schema": output_schema, "idempotent": idempotent})


class AgentRouter(Registrar):
    """Functions under a prefix: ``AgentRouter(prefix="support")`` makes ``analyze_sentiment`` the agent's ``support_analyze_sentiment``.

    Once it is included, it has everything that the agent has: ``support.ai``, ``support.call``, ``support.memory``, ``support.note``, ….
    """

    def __init__(self, prefix: str = "", *, tags: Optional[List[str]] = None) -> None:
        self.prefix, self.tags = prefix, list(tags or [])
        self._functions: List[Tuple[Callable[..., Any], str, str, Dict[str, Any]]] = []
        self._above: Any = None  # the agent, or a router that includes this one

    def _add(self, call: Callable[..., Any], name: str, kind: str, options: Dict[str, Any]) -> None:
        self._functions.append((call, name, kind, options))
        if self._above is not None:
            self._pass_on(call, name, kind, options)

    def _pass_on(self, call: Callable[..., Any], name: str, kind: str, options: Dict[str, Any]) -> None:
        prefix = self.prefix.strip("/").translate(_SEPARATORS)
        tags = self.tags + list(options.get("tags") or [])
        self._above._add(call, f"{prefix}_{name}" if prefix else name, kind, {**options, "tags": tags})

    def include_router(self, router: "AgentRouter", prefix: Optional[str] = None) -> None:
        """Take over the functions of another router, under both prefixes."""
        router.attach(self, prefix)

    def attach(self, above: Any, prefix: Optional[str] = None) -> None:
        if self._above is not None:
            raise ValueError("this router is included already: make another one")
        self._above, self.prefix = above, self.prefix if prefix is None else prefix
        for function in self._functions:
            self._pass_on(*function)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._above is None:
            raise AttributeError(f"the router has no {name!r} before it is part of an agent: app.include_router(router) first")
        return getattr(self._above, name)
