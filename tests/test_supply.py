"""What is shipped, and what must never be in it: no pickle, no shell, no unchecked TLS, no license that is not free."""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from stacmirror.simulator import Simulator, SimulatorSettings

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
NEVER_IMPORTED = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
"""What turns bytes into code, or into objects of anyone's choice."""
NEVER_CALLED = {"eval", "exec", "compile", "__import__", "system", "popen", "_create_unverified_context", "mktemp"}
NEVER_NAMED = {"CERT_NONE", "CERT_OPTIONAL"}


def nodes() -> Iterator[tuple[str, ast.AST]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_nothing_becomes_code() -> None:
    """No file imports a serializer that runs what it reads, none evaluates text, none asks a shell."""
    found = []
    for where, node in nodes():
        if isinstance(node, ast.Import):
            found += [where for alias in node.names if alias.name.split(".")[0] in NEVER_IMPORTED]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in NEVER_IMPORTED:
            found.append(where)
        elif isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            of_re = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "re"
            found += [where for bad in NEVER_CALLED if name == bad and not of_re]
            found += [where for word in node.keywords if word.arg == "shell"]
    assert found == []


def test_certificates_are_always_checked() -> None:
    """Nothing in the source can make a context that does not check, and no setting has a word for it."""
    found = []
    for where, node in nodes():
        if isinstance(node, ast.Attribute) and node.attr in NEVER_NAMED:
            found.append(where)
        if isinstance(node, ast.Assign) and any(
            getattr(target, "attr", "") in ("check_hostname", "verify_mode") for target in node.targets
        ):
            found.append(where)
        if isinstance(node, ast.keyword) and node.arg in ("verify", "verify_ssl", "ssl", "check_hostname"):
            found += [where] if isinstance(node.value, ast.Constant) and node.value.value is False else []
    assert found == []
    example = (ROOT / "config.example.toml").read_text()
    assert not re.search(r"(?i)^\w*(insecure|verify|no_check)\w* =", example, re.MULTILINE)


@pytest.fixture
def licenses() -> ModuleType:
    """The license check of `make audit`."""
    spec = importlib.util.spec_from_file_location("licenses", ROOT / ".ci" / "licenses.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_licenses_are_free(licenses: ModuleType) -> None:
    """Each dependency, and each of theirs, has a license that may be passed on with Apache-2.0."""
    found = [(one.name, licenses.license_of(one)) for one in licenses.required()]
    assert {"aiohttp", "botocore", "msgspec", "xxhash"} <= {name for name, _ in found}
    assert licenses.doubtful(found) == []


def test_a_doubtful_license_is_seen(licenses: ModuleType) -> None:
    """Copyleft, proprietary, and no word at all are told."""
    words = {"a": "MIT", "b": "GPL-3.0-only", "c": "LGPLv2+", "d": "not said", "e": "Proprietary", "f": "BSD-3-Clause"}
    assert licenses.doubtful(words.items()) == ["b", "c", "d", "e"]


async def test_the_simulator_listens_on_this_machine_only() -> None:
    """Unless told otherwise all four ports are on loopback: another address of this machine has none of them."""
    async with Simulator(SimulatorSettings(items=1)) as simulator:
        for listener, _ in simulator._listeners:
            for bound in listener.sockets:
                host, port = bound.getsockname()[:2]
                assert host == "127.0.0.1"
                if sys.platform == "linux":
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection(("127.0.0.2", port), timeout=5)
