"""The table of errors: the code, the reason and `started` of each, and the details of a function's own error."""

import json

import pytest

from calling import Caller, as_cbor, outcomes, value_of
from failing import code_of, failure_in, failure_of
from running import until, until_begun


def test_an_unknown_function_is_not_found_with_the_nearest_names(pool):
    failure = failure_of(lambda: pool.apply('ehco', 1))
    assert failure.row == ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False)
    assert 'echo' in failure.message
    assert 'echo' in failure.metadata['nearest'].split(',')
    assert failure.metadata['function'] == 'ehco'


def test_an_unknown_pool_is_not_found(server):
    failure = failure_of(lambda: Caller(server.channel, 'nowhere').apply('echo', 1))
    assert failure.row == ('NOT_FOUND', 'POOL_NOT_FOUND', False)
    assert 'nowhere' in failure.message


def test_a_bad_argument_is_a_bad_request(pool):
    assert failure_of(lambda: pool.apply('echo', 1, retries=-1)).row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)


def test_an_undecodable_payload_never_starts(pool):
    request = pool.request('echo')
    request.args.add(json='{')
    failure = failure_of(lambda: pool.stub.Apply(request))
    assert failure.row == ('INVALID_ARGUMENT', 'PAYLOAD_DECODE_FAILED', False)
    assert failure.remote is None


def test_a_thrown_error_is_a_function_error(pool):
    failure = failure_of(lambda: pool.apply('boom'))
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert failure.message == 'outer'


def test_a_result_that_cannot_be_encoded_fails(pool):
    assert failure_of(lambda: pool.apply('giveFunction')).row == ('INTERNAL', 'RESULT_ENCODE_FAILED', True)


def test_a_dead_worker_is_internal_because_clients_retry_unavailable(open_pool):
    failure = failure_of(lambda: open_pool().apply('crash', 3))
    assert failure.row == ('INTERNAL', 'WORKER_CRASHED', True)
    assert failure.retry_after is None


def test_a_pool_whose_workers_cannot_start_is_unavailable_with_a_retry_delay(open_pool):
    # The initializer ends the process: there never is a worker.
    lease = open_pool(initializer='crash', initargs=[3])
    failure = failure_of(lambda: lease.apply('echo', 1))
    assert failure.row == ('UNAVAILABLE', 'NO_WORKERS', False)
    assert failure.retry_after and failure.retry_after > 0


def test_a_message_above_the_limit_is_too_large(serve):
    pool = Caller(serve('--processes', '1', '--max-message-bytes', '10000').channel)
    failure = failure_of(lambda: pool.apply('echo', 'x' * 20_000))
    assert failure.row == ('RESOURCE_EXHAUSTED', 'PAYLOAD_TOO_LARGE', False)


def test_a_result_above_the_limit_is_too_large(serve):
    pool = Caller(serve('--processes', '1', '--max-message-bytes', '10000').channel)
    too_large = ('RESOURCE_EXHAUSTED', 'RESULT_TOO_LARGE', True)
    assert failure_of(lambda: pool.apply('textOf', 20_000)).row == too_large
    assert failure_of(lambda: pool.map('textOf', [[6_000], [6_000]])).row == too_large
    found = list(outcomes(pool.imap('textOf', [[1], [20_000], [1]])))
    assert [len(outcome.failures) for outcome in found] == [0, 1, 0]
    assert failure_in(found[1].failures[0].status).row == too_large
    assert len(pool.apply('textOf', 9_000)) == 9_000


def test_of_a_chunk_only_the_items_fail_whose_results_do_not_fit(serve):
    pool = Caller(serve('--processes', '1', '--max-message-bytes', '10000').channel)
    assert [len(text) for text in pool.map('textOf', [[3_000] * 3])[0]] == [3_000] * 3
    [found] = outcomes(pool.imap('textOf', [[1, 20_000, 2, 3_000, 3_000, 3_000]]))
    assert [len(text) for text in value_of(found.payload)] == [1, 2, 3_000, 3_000, 3_000]
    assert [failed.item for failed in found.failures] == [1]
    assert failure_in(found.failures[0].status).row == ('RESOURCE_EXHAUSTED', 'RESULT_TOO_LARGE', True)


def test_a_chunk_stops_when_its_results_are_large_if_the_client_allows_it(serve):
    pool = Caller(serve('--processes', '1', '--max-message-bytes', '10000').channel)
    [found] = outcomes(pool.imap('textOf', [[3_000] * 9], allow_partial=True))
    assert [len(text) for text in value_of(found.payload)] == [3_000] * 2
    assert [failed.item for failed in found.failures] == [2]
    assert failure_in(found.failures[0].status).row == ('RESOURCE_EXHAUSTED', 'CHUNK_FULL', False)


def test_a_call_fails_when_its_deadline_passes(pool, tmp_path):
    never = str(tmp_path / 'never')
    assert code_of(lambda: pool.apply('act', {'wait': never}, timeout=0.3)) == 'DEADLINE_EXCEEDED'


def test_the_server_reports_a_task_timeout_if_the_client_still_waits(open_pool, tmp_path):
    # The deadline goes out as the header that carries it; the stub itself waits longer, so the server answers first.
    begun = tmp_path / 'begun'
    lease = open_pool()
    request = lease.request('untilAborted', str(begun), str(tmp_path / 'ended'))
    call = lease.stub.Apply.future(request, metadata=[('grpc-timeout', '500m')])
    failure = failure_of(call.result)
    assert failure.row == ('DEADLINE_EXCEEDED', 'TASK_TIMEOUT', True)


def test_a_call_to_a_closed_pool_fails(open_pool):
    lease = open_pool()
    lease.close()
    assert failure_of(lambda: lease.apply('echo', 1)).row == ('FAILED_PRECONDITION', 'POOL_CLOSED', False)


def test_a_call_to_a_pool_with_a_failed_initializer_fails(open_pool):
    lease = open_pool(initializer='failToInitialize')
    failure = failure_of(lambda: lease.apply('echo', 1))
    assert failure.row == ('FAILED_PRECONDITION', 'INITIALIZER_FAILED', False)


@pytest.mark.parametrize('started', [True, False])
def test_a_call_in_flight_fails_when_its_pool_is_terminated(open_pool, tmp_path, started):
    begun = tmp_path / 'begun'
    lease = open_pool()
    running = lease.apply_async('spin', str(begun))
    until_begun(begun)
    waiting = lease.apply_async('echo', 1)
    until(lambda: lease.state().queued == 1, 'the second call waits')
    lease.terminate()
    assert failure_of((running if started else waiting).result).row == ('ABORTED', 'POOL_TERMINATED', started)


def test_ending_the_shared_pool_is_denied(pool):
    failure = failure_of(pool.terminate)
    assert failure.row == ('PERMISSION_DENIED', 'PERMISSION_DENIED', False)
    assert '--allow-terminate' in failure.message


def test_an_unknown_method_is_unimplemented(server):
    call = server.channel.unary_unary('/farpool.v1.PoolService/Nothing')
    assert code_of(lambda: call(b'', timeout=10)) == 'UNIMPLEMENTED'


# RemoteError: what the function threw.


def test_an_error_arrives_with_its_type_its_message_its_stack_and_its_causes(pool):
    failure = failure_of(lambda: pool.apply('boom'))
    error = failure.remote
    assert (error.type, error.message) == ('TypeError', 'outer')
    assert 'at boom' in error.stack
    assert 'functions.mjs' in error.stack
    assert (error.cause.type, error.cause.message) == ('RangeError', 'middle')
    assert (error.cause.cause.type, error.cause.cause.message) == ('Error', 'inner')
    assert not error.cause.cause.HasField('cause')


def test_an_error_in_a_map_has_the_same_details(pool):
    whole = failure_of(lambda: pool.map('boom', [[1]])).remote
    [settled] = pool.settle('boom', [[1]]).failures
    [outcome] = outcomes(pool.imap('boom', [[1]]))
    for error in (whole, failure_in(settled.status).remote, failure_in(outcome.failures[0].status).remote):
        assert (error.type, error.message, error.cause.message, error.cause.cause.message) == (
            'TypeError',
            'outer',
            'middle',
            'inner',
        )
        assert 'at boom' in error.stack


def test_an_error_arrives_with_its_class_its_code_and_its_properties(pool):
    error = failure_of(lambda: pool.apply('refuse')).remote
    assert (error.type, error.message, error.code) == ('HttpError', 'no backend', 'ECONNREFUSED')
    assert json.loads(error.properties.json) == {'status': 503}
    assert not failure_of(lambda: pool.apply('boom')).remote.HasField('properties')


def test_stacks_are_not_sent_with_no_stacks(serve):
    error = failure_of(lambda: Caller(serve('--processes', '1', '--no-stacks').channel).apply('boom')).remote
    assert (error.type, error.message, error.cause.message) == ('TypeError', 'outer', 'middle')
    assert error.stack == error.cause.stack == error.cause.cause.stack == ''
    assert error.stack_withheld


@pytest.mark.parametrize(
    ('function', 'args', 'kind', 'message'),
    [
        ('throwString', ['a text'], 'string', 'a text'),
        ('throwString', [7], 'number', '7'),
        ('throwNull', [], 'null', 'null'),
    ],
)
def test_values_that_are_not_errors_can_be_thrown(pool, function, args, kind, message):
    failure = failure_of(lambda: pool.apply(function, *args))
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert (failure.remote.type, failure.remote.message) == (kind, message)
    assert failure.message == message


@pytest.mark.parametrize('code', [5, 9, 16])
def test_a_function_may_choose_its_status_code(pool, code):
    failure = failure_of(lambda: pool.apply('throwCode', code))
    names = {5: 'NOT_FOUND', 9: 'FAILED_PRECONDITION', 16: 'UNAUTHENTICATED'}
    assert failure.row == (names[code], 'FUNCTION_ERROR', True)


@pytest.mark.parametrize('code', [0, 14, 17, -1, 2.5, 'ENOENT'])
def test_an_unknown_or_retryable_code_of_a_function_is_ignored(pool, code):
    assert failure_of(lambda: pool.apply('throwCode', code)).row == ('UNKNOWN', 'FUNCTION_ERROR', True)


def test_a_message_with_a_lone_surrogate_arrives_well_formed(pool):
    failure = failure_of(lambda: pool.apply('throwLoneSurrogate'))
    assert failure.message == 'before \ufffd after'
    assert failure.remote.message == 'before \ufffd after'
    assert pool.apply('add', 1, 2) == 3


def test_a_cycle_of_causes_is_cut(pool):
    error = failure_of(lambda: pool.apply('throwItsOwnCause')).remote
    causes = 0
    while error.HasField('cause'):
        error, causes = error.cause, causes + 1
        assert error.message == 'round and round'
    assert causes < 100


def test_a_call_in_cbor_fails_with_the_same_details(pool):
    failure = failure_of(lambda: pool.apply('unlucky', 13, encode=as_cbor))
    assert (failure.remote.type, failure.message) == ('RangeError', '13 is unlucky')
