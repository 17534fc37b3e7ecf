"""nginx as the origin: API pages, redirects, files and a bucket, on free ports of loopback.

Run by `bench` around a session. One worker, sendfile, a cache of open files; its configuration, certificate and
documents stand in the session's temporary folder. Four ways lead to the same files:

    plain   http; /download/ answers 302 to the file port, which gives no MD5
    md5     the same, to a port that sends Content-MD5
    tls     both legs over https (self-signed ECDSA; clients are given the certificate)
    s3      item links are s3://bkt/...; path-style GET, ETags are MD5s as S3's are; signatures are not verified
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import SEED, Dataset
from benchmarks.documents import write_documents
from stacmirror.simulator.catalog import LABELS_ID, SOURCE_ID
from stacmirror.simulator.world import World

WAYS = ("plain", "md5", "tls", "s3")
BUCKET = "bkt"
_API = "mlhub/v1"
_OPEN_FILES = 65_536
"""Above the number of files: with fewer, the worker runs out under load and answers 500."""
_START_S = 10.0


class OriginFailed(RuntimeError):
    """nginx is not there, or did not start."""


@dataclass(frozen=True)
class Way:
    """One way to the files, as clients need it. `certificate` is "" without TLS."""

    name: str
    api_url: str
    files_url: str
    certificate: str = ""

    @property
    def download_url(self) -> str:
        """The base of the redirects; a file's path follows."""
        return f"{self.api_url}/download"


@dataclass(frozen=True)
class Origin:
    """A running nginx."""

    ways: dict[str, Way]
    version: str
    worker: int

    def cpu_s(self) -> float:
        """Return the CPU seconds that the worker has used so far."""
        fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def find_nginx() -> str | None:
    """Return nginx's path; Debian keeps it in a folder that is not on every PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


@contextmanager
def origin(folder: Path, dataset: Dataset, names: tuple[str, ...]) -> Iterator[Origin]:
    """Serve `dataset` by the ways named; the worker's caches are warm. Raises: OriginFailed."""
    program = find_nginx()
    if program is None:
        raise OriginFailed("nginx is not installed, and could not be")
    api, plain, md5, tls_api, tls_files = _free_ports(5)
    ports = {"plain": (api, plain), "md5": (api, md5), "tls": (tls_api, tls_files), "s3": (api, plain)}
    certificate = _certificate(folder) if "tls" in names else ""
    ways = {}
    for name in names:
        scheme, trusted = ("https", certificate) if name == "tls" else ("http", "")
        api_port, files_port = ports[name]
        host = f"{scheme}://127.0.0.1"
        files_url = f"{host}:{files_port}" if name == "s3" else f"{host}:{files_port}/files"
        ways[name] = Way(name, f"{host}:{api_port}/{name}/{_API}", files_url, trusted)
        world = World(SEED, dataset.items)
        s3_base = f"s3://{BUCKET}" if name == "s3" else ""
        write_documents(folder / "api" / name, world, ways[name].api_url, s3_base)
    settings = folder / "nginx.conf"
    settings.write_text(_settings(folder, dataset, ways, api, plain, md5, (tls_api, tls_files)))
    errors = folder / "nginx.log"
    command = [program, "-p", str(folder), "-c", str(settings), "-e", str(errors), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        _wait(process, api, errors)
        found = Origin(ways, _version(program), _worker_of(process.pid))
        _warm(dataset, plain)
        yield found
    finally:
        process.terminate()
        process.wait()


def _settings(
    folder: Path, dataset: Dataset, ways: dict[str, Way], api: int, plain: int, md5: int, tls: tuple[int, int]
) -> str:
    """Return nginx.conf. Worker on the last core, so that a client that is not pinned has the first ones."""
    cores = os.cpu_count() or 1
    pinned = f"worker_cpu_affinity 1{'0' * (cores - 1)};" if cores > 1 else ""
    temporary = "\n".join(
        f"  {kind}_temp_path {folder}/tmp-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    by_path = "\n".join(f'    "{file.path}" "{file.md5_base64}";' for file in dataset.files)
    by_key = "\n".join(f'    "{file.path}" "{file.md5.hex()}";' for file in dataset.files)
    plain_ways = [way for way in ways.values() if not way.certificate]
    servers = [
        _server(f"{api}", "".join(_api_locations(folder, way) for way in plain_ways)),
        _server(f"{plain}", _files(dataset) + _bucket(dataset)),
        _server(f"{md5}", _files(dataset, "      add_header Content-MD5 $md5_base64;\n")),
    ]
    if "tls" in ways:
        secure = f"    ssl_certificate {folder}/tls.crt;\n    ssl_certificate_key {folder}/tls.key;\n"
        servers.append(_server(f"{tls[0]} ssl", secure + _api_locations(folder, ways["tls"])))
        servers.append(_server(f"{tls[1]} ssl", secure + _files(dataset)))
    return f"""\
{"user root;" if os.geteuid() == 0 else ""}
worker_processes 1;
{pinned}
worker_rlimit_nofile {_OPEN_FILES};
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
{temporary}
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  gzip_static on;
  gzip_vary on;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  open_file_cache max=60000 inactive=1d;
  open_file_cache_valid 1d;
  map_hash_max_size 262144;
  map_hash_bucket_size 256;
  map $arg_token $page {{ default 0; "~^next(:|%3A)page-(?<number>[0-9]+)$" $number; }}
  map $file_path $md5_base64 {{
{by_path}
  }}
  map $file_path $md5_hex {{
{by_key}
  }}
{"".join(servers)}}}
"""


def _server(listen: str, body: str) -> str:
    number, _, rest = listen.partition(" ")
    return f"  server {{\n    listen 127.0.0.1:{number} {rest} backlog=4096;\n{body}  }}\n"


def _api_locations(folder: Path, way: Way) -> str:
    base = f"/{way.name}/{_API}"
    root = f"{folder}/api/{way.name}"
    json_type = "types { } default_type application/json;"
    return f"""\
    location ~ ^{base}/download/([^/]+)/([A-Za-z0-9]+)$ {{ return 302 {way.files_url}/$1/$2; }}
    location ~ ^{base}/collections/{SOURCE_ID}/items/([^/]+)$ {{ {json_type} alias {root}/items/$1; }}
    location = {base}/collections/{LABELS_ID}/items {{ rewrite ^ /pages/{way.name}/$page last; }}
    location ~ ^/pages/{way.name}/([0-9]+)$ {{ internal; {json_type} alias {root}/pages/$1; }}
    location ~ ^{base}/collections/([^/]+)$ {{ {json_type} alias {root}/collections/$1; }}
    location = {base}/collections {{ {json_type} alias {root}/collections.json; }}
"""


def _files(dataset: Dataset, header: str = "") -> str:
    return f"""\
    location ~ ^/files/(?<file_path>.+)$ {{
      gzip_static off;
{header}      alias {dataset.root}/$file_path;
    }}
"""


def _bucket(dataset: Dataset) -> str:
    return f"""\
    location ~ ^/{BUCKET}/(?<file_path>.+)$ {{
      gzip_static off;
      etag off;
      add_header ETag '"$md5_hex"';
      alias {dataset.root}/$file_path;
    }}
"""


def _certificate(folder: Path) -> str:
    """Make a self-signed certificate for 127.0.0.1 and return its path. Raises: OriginFailed without openssl."""
    program = shutil.which("openssl")
    if program is None:
        raise OriginFailed("openssl is not installed, so there is no certificate for the TLS way (--ways without tls)")
    subprocess.run(
        [program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key"),
         "-out", str(folder / "tls.crt")],
        check=True, capture_output=True,
    )  # fmt: skip
    return str(folder / "tls.crt")


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait(process: subprocess.Popen[bytes], port: int, errors: Path) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    said = errors.read_text()[-500:] if errors.exists() else "it said nothing"
    raise OriginFailed(f"nginx did not start: {said}")


def _worker_of(master: int) -> int:
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(children[0])


def _version(program: str) -> str:
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition("/")[2]


def _warm(dataset: Dataset, port: int) -> None:
    """Ask for every file once, so that no client pays for opening it. Raises: OriginFailed."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for file in dataset.files:
        connection.request("GET", f"/files/{file.path}")
        answer = connection.getresponse()
        if answer.status != 200 or len(answer.read()) != file.size_bytes:
            raise OriginFailed(f"{file.path}: {answer.status} {answer.reason}")
    connection.close()
