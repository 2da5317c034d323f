"""The package as a whole."""
import ast
import pathlib
import subprocess
import sys
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
