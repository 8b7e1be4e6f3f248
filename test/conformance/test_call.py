"""Call: many calls on one stream, each with its own outcome, timeout and cancellation."""

import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import as_json, call, group, value_of
from failing import failure_in, failure_of
from running import PATIENCE, until


def talk(pool, *messages):
    """Sends the messages, closes this side, and gives what came back by id."""
    responses = list(pool.stub.Call(iter(messages), timeout=PATIENCE))
    found = [outcome for response in responses for outcome in response.outcomes]
    assert len({outcome.id for outcome in found}) == len(found)
    return {outcome.id: outcome for outcome in found}


def test_every_call_has_one_outcome(pool):
    echoes = group('echo', *(call(n, n) for n in range(1, 1001)))
    chunk = group('echo', api.CallItem(id=1001, chunk=as_json([1, 2, 3])))
    found = talk(pool, api.CallRequest(groups=[echoes, chunk]), api.CallRequest(groups=[group('echo', call(1002, 'x'))]))
    assert len(found) == 1002
    assert all(value_of(found[n].payload) == n for n in range(1, 1001))
    assert value_of(found[1001].payload) == [1, 2, 3]
    assert value_of(found[1002].payload) == 'x'


def test_the_arguments_of_a_group_are_passed_to_each_of_its_calls(pool):
    bound = group('add', call(1, 1), call(2, 2), args=[as_json(10)])
    found = talk(pool, api.CallRequest(groups=[bound]))
    assert [value_of(found[n].payload) for n in (1, 2)] == [11, 12]


def test_each_call_fails_by_itself(pool):
    groups = [
        group('nothing', call(1)),
        group('boom', call(2)),
        group('echo', call(3), pool='mine'),
        group('spin', call(4), timeout_ms=50),
        group('echo', call(5, 'fine')),
    ]
    found = talk(pool, api.CallRequest(groups=groups))
    failures = {n: failure_in(found[n].failures[0].status) for n in range(1, 5)}
    assert [failures[n].row for n in range(1, 4)] == [
        ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False),
        ('UNKNOWN', 'FUNCTION_ERROR', True),
        ('NOT_FOUND', 'POOL_NOT_FOUND', False),
    ]
    assert failures[4].row[:2] == ('DEADLINE_EXCEEDED', 'TASK_TIMEOUT')
    assert value_of(found[5].payload) == 'fine'


def test_cancelled_calls_have_no_outcome_and_leave_no_task_behind(open_pool):
    lease = open_pool()
    calls = group('spin', *(call(n) for n in range(1, 101)), pool=lease.pool)
    last = group('echo', call(101, 'last'), pool=lease.pool)
    found = talk(lease, api.CallRequest(groups=[calls, last]), api.CallRequest(cancelled=range(1, 101)))
    assert list(found) == [101]
    until(
        lambda: (lease.state().queued, lease.state().running) == (0, 0),
        'nothing of the calls is left',
    )


@pytest.mark.parametrize('ids', [[1, 1], [2, 1], [0]])
def test_ids_must_increase(pool, ids):
    request = api.CallRequest(groups=[group('echo', *(call(n, n) for n in ids))])
    failure = failure_of(lambda: talk(pool, request))
    assert failure.row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)
