"""ClosePool, JoinPool and Terminate: the requests that end a pool."""

import grpc
import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import Caller, Lease, outcomes, value_of
from failing import code_of, failure_of
from running import PATIENCE, is_alive, until, until_begun

CLOSED = ('FAILED_PRECONDITION', 'POOL_CLOSED', False)


# close


def test_a_closed_pool_refuses_new_calls(open_pool, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    lease = open_pool()
    accepted = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'done'})
    until_begun(begun)
    lease.close()
    assert failure_of(lambda: lease.apply('echo', 1)).row == CLOSED
    assert failure_of(lambda: lease.map('echo', [[1]])).row == CLOSED
    assert failure_of(lambda: list(lease.imap('echo', [[1]]))).row == CLOSED
    assert lease.state().state == api.POOL_STATE_CLOSING
    go.touch()
    assert value_of(accepted.result().result) == 'done'


def test_close_completes_the_accepted_calls(open_pool, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    lease = open_pool()
    first = lease.apply_async('act', {'mark': str(begun), 'wait': str(go)})
    until_begun(begun)
    queued = [lease.apply_async('echo', n) for n in range(5)]
    mapped = lease.map_async('echo', [[n] for n in range(50)])
    streamed = lease.imap('echo', [[n] for n in range(50)])
    until(lambda: lease.state().queued >= 5 + 50 + 16, 'all of it has been accepted')
    lease.close()
    go.touch()
    first.result()
    assert [value_of(call.result().result) for call in queued] == list(range(5))
    assert [value_of(chunk) for chunk in mapped.result().chunks] == [[n] for n in range(50)]
    assert [value_of(outcome.payload) for outcome in outcomes(streamed)] == [[n] for n in range(50)]
    lease.join()


def test_an_idle_pool_that_is_closed_ends_with_its_processes_and_its_stream(open_pool):
    lease = open_pool(processes=2)
    lease.apply('pid')
    pids = lease.pids()
    lease.close()
    lease.join()
    assert not any(map(is_alive, pids))
    names = [event.WhichOneof('event') for event in lease.events]
    assert names[-1] == 'closed'
    assert set(names[:-1]) <= {'worker_exited'}
    assert failure_of(lambda: lease.apply('echo', 1)).row == CLOSED


# join


def test_join_before_close_is_an_error(open_pool):
    lease = open_pool()
    failure = failure_of(lease.join)
    assert failure.row == ('FAILED_PRECONDITION', 'POOL_NOT_CLOSED', False)
    assert lease.apply('add', 1, 2) == 3


def test_join_waits_for_the_last_call(open_pool, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    lease = open_pool()
    call = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'done'})
    [pid] = until_begun(begun)
    lease.close()
    joined = lease.join_async()
    with pytest.raises(grpc.FutureTimeoutError):
        joined.result(timeout=0.3)
    assert is_alive(pid)
    go.touch()
    joined.result()
    assert not is_alive(pid)
    assert value_of(call.result().result) == 'done'


def test_a_cancelled_join_does_not_change_the_pool(open_pool, tmp_path):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    lease = open_pool()
    call = lease.apply_async('act', {'mark': str(begun), 'wait': str(go), 'value': 'done'})
    until_begun(begun)
    lease.close()
    joining = api.JoinPoolRequest(pool=lease.pool)
    assert code_of(lambda: lease.stub.JoinPool(joining, timeout=0.2)) == 'DEADLINE_EXCEEDED'
    go.touch()
    assert value_of(call.result().result) == 'done'


# terminate


def test_terminate_aborts_running_and_queued_calls(open_pool, tmp_path):
    begun = tmp_path / 'begun'
    lease = open_pool()
    running = lease.apply_async('spin', str(begun))
    until_begun(begun)
    waiting = lease.apply_async('echo', 1)
    mapped = lease.map_async('echo', [[1], [2]])
    streamed = lease.imap('echo', [[1], [2]])
    until(lambda: lease.state().queued == 5, 'the others wait')
    pids = lease.pids()
    lease.terminate()
    # The answer comes when the processes are gone.
    assert not any(map(is_alive, pids))
    failure = failure_of(running.result)
    assert failure.row == ('ABORTED', 'POOL_TERMINATED', True)
    assert 'spin' in failure.message
    for call in (waiting.result, mapped.result):
        assert failure_of(call).row == ('ABORTED', 'POOL_TERMINATED', False)
    assert {outcome.failures[0].status.code for outcome in outcomes(streamed)} == {grpc.StatusCode.ABORTED.value[0]}


def test_a_terminated_pool_refuses_new_calls_and_its_stream_ends(open_pool):
    lease = open_pool(processes=2)
    lease.terminate()
    assert [event.WhichOneof('event') for event in lease.events][-1] == 'closed'
    assert failure_of(lambda: lease.apply('echo', 1)).row == CLOSED


def test_join_after_terminate_returns(open_pool, tmp_path):
    begun = tmp_path / 'begun'
    lease = open_pool()
    running = lease.apply_async('spin', str(begun))
    until_begun(begun)
    lease.close()
    joined = lease.join_async()
    lease.terminate()
    joined.result()
    assert code_of(running.result) == 'ABORTED'


def test_two_concurrent_terminates_both_return(open_pool, tmp_path):
    begun = tmp_path / 'begun'
    lease = open_pool(processes=2)
    running = lease.apply_async('spin', str(begun))
    [pid] = until_begun(begun)
    request = api.TerminateRequest(pool=lease.pool)
    both = [lease.stub.Terminate.future(request, timeout=PATIENCE) for _ in range(2)]
    for call in both:
        call.result()
    assert not is_alive(pid)
    assert code_of(running.result) == 'ABORTED'


@pytest.mark.parametrize('end', [Lease.close, Lease.terminate], ids=['closed', 'terminated'])
def test_a_pool_that_has_ended_can_be_joined_closed_and_terminated_again(open_pool, end):
    # As in Python: each of the three is done at once where there is nothing left to do.
    lease = open_pool()
    end(lease)
    assert list(lease.events)[-1].WhichOneof('event') == 'closed'
    lease.join()
    lease.close()
    lease.terminate()
    lease.join()


# The shared pool belongs to all.


@pytest.mark.parametrize('name', ['', 'default'])
def test_a_client_may_not_end_the_shared_pool(server, name):
    pool = Caller(server.channel, name)
    for end in (pool.terminate, pool.close):
        assert failure_of(end).row == ('PERMISSION_DENIED', 'PERMISSION_DENIED', False)
    assert pool.apply('add', 1, 2) == 3


def test_a_client_may_end_the_shared_pool_if_the_server_allows_it(serve, tmp_path):
    begun = tmp_path / 'begun'
    pool = Caller(serve('--processes', '2', '--allow-terminate').channel)
    running = pool.apply_async('spin', str(begun))
    until_begun(begun)
    pids = pool.pids()
    pool.terminate()
    assert failure_of(running.result).row == ('ABORTED', 'POOL_TERMINATED', True)
    assert not any(map(is_alive, pids))
    assert failure_of(lambda: pool.apply('echo', 1)).row == CLOSED


# No such pool.


@pytest.mark.parametrize(
    'name', ['nowhere', 'Default', 'toString', '__proto__', 'ü' * 1000], ids=lambda name: name[:10]
)
def test_every_request_to_an_unknown_pool_fails_with_not_found(server, name):
    pool = Caller(server.channel, name)
    calls = [
        lambda: pool.apply('echo', 1),
        lambda: pool.map('echo', [[1]]),
        lambda: list(pool.imap('echo', [[1]])),
        pool.close,
        pool.join,
        pool.terminate,
        pool.state,
    ]
    for call in calls:
        assert failure_of(call).row == ('NOT_FOUND', 'POOL_NOT_FOUND', False)
