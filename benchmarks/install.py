"""Bring in what the benchmark needs and the machine lacks: nginx and the peers.

From Debian with apt-get where root allows it, from PyPI into `.venv-bench`; each by itself, so that one that cannot
be had costs no other. What is missing afterwards is for the caller to name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers import VENV

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_DONE = VENV / ".installed"


def install_debian(packages: Iterable[str]) -> None:
    """Install each package if apt-get is there and may; a failure is no error."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for package in packages:
        print(f"installing {package} with apt-get", file=sys.stderr)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        subprocess.run(command, env=environment, capture_output=True, check=False)


def install_python() -> None:
    """Make `.venv-bench` with the peers that come from PyPI, once for each state of requirements.txt."""
    if _DONE.exists() and _DONE.stat().st_mtime >= _REQUIREMENTS.stat().st_mtime:
        return
    if not (VENV / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    lines = _REQUIREMENTS.read_text().splitlines()
    for name in (line for line in lines if line and not line.startswith("#")):
        print(f"installing {name} into {VENV}", file=sys.stderr)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", name]
        subprocess.run(pip, capture_output=True, check=False)
    _DONE.touch()
