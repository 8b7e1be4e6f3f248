"""Cancellation: a deadline passes, a call is cancelled, or a client dies. The pool goes on."""

import os
import signal
import subprocess
import sys
import time

import pytest

from calling import Caller, value_of
from failing import code_of
from running import GRACE, is_alive, lines, until, until_begun


@pytest.fixture
def files(tmp_path):
    """The files in which a function records that it has begun and how it ended."""
    return tmp_path / 'begun', tmp_path / 'ended'


# Deadlines.


def test_a_passed_deadline_aborts_the_function_and_keeps_its_process(open_pool, files):
    begun, ended = files
    lease = open_pool()
    pid = lease.apply('pid')
    assert code_of(lambda: lease.apply('untilAborted', *map(str, files), timeout=2)) == 'DEADLINE_EXCEEDED'
    assert until_begun(begun) == [pid]
    until(lambda: len(lines(ended)) == 1, 'the function has ended')
    # The client ends the call at its own deadline: the server may see that before its own clock says the same.
    assert lines(ended)[0].endswith(('TASK_TIMEOUT', 'CANCELLED'))
    assert lease.apply('pid') == pid


def test_a_function_that_ignores_its_signal_is_killed_after_the_grace(open_pool, files):
    begun, _ = files
    lease = open_pool()
    # On a busy machine the worker may need longer to start than the deadline allows.
    lease.apply('pid')
    assert code_of(lambda: lease.apply('spin', str(begun), timeout=2)) == 'DEADLINE_EXCEEDED'
    [pid] = until_begun(begun)
    until(lambda: not is_alive(pid), 'the process is gone')
    assert lease.apply('pid') != pid
    assert lease.next_event('worker_exited').pid == pid


def test_a_call_whose_deadline_passes_in_the_queue_never_runs(open_pool, files, tmp_path):
    begun, ran = files
    go = tmp_path / 'go'
    lease = open_pool()
    first = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'first'})
    until_begun(begun)
    assert code_of(lambda: lease.apply('act', {'mark': str(ran)}, timeout=0.2)) == 'DEADLINE_EXCEEDED'
    until(lambda: lease.state().queued == 0, 'the server has dropped it')
    go.touch()
    assert value_of(first.result().result) == 'first'
    assert lease.apply('echo', 'next') == 'next'
    assert lines(ran) == []
    assert (lease.state().tasks.timed_out, lease.state().tasks.cancelled) == (1, 0)


def test_a_map_whose_deadline_passes_is_dropped_with_all_its_chunks(open_pool, files, tmp_path):
    begun, ran = files
    lease = open_pool()
    chunks = [[{'mark': str(begun), 'wait': str(tmp_path / 'never')}], *[[{'mark': str(ran)}]] * 10]
    call = lease.stub.Map.future(lease.map_request('act', chunks), timeout=0.5)
    assert code_of(call.result) == 'DEADLINE_EXCEEDED'
    until(lambda: lease.state().tasks.timed_out == 11, 'the server has dropped it')
    assert lease.apply('echo', 'next') == 'next'
    assert lines(ran) == []


def test_a_deadline_in_sixty_days_does_not_pass_at_once(pool):
    assert pool.apply('later', 1, timeout=60 * 24 * 3600) == 1


def test_a_call_with_a_passed_deadline_fails(pool):
    assert code_of(lambda: pool.apply('echo', 1, timeout=-1)) == 'DEADLINE_EXCEEDED'
    assert pool.apply('echo', 1) == 1


# Cancelled calls.


def test_a_cancelled_function_is_aborted_and_keeps_its_process(open_pool, files):
    begun, ended = files
    lease = open_pool()
    call = lease.apply_async('untilAborted', *map(str, files))
    [pid] = until_begun(begun)
    assert call.cancel()
    until(lambda: len(lines(ended)) == 1, 'the function has ended')
    assert 'CANCELLED' in lines(ended)[0]
    assert lease.apply('pid') == pid


def test_a_cancelled_function_that_ignores_its_signal_is_killed_and_replaced(open_pool, files):
    begun, _ = files
    lease = open_pool()
    call = lease.apply_async('spin', str(begun))
    [pid] = until_begun(begun)
    call.cancel()
    until(lambda: not is_alive(pid), 'the process is gone')
    assert lease.apply('pid') != pid


def test_a_cancelled_call_in_the_queue_never_runs(open_pool, files, tmp_path):
    begun, ran = files
    go = tmp_path / 'go'
    lease = open_pool()
    first = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'first'})
    until_begun(begun)
    second = lease.apply_async('act', {'mark': str(ran)})
    until(lambda: lease.state().queued == 1, 'the second call waits')
    second.cancel()
    until(lambda: lease.state().queued == 0, 'the server has dropped it')
    go.touch()
    assert value_of(first.result().result) == 'first'
    assert lease.apply('echo', 'next') == 'next'
    assert lines(ran) == []


def test_a_cancelled_map_drops_the_chunks_that_have_not_run(open_pool, files, tmp_path):
    begun, ran = files
    lease = open_pool()
    mark = [{'mark': str(ran)}]
    call = lease.map_async('act', [mark, mark, [{'mark': str(begun), 'wait': str(tmp_path / 'never')}], *[mark] * 10])
    until_begun(begun)
    call.cancel()
    assert lease.apply('echo', 'next') == 'next'
    assert len(lines(ran)) == 2


def test_a_chunk_stops_between_two_items_when_its_call_is_cancelled(open_pool, files, tmp_path):
    begun, ran = files
    lease = open_pool()
    steps = [{'mark': str(begun), 'wait': str(tmp_path / 'never')}, *[{'mark': str(ran)}] * 10]
    call = lease.map_async('act', [steps])
    [pid] = until_begun(begun)
    call.cancel()
    assert lease.apply('pid') == pid
    assert lines(ran) == []


def test_successful_calls_are_not_counted_as_cancelled(open_pool, server):
    lease = open_pool()
    pid = lease.apply('pid')
    for _ in range(10):
        channel = server.connect()
        assert Caller(channel, lease.pool).apply('pid') == pid
        channel.close()
    # After the grace, a worker that was taken for one that hangs would be killed.
    time.sleep(2 * GRACE)
    assert lease.apply('pid') == pid
    assert lease.state().tasks.cancelled == 0


# Clients that are gone.

CLIENT = """
import sys
import grpc
from calling import Caller
Caller(grpc.insecure_channel(sys.argv[1]), sys.argv[2]).apply('untilAborted', *sys.argv[3:])
"""


def test_the_function_of_a_killed_client_is_aborted(open_pool, server, files):
    begun, ended = files
    lease = open_pool()
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, '-c', CLIENT, server.address, lease.pool, *map(str, files)], env=environment
    ) as client:
        try:
            until_begun(begun)
        finally:
            client.send_signal(signal.SIGKILL)
    until(lambda: len(lines(ended)) == 1, 'the function has been told')
    assert lease.apply('echo', 1) == 1


def test_the_function_of_a_closed_connection_is_aborted(open_pool, server, files):
    begun, ended = files
    lease = open_pool()
    channel = server.connect()
    call = Caller(channel, lease.pool).apply_async('untilAborted', *map(str, files))
    until_begun(begun)
    channel.close()
    assert code_of(call.result) == 'CANCELLED'
    until(lambda: len(lines(ended)) == 1, 'the function has been told')
    assert lease.apply('echo', 1) == 1
