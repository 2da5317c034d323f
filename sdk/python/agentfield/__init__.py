"""Write agents in Python: functions that a control plane calls, watches and connects with other agents.

    from agentfield import Agent

    app = Agent("hello-world")

    @app.reasoner()
    async def greet(name: str) -> dict:
        app.note("somebody came by")
        return {"greeting": f"Hello, {name}!"}

    app.run()

The package uses the standard library alone.
"""
from .agent import Agent
from .errors import AgentfieldError, AIError, CallError, FunctionError, InvalidInput, MemoryUnavailable, PauseError, PlaneError
from .execution import Execution
from .pause import ApprovalResult
from .router import AgentRouter

__version__ = "0.1.0"
__all__ = ["Agent", "AgentRouter", "AgentfieldError", "AIError", "ApprovalResult", "CallError", "Execution", "FunctionError", "InvalidInput",
           "MemoryUnavailable", "PauseError", "PlaneError", "__version__"]
