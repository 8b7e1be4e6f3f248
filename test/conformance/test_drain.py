"""SIGTERM: calls in flight finish, new calls are refused, and the exit code is 0."""

import queue
import signal
import time

import grpc
import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import Caller, Lease, group, outcomes, value_of
from calling import call as item
from failing import code_of, failure_in, failure_of
from running import PATIENCE, is_alive, until, until_begun

SIGNALS = pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
DRAINING = ('UNAVAILABLE', 'SERVER_DRAINING', False)


@pytest.fixture
def busy(serve, tmp_path):
    """A server of one process that has a call in flight, and what lets that call end."""
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    running = serve('--processes', '1')
    call = Caller(running.channel).apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'finished'})
    [pid] = until_begun(begun)
    return running, call, go, pid


@SIGNALS
def test_a_call_in_flight_finishes_and_the_exit_code_is_0(busy, number):
    running, call, go, pid = busy
    running.signal(number)
    running.logged('waiting for calls in flight')
    assert is_alive(pid)
    go.touch()
    assert value_of(call.result().result) == 'finished'
    assert running.exit_code() == 0
    assert not is_alive(pid)


def test_connected_clients_get_a_goaway_and_new_connections_fail(busy):
    running, call, go, _ = busy
    pool = Caller(running.channel)
    running.signal(signal.SIGTERM)
    running.logged('waiting for calls in flight')
    calls = [
        lambda: pool.apply('echo', 1),
        lambda: pool.map('echo', [[1]]),
        lambda: list(pool.imap('echo', [[1]])),
        lambda: list(pool.stub.OpenPool(api.OpenPoolRequest(), timeout=PATIENCE)),
        lambda: Caller(running.connect()).apply('echo', 1),
    ]
    assert [code_of(new) for new in calls] == ['UNAVAILABLE'] * len(calls)
    go.touch()
    assert value_of(call.result().result) == 'finished'
    assert running.exit_code() == 0
    assert code_of(lambda: pool.apply('echo', 1)) == 'UNAVAILABLE'


def test_new_calls_on_an_open_stream_are_refused_with_a_retry_delay(busy):
    running, call, go, _ = busy
    groups = queue.SimpleQueue()
    pool = Caller(running.channel)
    responses = pool.stub.Call(iter(groups.get, None), timeout=2 * PATIENCE)
    groups.put(api.CallRequest(groups=[group('echo', item(1, 1))]))
    until(lambda: pool.state().queued == 1, 'the first call has been accepted')
    running.signal(signal.SIGTERM)
    running.logged('waiting for calls in flight')
    groups.put(api.CallRequest(groups=[group('echo', item(2, 2))]))
    groups.put(None)
    [outcome] = next(responses).outcomes
    failure = failure_in(outcome.failures[0].status)
    assert failure.row == DRAINING
    assert failure.retry_after and failure.retry_after > 0
    go.touch()
    [outcome] = next(responses).outcomes
    assert value_of(outcome.payload) == 1
    assert value_of(call.result().result) == 'finished'
    assert running.exit_code() == 0


def test_a_client_of_two_servers_loses_no_call(busy, serve):
    """Without a retry policy, and one that has the drained server first."""
    running, call, go, pid = busy
    other = serve('--processes', '1')
    with grpc.insecure_channel(f'ipv4:{running.address},{other.address}') as channel:
        pool = Caller(channel)
        assert pool.pids() == {pid}
        running.signal(signal.SIGTERM)
        running.logged('waiting for calls in flight')
        assert pool.map('echo', [[1], [2]]) == [[1], [2]]
        assert pool.pids() and pool.pids() != {pid}
    go.touch()
    assert value_of(call.result().result) == 'finished'


def test_queued_calls_finish_too(busy):
    running, call, go, _ = busy
    pool = Caller(running.channel)
    queued = pool.apply_async('echo', 'queued')
    mapped = pool.map_async('echo', [[1], [2]])
    streamed = pool.imap('echo', [[n] for n in range(100)])
    until(lambda: pool.state().queued >= 1 + 2 + 16, 'all of it has been accepted')
    running.signal(signal.SIGTERM)
    running.logged('waiting for calls in flight')
    go.touch()
    assert value_of(call.result().result) == 'finished'
    assert value_of(queued.result().result) == 'queued'
    assert [value_of(chunk) for chunk in mapped.result().chunks] == [[1], [2]]
    assert [value_of(outcome.payload) for outcome in outcomes(streamed)] == [[n] for n in range(100)]
    assert running.exit_code() == 0


def test_the_calls_of_an_owned_pool_finish_before_its_stream_ends(serve, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    running = serve('--processes', '1')
    lease = Lease(running.channel, processes=1)
    call = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'finished'})
    [pid] = until_begun(begun)
    running.signal(signal.SIGTERM)
    running.logged('waiting for calls in flight')
    go.touch()
    assert value_of(call.result().result) == 'finished'
    assert [event.WhichOneof('event') for event in lease.events][-1] == 'closed'
    assert running.exit_code() == 0
    assert not is_alive(pid)


def test_an_idle_server_ends_at_once_even_with_open_streams(serve):
    running = serve('--processes', '2')
    lease = Lease(running.channel, processes=1)
    pids = lease.pids() | Caller(running.channel).pids()
    began = time.monotonic()
    running.signal(signal.SIGTERM)
    assert running.exit_code() == 0
    assert time.monotonic() - began < 5
    assert not any(map(is_alive, pids))


def test_calls_that_do_not_end_in_time_fail_and_the_exit_code_is_0(serve, tmp_path):
    begun = tmp_path / 'begun'
    running = serve('--processes', '1', '--drain', '200')
    call = Caller(running.channel).apply_async('spin', str(begun))
    [pid] = until_begun(begun)
    running.signal(signal.SIGTERM)
    assert failure_of(call.result).row == ('ABORTED', 'POOL_TERMINATED', True)
    assert running.exit_code() == 0
    assert not is_alive(pid)


def test_a_second_signal_ends_the_server_without_waiting(busy):
    running, call, _, pid = busy
    running.signal(signal.SIGTERM)
    running.logged('waiting for calls in flight')
    running.signal(signal.SIGTERM)
    assert failure_of(call.result).row == ('ABORTED', 'POOL_TERMINATED', True)
    assert running.exit_code() == 0
    assert not is_alive(pid)
