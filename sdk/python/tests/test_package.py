"""The package as a whole."""
import ast
import pathlib
import subprocess
import sys
import tempfile
import unittest

SDK = pathlib.Path(__file__).resolve().parents[1]


class Package(unittest.TestCase):
    def test_it_is_python_3_9(self) -> None:
        for path in sorted((SDK / "agentfield").glob("*.py")):
            with self.subTest(path.name):
                ast.parse(path.read_text("utf-8"), feature_version=(3, 9))

    def test_it_imports_the_standard_library_alone(self) -> None:
        code = "import sys; before = set(sys.modules); import agentfield; print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
        shown = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(SDK)!r}); {code}"],
                               check=True, capture_output=True, text=True).stdout.split()
        if sys.version_info >= (3, 10):
            self.assertEqual(set(shown) - set(sys.stdlib_module_names), {"agentfield"})
        self.assertIn("agentfield", shown)
        self.assertFalse({"http", "email", "urllib3", "litellm", "pydantic", "multiprocessing"} & set(shown), "what makes the import slow")

    def test_a_file_without_run_is_run_and_finds_its_types(self) -> None:
        with tempfile.TemporaryDirectory() as home:
            path = pathlib.Path(home, "main.py")
            path.write_text(AGENT, "utf-8")
            ran = subprocess.run([sys.executable, "-m", "agentfield", str(path)], cwd=SDK, capture_output=True, text=True)
            self.assertEqual((ran.stdout, ran.returncode), ("Outer(inner=Inner(n=7)) ['inner']\n", 0), ran.stderr)
            path.write_text("from agentfield import *\ndef no(self): raise PlaneError(401, 'no key')\nAgent.serve = no\nAgent('a').serve()", "utf-8")
            ran = subprocess.run([sys.executable, "-m", "agentfield", str(path)], cwd=SDK, capture_output=True, text=True)
            self.assertEqual(ran.stderr, "agentfield: the agent was not registered: the control plane answered 401: no key\n")
            path.write_text("from agentfield import Agent\n", "utf-8")
            ran = subprocess.run([sys.executable, "-m", "agentfield", str(path)], cwd=SDK, capture_output=True, text=True)
            self.assertIn("makes 0 agents", ran.stderr)


AGENT = """
from __future__ import annotations
from dataclasses import dataclass
from agentfield import Agent

app = Agent("shown")

@app.reasoner()
def take(outer: Outer):
    return outer

@dataclass
class Outer:
    inner: Inner

@dataclass
class Inner:
    n: int

def shown(self):
    function = self.functions["reasoner take"]
    print(function.bind({"inner": {"n": 7}})[1]["outer"], list(function.input_schema["properties"]))

Agent.serve = shown
"""
