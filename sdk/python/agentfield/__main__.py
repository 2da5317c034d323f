"""``python -m agentfield main.py`` runs an agent, whether its file ends with ``app.run()`` or not."""
from __future__ import annotations

import os
import sys
import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .agent import Agent


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "main.py"
    if not os.path.isfile(path):
        raise SystemExit(f"agentfield: there is no file {path}")
    sys.argv = [path, *sys.argv[2:]]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    from .agent import _live
    from .errors import PlaneError
    try:
        run(path, _live)
    except PlaneError as refused:
        raise SystemExit(f"agentfield: the agent was not registered: {refused}") from None


def run(path: str, agents: "list[Agent]") -> None:
    # Unlike what runpy does, the module stays what __main__ is: annotations are resolved there while the agent runs.
    program = types.ModuleType("__main__")
    program.__file__ = path
    sys.modules["__main__"] = program
    with open(path, "rb") as file:
        exec(compile(file.read(), path, "exec"), program.__dict__)
    if any(agent.served for agent in agents):
        return  # the file ran it
    if len(agents) != 1:
        raise SystemExit(f"agentfield: {path} makes {len(agents)} agents: make one, or end the file with app.run()")
    agents[0].serve()


main()
