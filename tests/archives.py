"""Zips of stores, and a server in another process that has them at an https address."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nbreplay.core.store.store import Store
from nbreplay.formats import zip_export

__all__ = ["certificate", "exported", "packed", "served"]


def packed(path: Path, files: Mapping[str, bytes | str]) -> Path:
    """Write a zip of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return path


def exported(folder: Path, path: Path) -> Path:
    """Write a store as a zip."""
    zip_export.export(Store(folder), path)
    return path


def certificate(folder: Path) -> Path:
    """Make a certificate for this machine, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, made = folder / "key.pem", folder / "certificate.pem"
    command = [
        openssl,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "both.pem").write_text(key.read_text() + made.read_text())
    return made


@contextmanager
def served(folder: Path, pem: Path | None) -> Iterator[str]:
    """Serve a folder's files from another process, over https where there is a certificate; yield the address."""
    command = [sys.executable, "-m", "tests.archives", str(folder), str(pem.with_name("both.pem")) if pem else ""]
    here = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http{'s' if pem else ''}://localhost:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        with open(self.folder / "asked", "a") as file:
            print(path, file=file)
        data = (self.folder / path[1:]).read_bytes() if (self.folder / path[1:]).is_file() else b""
        self.send_response(302 if path == "/away" else 200 if data else 404)
        if path == "/away":
            self.send_header("Location", query)
        self.send_header("Content-Length", str(len(data) + (path == "/short.zip")))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    _Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    if sys.argv[2]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    print(server.server_port, flush=True)
    server.serve_forever()
