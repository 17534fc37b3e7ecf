"""A manifest is what coreutils checks, and vouches for nothing that is damaged."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stacmirror.cli import app as program
from stacmirror.findings import Finding
from stacmirror.manifest import entries, sums, sums_line
from stacmirror.mirror import Mirror
from stacmirror.typed import build
from tests.conftest import SOURCE, simulated, tree


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole mirror of 6 items, in the layout that has files of its own making."""
    root = tmp_path_factory.mktemp("manifest") / "mirror"

    async def make() -> None:
        async with simulated(items=6, generation=2020) as simulator:
            values = {"api_url": simulator.api_url, "s3_endpoint": simulator.s3_url, "s3_unsigned": True}
            settings = build(SOURCE, str(root), {**values, "layout": "bigearthnet", "sync_every": 0.05})
            assert (await Mirror(settings, api_key=simulator.key).run()).verdict == "complete"

    asyncio.run(make())
    return root


@pytest.fixture
def mirror(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mirror"))


@pytest.mark.parametrize("kind", ["sha256", "md5"])
@pytest.mark.parametrize("processes", [1, 2])
def test_sums_are_those_of_the_files(mirror: Path, kind: str, processes: int) -> None:
    """Each file once, with its true digest, whether the ledger has it or it was computed."""
    found = dict(sums(str(mirror), kind, processes, _never))  # type: ignore[arg-type]
    assert found == {path: hashlib.new(kind, content).hexdigest() for path, content in tree(mirror).items()}


@pytest.mark.parametrize(("kind", "name"), [("sha256sums", "SHA256SUMS"), ("md5sums", "MD5SUMS")])
def test_coreutils_accepts_what_is_written(mirror: Path, kind: str, name: str) -> None:
    """`sha256sum -c` and `md5sum -c` say OK for every file, and the manifest is not foreign to `verify`."""
    tool = shutil.which(kind.removesuffix("s"))
    if tool is None:
        pytest.skip("no coreutils")
    assert program.run(["manifest", str(mirror), "--format", kind, "-o", str(mirror / name)]) == 0
    done = subprocess.run([tool, "--strict", "-c", name], cwd=mirror, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == len(tree(mirror)) - 1
    assert not (mirror / f"{name}.part").exists()
    assert program.run(["verify", str(mirror), "--strict", "--progress", "none"]) == 0


@pytest.mark.parametrize("name", ["plain", "back\\slash", "line\nbreak", "\\n", "both\\\n", " lead", "tail "])
def test_names_are_escaped_as_coreutils_does(tmp_path: Path, name: str) -> None:
    """Any name passes `sha256sum -c`, and is what `sha256sum` itself writes."""
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("no coreutils")
    (tmp_path / name).write_bytes(b"content")
    line = sums_line(name, hashlib.sha256(b"content").hexdigest()) + "\n"
    own = subprocess.run([tool, "--", name], cwd=tmp_path, capture_output=True, check=True)
    assert own.stdout == line.encode()
    subprocess.run([tool, "--strict", "-c"], cwd=tmp_path, input=line.encode(), capture_output=True, check=True)


def test_ndjson_is_the_ledgers_knowledge_without_reading(mirror: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One object a file with identity, path, size and digest; the files themselves are not touched."""
    truth = tree(mirror)
    shutil.rmtree(mirror / "BigEarthNet-v1.0")
    assert program.run(["manifest", str(mirror), "--format", "ndjson"]) == 0
    said = capfd.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert {(entry["path"], entry["bytes"]) for entry in found} == {(path, len(body)) for path, body in truth.items()}
    assert {entry["digest_kind"] for entry in found} == {"md5", "xxh3"}
    for entry in found:
        if entry["digest_kind"] == "md5":
            assert entry["digest"] == hashlib.md5(truth[entry["path"]]).hexdigest()
    assert said.err == ""
    assert len(list(entries(str(mirror), _never))) == len(truth)


def test_a_damaged_file_is_left_out(mirror: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Flipped, cut and missing: not vouched for, each named, exit code 7; the data alone is on stdout."""
    flipped, cut, missing = sorted(tree(mirror))[2:32:10]
    content = bytearray((mirror / flipped).read_bytes())
    content[9] ^= 1
    (mirror / flipped).write_bytes(content)
    (mirror / cut).write_bytes(b"")
    (mirror / missing).unlink()
    assert program.run(["manifest", str(mirror), "--format", "sha256sums", "--progress", "none"]) == 7
    said = capfd.readouterr()
    listed = {line.split("  ", 1)[1] for line in said.out.splitlines()}
    assert listed == set(tree(mirror)) - {flipped, cut}
    for kind, path in (("flipped", flipped), ("cut", cut), ("missing", missing)):
        assert f"left out, {kind}: {path}" in said.err


def test_an_output_is_whole_or_not_there(mirror: Path) -> None:
    """A place that cannot be written is one line; an interrupted manifest leaves what was there before."""
    assert program.run(["manifest", str(mirror), "--format", "ndjson", "-o", str(mirror / "no" / "where")]) == 6
    assert program.run(["manifest", str(mirror), "--format", "tar"]) == 2
    place = mirror / "SHA256SUMS"
    place.write_text("before")
    ledger = mirror / ".stacmirror" / "ledger.sqlite"
    content = ledger.read_bytes()
    ledger.write_bytes(content[: len(content) // 2])
    assert program.run(["manifest", str(mirror), "--format", "ndjson", "-o", str(place)]) == 9
    assert place.read_text() == "before"
    assert not (mirror / "SHA256SUMS.part").exists()


def test_a_reader_that_has_enough_ends_it_quietly(mirror: Path) -> None:
    """`stacmirror manifest … | head -1`: no word on stderr."""
    command = f"{sys.executable} -m stacmirror manifest {mirror} --format ndjson | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_verification_in_one_line(mirror: Path, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM while files are read: one line, the documented code, no child left."""
    command = [sys.executable, "-m", "stacmirror", "verify", str(mirror), "--deep", "--progress", "none"]
    with subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, *command[3:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


_ENDLESS = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background have it ignored
from stacmirror import verify
from stacmirror.cli import app
from stacmirror.sinks import digests

def slow(batches, processes):
    list(batches)
    print("busy", flush=True)
    time.sleep(60)
    yield from ()

verify.digest_all = slow
sys.argv = ["stacmirror", *sys.argv[1:]]
app.main()
"""


def _never(finding: Finding) -> None:
    raise AssertionError(finding)
