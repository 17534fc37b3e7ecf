"""What every error of ours owes its reader: what, where, and what to do next."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import stacmirror
from stacmirror import errors
from stacmirror.errors import StacmirrorError, TransferError

SOURCE = Path(stacmirror.__file__).parent
OURS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, StacmirrorError) and not issubclass(value, TransferError)
}
FILES = sorted(
    path
    for folder in ("catalogs", "cli", "filters", "ledger", "pipeline", "sinks", "transports", "")
    for path in (SOURCE / folder).glob("*.py")
    if path.name != "errors.py"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_error_says_what_to_do_next(path: Path) -> None:
    """An error that ends a command is made with a hint; one asset's failure (TransferError) is data, and needs none."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OURS:
            hints = [word.value for word in node.keywords if word.arg == "hint"]
            assert hints, f"{path.name}:{node.lineno}: {node.func.id} without a hint"
            assert not (isinstance(hints[0], ast.Constant) and not hints[0].value), f"{path.name}:{node.lineno}: empty"


def test_every_kind_of_failure_has_a_word_in_the_table() -> None:
    """What `status` groups by and `retry --only` takes; `paused` is nobody's failure, `absent` asks once more."""
    said = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1:
                kind = node.args[{"TransferError": 0, "Failed": 1}.get(node.func.id, 0)]
                if node.func.id in ("TransferError", "Failed") and isinstance(kind, ast.Constant):
                    said.add(kind.value)
    assert len(said) > 20
    assert said - errors.KINDS.keys() == {"paused", "absent"}
