"""Map: the caller cuts many items into chunks and gets all results at once, in the order of the items."""

import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import as_cbor, as_raw, value_of
from failing import failure_in, failure_of
from running import lines


def test_results_are_grouped_by_chunk(pool):
    assert pool.map('later', [[1, 2, 3], [4], [5, 6]]) == [[1, 2, 3], [4], [5, 6]]


def test_results_have_the_order_of_the_chunks(open_pool, tmp_path):
    second_has_run = str(tmp_path / 'second')
    chunks = [[{'wait': second_has_run, 'value': 'first'}], [{'mark': second_has_run, 'value': 'second'}]]
    assert open_pool(processes=2).map('act', chunks) == [['first'], ['second']]


def test_chunks_run_concurrently_in_different_processes(open_pool, tmp_path):
    # Each waits until the other has begun: one process alone would never end.
    here, there = tmp_path / 'here', tmp_path / 'there'
    chunks = [[{'mark': str(here), 'wait': str(there)}], [{'mark': str(there), 'wait': str(here)}]]
    assert open_pool(processes=2).map('act', chunks) == [[None], [None]]
    assert lines(here) != lines(there)


def test_the_items_of_a_chunk_run_in_one_process(pool):
    [pids] = pool.map('pid', [[0] * 20])
    assert len(pids) == 20
    assert len(set(pids)) == 1


def test_spread_passes_each_item_as_arguments(pool):
    assert pool.map('power', [[[2, 3], [3, 2]], [[10, 1]]], spread=True) == [[8, 9], [10]]


def test_without_spread_an_array_is_one_argument(pool):
    assert pool.map('collect', [[[2, 3]]]) == [[[[2, 3]]]]


def test_bound_arguments_precede_the_item(pool):
    assert pool.map('power', [[1, 2], [3]], args=[2]) == [[2, 4], [8]]
    assert pool.map('collect', [[['c', 'd']]], args=['a', 'b'], spread=True) == [[['a', 'b', 'c', 'd']]]


def test_kwargs_go_to_every_item(pool):
    assert pool.map('greet', [['Ada'], ['Bob']], kwargs={'mark': '?'}) == [['Hello, Ada?'], ['Hello, Bob?']]


def test_a_map_without_chunks_has_no_results(pool):
    assert pool.map('echo', []) == []


def test_an_empty_chunk_has_no_results(pool):
    assert pool.map('echo', [[], [1], []]) == [[], [1], []]


def test_chunks_may_be_cbor(pool):
    assert pool.map('echo', [[2**60, b'bytes'], [None]], encode=as_cbor) == [[2**60, b'bytes'], [None]]


def test_a_raw_chunk_is_one_item(pool):
    assert pool.map('reversed', [b'abc', b'', b'\x00\x01'], encode=as_raw) == [b'cba', b'', b'\x01\x00']


def test_a_map_may_have_a_thousand_chunks(pool):
    assert pool.map('add', [[n] for n in range(1000)], args=[1]) == [[n + 1] for n in range(1000)]


# An item fails.


def test_a_map_fails_with_the_first_failure_in_the_order_of_the_items(open_pool, tmp_path):
    late = str(tmp_path / 'second has failed')
    chunks = [['ok', 'fails late'], ['fails at once']]
    steps = {
        'ok': {},
        'fails late': {'wait': late, 'fail': 'late, but the first in order'},
        'fails at once': {'mark': late, 'fail': 'the second in order'},
    }
    failure = failure_of(
        lambda: open_pool(processes=2).map('act', [[steps[item] for item in chunk] for chunk in chunks])
    )
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert failure.message == 'late, but the first in order'
    assert (failure.metadata['chunk'], failure.metadata['item']) == ('0', '1')


def test_every_item_runs_even_if_one_fails(open_pool, tmp_path):
    ran = tmp_path / 'ran'
    mark = {'mark': str(ran)}
    failure = failure_of(lambda: open_pool().map('act', [[{'fail': 'x'}, mark], [mark, mark]]))
    assert failure.message == 'x'
    assert len(lines(ran)) == 3


def test_fail_fast_ends_with_the_failure_and_drops_the_rest(open_pool, tmp_path):
    ran, never = tmp_path / 'ran', str(tmp_path / 'never')
    lease = open_pool()
    chunks = [[{'fail': 'fast'}, {'mark': str(ran)}], [{'wait': never}], *[[{'mark': str(ran)}]] * 20]
    failure = failure_of(lambda: lease.map('act', chunks, on_error=api.ON_ERROR_FAIL_FAST))
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert failure.message == 'fast'
    assert (failure.metadata['chunk'], failure.metadata['item']) == ('0', '0')
    # There is one process: what still stood in its queue would have run before this call.
    assert lease.apply('echo', 1) == 1
    assert lines(ran) == []


def test_fail_fast_without_a_failure_returns_all_results(pool):
    assert pool.map('echo', [[1], [2]], on_error=api.ON_ERROR_FAIL_FAST) == [[1], [2]]


def test_settle_returns_the_results_and_the_failures(pool):
    response = pool.settle('unlucky', [[1, 13, 2], [13], [3]])
    assert [value_of(chunk) for chunk in response.chunks] == [[1, 2], [], [3]]
    assert [(failed.chunk, failed.item) for failed in response.failures] == [(0, 1), (1, 0)]
    for failed in response.failures:
        failure = failure_in(failed.status)
        assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
        assert (failure.remote.type, failure.remote.message) == ('RangeError', '13 is unlucky')


def test_settle_reports_a_chunk_whose_worker_died_without_an_item(open_pool):
    response = open_pool(processes=2).settle('act', [[{'value': 1}], [{'exit': 3}, {'value': 2}], [{'value': 3}]])
    assert [chunk.WhichOneof('kind') for chunk in response.chunks] == ['json', None, 'json']
    [failed] = response.failures
    assert failed.chunk == 1
    assert not failed.HasField('item')
    assert failure_in(failed.status).row == ('INTERNAL', 'WORKER_CRASHED', True)


def test_an_item_whose_result_cannot_be_encoded_fails_alone(pool):
    response = pool.settle('functionFor', [[[1, 2], [2, 2], [3, 2]]], spread=True)
    assert [value_of(chunk) for chunk in response.chunks] == [[1, 3]]
    [failed] = response.failures
    assert (failed.chunk, failed.item) == (0, 1)
    assert failure_in(failed.status).row == ('INTERNAL', 'RESULT_ENCODE_FAILED', True)


def test_settle_reports_the_failures_of_a_chunk_in_the_order_of_its_items(pool):
    # One fails when it is encoded, behind it one fails when it runs.
    response = pool.settle('functionFor', [[[1, 1], 'no array', [2, 1]]], spread=True)
    assert [failed.item for failed in response.failures] == [0, 1]
    assert [failure_in(failed.status).reason for failed in response.failures] == ['RESULT_ENCODE_FAILED', 'BAD_REQUEST']


def test_retries_run_a_chunk_again_after_its_worker_died(open_pool):
    lease = open_pool()
    assert lease.map('crashBefore', [[2], [1]], retries=1) == [[2], [1]]
    assert lease.state().tasks.retried == 1


@pytest.mark.parametrize('kwargs', [[1], None, 'text', 7], ids=repr)
def test_kwargs_of_a_map_must_be_an_object(pool, kwargs):
    request = pool.map_request('echo', [[1]])
    request.kwargs.json = 'null' if kwargs is None else repr(kwargs).replace("'", '"')
    failure = failure_of(lambda: pool.stub.Map(request))
    assert failure.row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)


@pytest.mark.parametrize('chunk', [1, None, 'text', {'0': 1}], ids=repr)
def test_a_chunk_must_be_an_array(pool, chunk):
    failure = failure_of(lambda: pool.map('echo', [[1], chunk]))
    assert failure.row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)
    assert failure.metadata['chunk'] == '1'


def test_an_item_of_a_spread_chunk_must_be_an_array(pool):
    failure = failure_of(lambda: pool.map('add', [[[1, 2], 3]], spread=True))
    assert failure.row == ('INVALID_ARGUMENT', 'BAD_REQUEST', False)
    assert (failure.metadata['chunk'], failure.metadata['item']) == ('0', '1')
