"""Workers that die during a task: the task fails or is retried, and the worker is replaced."""

import os
import signal

import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import value_of
from failing import failure_of
from running import is_alive, until, until_begun

CRASHED = ('INTERNAL', 'WORKER_CRASHED', True)


def whole(lease, processes):
    """All workers are there, and none is the one that died."""
    idle = [worker for worker in lease.state().workers if worker.state == api.WORKER_STATE_IDLE]
    return len(idle) == processes


@pytest.mark.parametrize('code', [0, 3])
def test_a_function_that_exits_fails_with_its_exit_code(open_pool, code):
    lease = open_pool()
    pid = lease.apply('pid')
    failure = failure_of(lambda: lease.apply('crash', code))
    assert failure.row == CRASHED
    assert failure.metadata['exit_code'] == str(code)
    assert failure.metadata['pid'] == str(pid)
    assert 'signal' not in failure.metadata
    assert 'crash' in failure.message
    assert lease.apply('pid') != pid


def test_a_function_whose_process_is_killed_fails_with_the_signal(open_pool):
    failure = failure_of(lambda: open_pool().apply('killSelf'))
    assert failure.row == CRASHED
    assert failure.metadata['signal'] == 'SIGKILL'
    assert 'exit_code' not in failure.metadata


def test_a_worker_killed_from_outside_fails_only_its_task_and_is_replaced(open_pool, tmp_path):
    begun, here, go = tmp_path / 'begun', tmp_path / 'here', tmp_path / 'go'
    lease = open_pool(processes=2)
    victim = lease.apply_async('spin', str(begun))
    other = lease.apply_async('act', {'mark': str(here), 'wait': str(go), 'value': 'unharmed'})
    [pid] = until_begun(begun)
    [survivor] = until_begun(here)
    queued = [lease.apply_async('echo', n) for n in range(5)]
    until(lambda: lease.state().queued == 5, 'the others wait')
    os.kill(pid, signal.SIGKILL)
    failure = failure_of(victim.result)
    assert failure.row == CRASHED
    assert (failure.metadata['pid'], failure.metadata['signal']) == (str(pid), 'SIGKILL')
    go.touch()
    assert value_of(other.result().result) == 'unharmed'
    assert [value_of(call.result().result) for call in queued] == list(range(5))
    until(lambda: whole(lease, 2), 'the pool is whole again')
    assert survivor in lease.pids()
    assert pid not in lease.pids()
    assert not is_alive(pid)


def test_an_idle_worker_that_is_killed_is_replaced_and_no_call_fails(open_pool):
    lease = open_pool(processes=2)
    until(lambda: whole(lease, 2), 'the pool is ready')
    victim = min(lease.pids())
    os.kill(victim, signal.SIGKILL)
    assert lease.map('add', [[n] for n in range(50)], args=[1]) == [[n + 1] for n in range(50)]
    until(lambda: whole(lease, 2) and victim not in lease.pids(), 'the pool is whole again')
    assert lease.next_event('worker_exited').pid == victim


def test_a_pool_survives_many_crashes_in_a_row(open_pool):
    lease = open_pool(processes=2)
    calls = [lease.apply_async('crash', 1) for _ in range(8)]
    assert {failure_of(call.result).row for call in calls} == {CRASHED}
    until(lambda: whole(lease, 2), 'the pool is whole again')
    assert lease.apply('add', 1, 2) == 3


# Retries.


def test_without_retries_a_task_is_never_run_again(open_pool):
    failure = failure_of(lambda: open_pool().apply('crashBefore', 2))
    assert failure.row == CRASHED
    assert failure.metadata['attempt'] == '1'


def test_retries_run_a_task_again_until_its_worker_survives(open_pool):
    lease = open_pool()
    assert lease.apply('crashBefore', 3, retries=2) == 3
    assert lease.state().tasks.retried == 2


def test_a_task_fails_when_its_retries_are_used_up(open_pool):
    failure = failure_of(lambda: open_pool().apply('crashBefore', 99, retries=2))
    assert failure.row == CRASHED
    assert failure.metadata['attempt'] == '3'


def test_a_function_that_throws_is_not_run_again(open_pool):
    lease = open_pool()
    assert failure_of(lambda: lease.apply('boom', retries=5)).row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert lease.state().tasks.retried == 0
