"""``python -m agentfield main.py`` runs an agent, whether its file ends with ``app.run()`` or not."""
from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else "main.py"
    if not os.path.isfile(path):
        raise SystemExit(f"agentfield: there is no file {path}")
    sys.argv = [path, *sys.argv[2:]]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    from .agent import _live
    runpy.run_path(path, run_name="__main__")
    if any(agent.served for agent in _live):
        return  # the file ran it
    if len(_live) != 1:
        raise SystemExit(f"agentfield: {path} makes {len(_live)} agents: make one, or end the file with app.run()")
    _live[0].serve()


main()
