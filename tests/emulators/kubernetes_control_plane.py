"""A real Kubernetes control plane on the loopback: the etcd and kube-apiserver that ``KUBEBUILDER_ASSETS`` names.

Without controller manager, scheduler and kubelets nothing runs: it says what a real server accepts and refuses.
"""

import csv
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import urllib3
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

ASSETS_VARIABLE = "KUBEBUILDER_ASSETS"
PROGRAMS = ("etcd", "kube-apiserver")
PATIENCE = 90.0


def assets() -> Path | None:
    """The directory with both programs, if there is one."""
    given = os.environ.get(ASSETS_VARIABLE)
    folder = Path(given) if given else None
    return folder if folder and all(os.access(folder / program, os.X_OK) for program in PROGRAMS) else None


@contextmanager
def control_plane(folder: Path, place: Path) -> Iterator[Path]:
    """The kubeconfig (context ``real``) of a server that runs ``folder``'s programs, with its files in ``place``."""
    etcd_port, peer_port, port = (_free_port() for _ in range(3))
    token = secrets.token_urlsafe(24)
    with open(place / "tokens.csv", "w", newline="") as stream:
        csv.writer(stream).writerow([token, "tests", "tests", "system:masters"])
    _write_key(place / "service-accounts.pem")
    etcd = [
        *("--data-dir", str(place / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{etcd_port}"),
        *("--advertise-client-urls", f"http://127.0.0.1:{etcd_port}", "--unsafe-no-fsync"),
        *("--listen-peer-urls", f"http://127.0.0.1:{peer_port}", "--initial-cluster-state", "new"),
        *("--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}"),
        *("--initial-cluster", f"default=http://127.0.0.1:{peer_port}"),
    ]
    server = [
        *("--etcd-servers", f"http://127.0.0.1:{etcd_port}", "--bind-address", "127.0.0.1"),
        *("--advertise-address", "127.0.0.1", "--secure-port", str(port), "--cert-dir", str(place / "certificates")),
        *("--token-auth-file", str(place / "tokens.csv"), "--authorization-mode", "RBAC"),
        *("--service-account-issuer", f"https://127.0.0.1:{port}", "--service-cluster-ip-range", "10.0.0.0/24"),
        *("--service-account-key-file", str(place / "service-accounts.pem")),
        *("--service-account-signing-key-file", str(place / "service-accounts.pem")),
    ]
    log = place / "kube-apiserver.log"
    with (
        _running([str(folder / "etcd"), *etcd], place / "etcd.log"),
        _running([str(folder / "kube-apiserver"), *server], log) as process,
    ):
        _wait_until_ready(process, port, token, log)
        yield _kubeconfig(place / "kubeconfig", port, token)


def _write_key(path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def _kubeconfig(path: Path, port: int, token: str) -> Path:
    """The server signs its own certificate; it is on the loopback."""
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    value = {
        "apiVersion": "v1", "kind": "Config", "current-context": "real",
        "contexts": [{"name": "real", "context": {"cluster": "real", "user": "real"}}],
        "clusters": [{"name": "real", "cluster": cluster}], "users": [{"name": "real", "user": {"token": token}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(value))
    return path


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, token: str, log: Path) -> None:
    pool = urllib3.PoolManager(cert_reqs="CERT_NONE", retries=False)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            headers = {"Authorization": f"Bearer {token}"}
            if pool.request("GET", f"https://127.0.0.1:{port}/readyz", headers=headers, timeout=2.0).status == 200:
                return
        except (urllib3.exceptions.HTTPError, OSError):
            pass
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < deadline, log.read_text(errors="replace")[-3000:]
        time.sleep(0.2)


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
