"""OpenPool: an owned pool, which lives exactly as long as the stream that opened it."""

import os
import signal
import subprocess
import sys

import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import Caller, Lease, as_cbor, as_json, open_request
from failing import code_of, failure_of
from running import PATIENCE, is_alive, until, until_begun


def test_the_first_event_names_the_pool_and_its_size(open_pool):
    lease = open_pool(processes=3)
    assert lease.opened.processes == 3
    state = lease.state()
    assert (state.pool, state.shared, state.processes) == (lease.pool, False, 3)
    assert state.state == api.POOL_STATE_OPEN


def test_an_owned_pool_has_its_own_processes(open_pool, pool):
    first, second = open_pool(processes=2), open_pool(processes=2)
    assert first.pool != second.pool
    for lease in (first, second):
        assert lease.apply('pid') in lease.pids()
    pids = [first.pids(), second.pids(), pool.pids()]
    assert [len(each) for each in pids] == [2, 2, 2]
    assert len(set.union(*pids)) == 6


def test_the_name_of_a_pool_is_hard_to_guess(open_pool):
    names = [open_pool().pool for _ in range(3)]
    assert len(set(names)) == 3
    assert all(len(name) >= 32 for name in names)


def test_the_server_chooses_the_number_of_processes_by_default(server):
    lease = Lease(server.channel)
    try:
        assert lease.opened.processes >= 1
        assert lease.state().processes == lease.opened.processes
        assert lease.apply('add', 1, 2) == 3
    finally:
        lease.end()


def test_another_connection_may_use_a_pool_if_it_knows_the_name(open_pool, server):
    assert Caller(server.connect(), open_pool().pool).apply('add', 1, 2) == 3


def test_maxtasksperchild_replaces_a_worker_after_that_many_tasks(open_pool):
    lease = open_pool(maxtasksperchild=2)
    pids = [lease.apply('pid') for _ in range(5)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4] != pids[0]
    assert [lease.next_event('worker_exited').pid for _ in range(2)] == [pids[0], pids[2]]


def test_a_replaced_worker_ends_by_itself_and_is_not_killed(open_pool):
    lease = open_pool(maxtasksperchild=1)
    for _ in range(20):
        lease.apply('pid')
    exits = [lease.next_event('worker_exited') for _ in range(19)]
    assert [(exited.signal, exited.HasField('exit_code'), exited.exit_code) for exited in exits] == [('', True, 0)] * 19


def test_a_chunk_counts_as_one_task(open_pool):
    pids = open_pool(maxtasksperchild=1).map('pid', [[0] * 4, [0] * 4, [0] * 4])
    assert [len(set(chunk)) for chunk in pids] == [1, 1, 1]
    assert len({chunk[0] for chunk in pids}) == 3


@pytest.mark.parametrize('encode', [as_json, as_cbor], ids=['json', 'cbor'])
def test_every_worker_calls_the_initializer_once_with_the_initargs(open_pool, encode):
    lease = open_pool(processes=2, initializer='initialize', initargs=[1, {'two': [3]}], encode=encode)
    seen = {}
    until(lambda: _ask(lease, seen) == 2, 'both workers have answered')
    for pid, found in seen.items():
        assert found == {'args': [1, {'two': [3]}], 'pid': pid, 'times': 1}


def _ask(lease, seen):
    found = lease.apply('initializedWith')
    seen[found['pid']] = found
    return len(seen)


def test_a_replaced_worker_is_initialized_too(open_pool):
    lease = open_pool(maxtasksperchild=1, initializer='initialize', initargs=['again'])
    found = [lease.apply('initializedWith') for _ in range(3)]
    assert len({each['pid'] for each in found}) == 3
    assert {tuple(each['args']) for each in found} == {('again',)}


def test_the_initializer_of_an_owned_pool_does_not_run_in_the_shared_pool(open_pool, pool):
    assert open_pool(initializer='initialize', initargs=[1]).apply('initializedWith')['args'] == [1]
    assert pool.map('initializedWith', [[0]] * 20) == [[None]] * 20


def test_a_failing_initializer_ends_the_pool_with_its_reason(open_pool):
    lease = open_pool(processes=2, initializer='failToInitialize')
    for call in (lambda: list(lease.events), lambda: lease.apply('pid')):
        failure = failure_of(call)
        assert failure.row == ('FAILED_PRECONDITION', 'INITIALIZER_FAILED', False)
        assert 'no licence' in failure.message
        assert (failure.remote.type, failure.remote.message) == ('RangeError', 'no licence')


def test_calls_that_wait_for_a_failing_initializer_fail_with_its_reason(open_pool):
    lease = open_pool(initializer='failToInitialize')
    waiting = [lease.apply_async('pid') for _ in range(3)]
    assert {failure_of(call.result).row for call in waiting} == {('FAILED_PRECONDITION', 'INITIALIZER_FAILED', False)}


def test_a_dead_worker_is_reported_and_replaced(open_pool):
    lease = open_pool()
    pid = lease.apply('pid')
    failure_of(lambda: lease.apply('killSelf'))
    exited = lease.next_event('worker_exited')
    assert (exited.pid, exited.signal, exited.HasField('exit_code')) == (pid, 'SIGKILL', False)
    assert lease.apply('pid') != pid


def test_the_end_of_the_stream_ends_the_pool_and_its_processes(open_pool):
    lease = open_pool(processes=3)
    assert lease.apply('add', 1, 2) == 3
    pids = lease.pids()
    lease.end()
    until(lambda: not any(map(is_alive, pids)), 'the workers are gone')
    failure = failure_of(lambda: lease.apply('add', 1, 2))
    assert failure.row == ('FAILED_PRECONDITION', 'POOL_CLOSED', False)


def test_calls_in_flight_fail_when_the_stream_ends(open_pool, tmp_path):
    begun = tmp_path / 'begun'
    lease = open_pool()
    running = lease.apply_async('spin', str(begun))
    [pid] = until_begun(begun)
    waiting = lease.apply_async('echo', 1)
    until(lambda: lease.state().queued == 1, 'the second call waits')
    lease.end()
    assert failure_of(running.result).row == ('ABORTED', 'POOL_TERMINATED', True)
    assert failure_of(waiting.result).row == ('ABORTED', 'POOL_TERMINATED', False)
    until(lambda: not is_alive(pid), 'the worker is gone')


def test_a_pool_with_starting_workers_ends_with_its_stream(open_pool):
    lease = open_pool(processes=2)
    pids = lease.pids()
    lease.end()
    until(lambda: not any(map(is_alive, pids)), 'the workers are gone')
    assert code_of(lambda: lease.apply('pid')) == 'FAILED_PRECONDITION'


def test_the_end_of_a_pool_does_not_affect_the_others(open_pool, pool):
    first, second = open_pool(), open_pool()
    pids = first.pids()
    pid = second.apply('pid')
    first.end()
    until(lambda: not any(map(is_alive, pids)), 'the workers of the first are gone')
    assert second.apply('pid') == pid
    assert pool.apply('add', 1, 2) == 3


CLIENT = """
import sys
import grpc
from calling import Lease
lease = Lease(grpc.insecure_channel(sys.argv[1]), processes=2)
call = lease.apply_async('spin', sys.argv[2])
print(lease.pool, *lease.pids(), flush=True)
next(lease.events)
"""


def test_the_pool_of_a_killed_client_ends(server, tmp_path):
    begun = tmp_path / 'begun'
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, '-c', CLIENT, server.address, str(begun)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as client:
        try:
            name, *pids = client.stdout.readline().split()
            until_begun(begun)
            assert all(is_alive(int(pid)) for pid in pids)
        finally:
            client.send_signal(signal.SIGKILL)
    assert len(pids) == 2
    until(lambda: not any(is_alive(int(pid)) for pid in pids), 'the workers of the dead client are gone')
    until(
        lambda: code_of(lambda: Caller(server.channel, name).apply('pid')) == 'FAILED_PRECONDITION', 'its pool is gone'
    )


# Options that make no sense: a clear error, and nothing is started.

WRONG = [
    ({'processes': 0}, 'processes is 0'),
    ({'processes': -1}, 'processes is -1'),
    ({'processes': 2**31 - 1}, 'processes is 2147483647'),
    ({'maxtasksperchild': 0}, 'maxtasksperchild is 0'),
    ({'maxtasksperchild': -1}, 'maxtasksperchild is -1'),
    ({'initargs': [1]}, 'initializer'),
]


@pytest.mark.parametrize(('options', 'said'), WRONG, ids=[said for _, said in WRONG])
def test_invalid_options_are_refused(pool, options, said):
    failure = failure_of(lambda: list(pool.stub.OpenPool(open_request(**options), timeout=PATIENCE)))
    assert failure.row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)
    assert said in failure.message


@pytest.mark.parametrize('name', ['nowhere', 'toString', '__proto__', 'constructor'])
def test_an_initializer_must_be_a_registered_function(pool, name):
    failure = failure_of(lambda: list(pool.stub.OpenPool(open_request(initializer=name), timeout=PATIENCE)))
    assert failure.row == ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False)


def test_initargs_must_be_decodable(pool):
    request = open_request(processes=1, initializer='initialize')
    request.initargs.add(json='{')
    failure = failure_of(lambda: list(pool.stub.OpenPool(request, timeout=PATIENCE)))
    assert failure.row == ('INVALID_ARGUMENT', 'PAYLOAD_DECODE_FAILED', False)
