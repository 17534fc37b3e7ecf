"""The layer table of CONTRIBUTING.md, held against the imports as they are."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stacmirror import errors

SOURCE = Path(__file__).parents[1] / "src" / "stacmirror"

BASE = {"model", "errors", "units"}
SUPPORT = {
    "settings", "typed", "layout", "names", "links", "retry", "limits", "pace", "interfaces", "redact", "clock",
    "open_files", "ramp", "budget", "health", "ranges", "findings", "shortage", "search", "profiles", "forecast",
    "gate",
}  # fmt: skip
ADAPTERS = {"catalogs", "filters", "transports", "sinks", "ledger"}
ROOTS = {
    "mirror", "building", "summary", "tune", "sampling", "assembly", "clients", "listings", "verdict", "status",
    "record", "verify", "strays", "manifest", "explain", "watch",
}  # fmt: skip
LAYERS: list[set[str]] = [BASE, SUPPORT, ADAPTERS, {"pipeline"}, ROOTS, {"cli"}]
"""From the bottom up; a part imports what is in layers below its own."""

WITHIN_LAYER = {
    ("layout", "names"), ("typed", "settings"), ("limits", "pace"), ("limits", "health"), ("limits", "budget"),
    ("search", "settings"), ("typed", "profiles"), ("ranges", "retry"),
    ("budget", "pace"), ("budget", "health"), ("budget", "shortage"), ("open_files", "settings"),
    ("tune", "assembly"), ("sampling", "assembly"), ("listings", "assembly"), ("assembly", "clients"),
    ("mirror", "record"), ("mirror", "assembly"), ("mirror", "verdict"), ("mirror", "building"),
    ("mirror", "summary"), ("building", "assembly"), ("summary", "building"), ("summary", "verdict"),
    ("status", "record"), ("verify", "record"), ("verify", "strays"), ("strays", "record"), ("manifest", "record"),
    ("explain", "record"), ("watch", "record"),
}  # fmt: skip
"""Imports inside one layer that are meant."""

PIPELINE_SEES = BASE | SUPPORT | {"pipeline"}

HOMES = {
    "aiohttp": {"transports/http.py", "transports/aiohttp_answer.py", "transports/aiohttp_errors.py"},
    "yarl": {"transports/http.py"},
    "aiobotocore": {"transports/aws.py"},
    "botocore": {"transports/aws.py"},
    "aiofiles": {"sinks/part_file.py"},
    "sqlite3": {"ledger"},
    "typer": {"cli"},
    "rich": {"cli"},
    "platformdirs": {"cli"},
    "uvloop": {"cli"},
    "pyarrow": {"catalogs/geoparquet.py"},
    "cql2": {"search.py", "filters/searched.py"},
    "httptools": {"transports/wire_answer.py", "transports/wire_series.py", "transports/wire_turns.py"},
}
"""Where each foreign library may be imported, besides the simulator."""


def part_of(path: Path) -> str:
    relative = path.relative_to(SOURCE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return the dotted names of all modules that a file imports, wherever in it."""
    found: set[str] = set()
    package = ("stacmirror", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found.add(module)
            if module == "stacmirror":
                found |= {f"stacmirror.{alias.name}" for alias in node.names}
    return found


FILES = sorted(
    path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.name not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    """A file imports from the layers below its own, from its own folder, and no sibling."""
    part = part_of(path)
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("stacmirror.")} - {"__version__"}
    if part == "simulator":
        assert ours <= {"simulator"}, f"{path.name} stands apart, but imports {ours - {'simulator'}}"
        return
    level = next(number for number, layer in enumerate(LAYERS) if part in layer)
    below = set().union(*LAYERS[:level])
    allowed = below | {part} | {to for of, to in WITHIN_LAYER if of == part}
    if part == "pipeline":
        allowed = PIPELINE_SEES
    if part == "cli":
        allowed |= {"simulator"}
    assert ours <= allowed, f"{path.relative_to(SOURCE)} imports {sorted(ours - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_foreign_libraries_have_one_home(path: Path) -> None:
    """Each foreign library is imported in its home only."""
    relative = str(path.relative_to(SOURCE))
    if part_of(path) == "simulator":
        return
    for library in {name.split(".")[0] for name in imports_of(path)} & set(HOMES):
        homes = HOMES[library]
        assert relative in homes or part_of(path) in homes, f"{relative} imports {library}"


def test_every_part_has_a_layer() -> None:
    """No file or folder stands outside the table."""
    parts = {part_of(path) for path in FILES}
    assert parts <= set().union(*LAYERS) | {"simulator"}


@pytest.mark.parametrize("arguments", [["--help"], ["mirror", "--help"], ["status", "/nowhere"]])
def test_light_commands_load_no_client(arguments: list[str]) -> None:
    """`--help` and `status` load neither aiohttp nor botocore."""
    code = (
        "import sys\n"
        "from stacmirror.cli.app import main\n"
        f"sys.argv = ['stacmirror', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'aiohttp', 'botocore', 'aiobotocore'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_raises_are_real() -> None:
    """Every class that a docstring names under `Raises` exists."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    ours = {node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    known = ours | set(vars(errors)) | set(vars(builtins))
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
                text = ast.get_docstring(node) or ""
                for paragraph in re.findall(r"Raises:(.*?)(?:\n\s*\n|$|Cancel:|Source:|Units:)", text, re.DOTALL):
                    for name in re.findall(r"\b([A-Z][a-z]+(?:[A-Z][a-z]+)+)\b", paragraph):
                        assert name in known, f"{path.relative_to(SOURCE)}: {name}"
