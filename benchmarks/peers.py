"""Who runs: the product and its peers, how each is found and called, and what it leaves beside the files.

`bench` asks for the contenders of a way; those that are not there come back as names with reasons, never in silence.
Every peer gets a ready list of paths, made before the clock starts, and follows the origin's redirects itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.origin import BUCKET, Way

CONNECTIONS = 64
_FETCHERS = Path(__file__).with_name("fetchers")
_S3 = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}
_RCLONE = {**_S3, "RCLONE_CONFIG": os.devnull}
_PRODUCT_EXTRAS = frozenset({".stacmirror", "collection.json", "CITATION.txt", "LICENSE.txt"})
VENV = Path(".venv-bench")


@dataclass(frozen=True)
class Contender:
    """A command for one way; it runs in the folder to write to."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    extras: frozenset[str] = frozenset()
    """Names of files and folders that are no assets."""
    is_product: bool = False


@dataclass(frozen=True)
class Lists:
    """The peers' ready lists, in files below `folder`."""

    folder: Path
    paths: tuple[str, ...]

    def write(self, name: str, line: Callable[[str], str]) -> str:
        """Write one line a path and return the file's name."""
        file = self.folder / name
        file.write_text("".join(f"{line(path)}\n" for path in self.paths))
        return str(file)


@dataclass(frozen=True)
class Peer:
    """A program that may be there. `build` returns the contender's command for a way, given its path."""

    name: str
    program: str
    ways: tuple[str, ...]
    build: Callable[[str, Way, Lists], tuple[str, ...]]
    debian: str = ""
    """The Debian package that has it."""
    version: tuple[str, ...] = ("--version",)
    quick: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def product(way: Way, settings: Mapping[str, str], *, items_max: int | None = None) -> Contender:
    """Return the command line `stacmirror mirror` as a contender, with these settings."""
    words = [f"{key}={value}" for key, value in settings.items()]
    given = {f"STACMIRROR_{key.upper()}": value for key, value in settings.items()}
    if way.name == "s3":
        given |= _S3 | {"STACMIRROR_S3_ENDPOINT": way.files_url}
    if way.certificate:
        given["SSL_CERT_FILE"] = way.certificate
    command = [sys.executable, "-m", "stacmirror", "mirror", "mlhub:bigearthnet_v1_labels", ".", "--api-url",
               way.api_url, "--progress", "none"]  # fmt: skip
    if items_max is not None:
        command += ["--max-items", str(items_max)]
    name = "stacmirror" + (f" [{', '.join(words)}]" if words else "")
    return Contender(name, tuple(command), {**given, "MLHUB_API_KEY": "bench"}, _PRODUCT_EXTRAS, is_product=True)


def peers() -> tuple[Peer, ...]:
    """Return all peers, in the order in which they run."""
    python = str((VENV / "bin" / "python").absolute())
    return (
        Peer("curl", "curl", ("plain", "md5", "tls"), _curl, debian="curl", quick=True),
        # A newer one than the distribution's, where somebody has put it on the PATH under this name.
        Peer("curl-current", "curl-current", ("plain", "md5", "tls"), _curl),
        Peer("pycurl", python, ("plain", "tls"), _pycurl, version=("-c", "import pycurl; print(pycurl.version)")),
        Peer("wget2", "wget2", ("plain",), _wget2, debian="wget2"),
        Peer("obstore", python, ("plain", "s3"), _obstore, quick=True, environment=_S3,
             version=("-c", "import obstore; print(obstore.__version__)")),
        Peer("rclone", "rclone", ("plain", "s3"), _rclone, debian="rclone", environment=_RCLONE),
        Peer("stac-asset", python, ("plain",), _stac_asset,
             version=("-c", "from importlib.metadata import version; print(version('stac-asset'))")),
        Peer("aria2c", "aria2c", ("plain",), _aria2c, debian="aria2"),
        Peer("s5cmd", "s5cmd", ("s3",), _s5cmd, debian="s5cmd", version=("version",), environment=_S3),
    )  # fmt: skip


def find_program(name: str) -> str | None:
    """Return the path of a program, from the peers' own environment (newer) before the machine's."""
    if os.sep in name:
        return name if os.path.exists(name) else None
    beside = VENV / "bin" / name
    return str(beside.absolute()) if beside.exists() else shutil.which(name)


def version_of(peer: Peer, program: str) -> str | None:
    """Return the peer's version, None if it does not run."""
    try:
        done = subprocess.run([program, *peer.version], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return None
    if done.returncode != 0:
        return None
    line = (done.stdout or done.stderr).strip().partition("\n")[0]
    found = re.search(r"v?\d+(\.\d+)+\S*", line)
    libcurl = re.search(r"libcurl/\S+", line)
    return " ".join(part for part in (found and found[0].removeprefix("PycURL/"), libcurl and libcurl[0]) if part)


def _curl(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    config = lists.write("curl", lambda path: f'url = "{way.download_url}/{path}"\noutput = "{path}"')
    trust = ("--cacert", way.certificate) if way.certificate else ()
    return (program, "-q", "-Z", "--parallel-max", str(CONNECTIONS), "-L", "-s", "-S", "-f", "--create-dirs", *trust,
            "-K", config)  # fmt: skip


def _pycurl(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    trust = (way.certificate,) if way.certificate else ()
    return (program, str(_FETCHERS / "pycurl_get.py"), way.download_url, lists.write("paths", str), *trust)


def _wget2(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    urls = lists.write("urls", lambda path: f"{way.download_url}/{path}")
    folders = way.download_url.partition("://")[2].count("/")
    return (program, "--no-config", "-q", f"--max-threads={CONNECTIONS}", "-x", "-nH", f"--cut-dirs={folders}",
            "--no-robots", "-i", urls)  # fmt: skip


def _obstore(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    base, endpoint = (f"s3://{BUCKET}", (way.files_url,)) if way.name == "s3" else (way.download_url, ())
    return (program, str(_FETCHERS / "obstore_get.py"), base, lists.write("paths", str), *endpoint)


def _rclone(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    source: tuple[str, ...]
    if way.name == "s3":
        source = (f":s3:{BUCKET}", "--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", way.files_url)
    else:
        source = (":http:", "--http-url", f"{way.download_url}/", "--http-no-head")
    return (program, "copy", *source, ".", "--files-from", lists.write("paths", str), "--no-traverse", "--transfers",
            str(CONNECTIONS), "--checkers", str(CONNECTIONS), "-q")  # fmt: skip


def _stac_asset(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    return (program, str(_FETCHERS / "stac_asset_get.py"), way.download_url, lists.write("paths", str))


def _aria2c(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    urls = lists.write("aria2", lambda path: f"{way.download_url}/{path}\n  out={path}")
    return (program, "--no-conf", "-q", "-i", urls, "-j16", "-x1", "--file-allocation=none")  # 16 is its most


def _s5cmd(program: str, way: Way, lists: Lists) -> tuple[str, ...]:
    commands = lists.write("s5cmd", lambda path: f"cp s3://{BUCKET}/{path} {path}")
    return (program, "--endpoint-url", way.files_url, "--numworkers", str(CONNECTIONS), "--log", "error", "run",
            commands)  # fmt: skip
