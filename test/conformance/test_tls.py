"""TLS and client certificates, with the TLS of another library (BoringSSL)."""

import subprocess
from pathlib import Path

import grpc
import pytest

from calling import Caller
from failing import code_of


class Pair:
    """A certificate that is its own CA, and its key."""

    def __init__(self, folder: Path, name: str):
        self.cert, self.key = folder / f'{name}.pem', folder / f'{name}.key'
        curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', self.key]
        names = ['-subj', f'/CN={name}', '-addext', 'subjectAltName=IP:127.0.0.1']
        command = ['openssl', 'req', '-x509', *curve, *names, '-days', '1', '-out', self.cert]
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def own(tmp_path) -> Pair:
    return Pair(tmp_path, 'server')


@pytest.fixture
def client(tmp_path) -> Pair:
    return Pair(tmp_path, 'client')


def secured(address: str, ca: Pair, own: Pair | None = None) -> grpc.Channel:
    pair = (own.key.read_bytes(), own.cert.read_bytes()) if own else (None, None)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.cert.read_bytes(), *pair))


def test_a_stub_calls_over_tls(serve, own):
    server = serve('--processes', '1', '--tls-cert', str(own.cert), '--tls-key', str(own.key))
    with secured(server.address, own) as channel:
        assert Caller(channel).apply('add', 1, 2) == 3


def test_a_stub_is_known_by_its_certificate_or_has_no_connection(serve, own, client):
    files = ['--tls-cert', str(own.cert), '--tls-key', str(own.key), '--tls-client-ca', str(client.cert)]
    server = serve('--processes', '1', *files)
    with secured(server.address, own, client) as channel:
        assert Caller(channel).apply('add', 1, 2) == 3
    for wrong in [None, own]:
        with secured(server.address, own, wrong) as channel:
            assert code_of(lambda: Caller(channel).apply('add', 1, 2)) == 'UNAVAILABLE'
