"""Fixtures for tests that call a farpool server from plain Python stubs. run.sh makes the stubs and runs the tests."""

import signal
import sys

import grpc
import pytest

pytest.register_assert_rewrite('calling', 'failing', 'running')

from calling import Caller, Lease  # noqa: E402
from running import GRACE, Server  # noqa: E402

# A test that takes longer fails, and the servers are stopped.
TEST_SECONDS = 90


@pytest.fixture(autouse=True)
def no_test_hangs():
    def give_up(*_):
        raise TimeoutError(f'the test has taken {TEST_SECONDS} s')

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope='session', autouse=True)
def stopped_when_told():
    """Makes SIGTERM end the tests as Ctrl-C does, so that the servers are stopped."""

    def end(*_):
        sys.exit('the tests were stopped by SIGTERM')

    signal.signal(signal.SIGTERM, end)


@pytest.fixture(scope='session')
def server():
    """A server for all tests that do not change it: two processes, a short grace."""
    running = Server('--processes', '2', '--grace', str(int(GRACE * 1000)))
    yield running
    running.stop()


@pytest.fixture
def serve():
    """Starts servers for one test: serve('--processes', '1')."""
    started: list[Server] = []

    def start(*options: str, **named: str) -> Server:
        started.append(Server(*options, **named))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def pool(server) -> Caller:
    """The shared pool of the common server."""
    return Caller(server.channel)


@pytest.fixture
def open_pool(server):
    """Opens owned pools on the common server: open_pool(processes=2). Default: one process."""
    opened: list[Lease] = []

    def open_one(channel: grpc.Channel = server.channel, **options) -> Lease:
        opened.append(Lease(channel, **({'processes': 1} | options)))
        return opened[-1]

    yield open_one
    for lease in opened:
        lease.end()
