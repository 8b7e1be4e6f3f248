"""IMap: a stream of outcomes, in the order of the chunks or in the order in which they end."""

import pytest
from farpool.v1 import pool_service_pb2 as api

from calling import as_cbor, as_raw, outcomes, value_of
from failing import failure_in, failure_of
from running import lines, until, until_begun

ORDERS = pytest.mark.parametrize('ordered', [True, False], ids=['ordered', 'unordered'])


@ORDERS
def test_every_chunk_has_exactly_one_outcome(pool, ordered):
    found = list(outcomes(pool.imap('echo', [[n, n] for n in range(500)], ordered)))
    assert sorted(outcome.chunk for outcome in found) == list(range(500))
    assert all(value_of(outcome.payload) == [outcome.chunk] * 2 for outcome in found)
    assert not any(outcome.failures for outcome in found)


def test_ordered_outcomes_wait_for_earlier_ones(open_pool, tmp_path):
    done = str(tmp_path / 'second has run')
    chunks = [[{'wait': done, 'value': 'slow'}], [{'mark': done, 'value': 'quick'}], [{'value': 'last'}]]
    found = list(outcomes(open_pool(processes=2).imap('act', chunks)))
    assert [outcome.chunk for outcome in found] == [0, 1, 2]
    assert [value_of(outcome.payload) for outcome in found] == [['slow'], ['quick'], ['last']]


def test_unordered_outcomes_arrive_as_chunks_end(open_pool, tmp_path):
    go = tmp_path / 'go'
    stream = outcomes(
        open_pool(processes=2).imap('act', [[{'wait': str(go), 'value': 0}], [{'value': 1}]], ordered=False)
    )
    # The first chunk ends only after this one has been received.
    first = next(stream)
    assert (first.chunk, value_of(first.payload)) == (1, [1])
    go.touch()
    second = next(stream)
    assert (second.chunk, value_of(second.payload)) == (0, [0])
    assert list(stream) == []


def test_an_ordered_outcome_is_sent_while_later_chunks_still_run(open_pool, tmp_path):
    go = tmp_path / 'go'
    stream = outcomes(open_pool(processes=1).imap('act', [[{'value': 0}], [{'wait': str(go), 'value': 1}]]))
    assert next(stream).chunk == 0
    go.touch()
    assert [outcome.chunk for outcome in stream] == [1]


@ORDERS
def test_a_failed_item_keeps_its_place_and_the_stream_goes_on(pool, ordered):
    found = {
        outcome.chunk: outcome for outcome in outcomes(pool.imap('unlucky', [[1], [2, 13, 3], [13], [4]], ordered))
    }
    assert {chunk: value_of(outcome.payload) for chunk, outcome in found.items()} == {0: [1], 1: [2, 3], 2: [], 3: [4]}
    places = {chunk: [(failed.chunk, failed.item) for failed in outcome.failures] for chunk, outcome in found.items()}
    assert places == {0: [], 1: [(1, 1)], 2: [(2, 0)], 3: []}
    failure = failure_in(found[1].failures[0].status)
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert failure.remote.type == 'RangeError'


@ORDERS
def test_a_chunk_whose_worker_died_fails_and_the_others_arrive(open_pool, ordered):
    chunks = [[{'value': 0}], [{'exit': 3}, {'value': 1}], [{'value': 2}]]
    found = sorted(outcomes(open_pool(processes=2).imap('act', chunks, ordered)), key=lambda outcome: outcome.chunk)
    assert [outcome.HasField('payload') for outcome in found] == [True, False, True]
    [failed] = found[1].failures
    assert failed.chunk == 1
    assert not failed.HasField('item')
    failure = failure_in(failed.status)
    assert failure.row == ('INTERNAL', 'WORKER_CRASHED', True)
    assert failure.metadata['exit_code'] == '3'


@ORDERS
def test_a_thousand_failures_do_not_end_the_stream(pool, ordered):
    found = list(outcomes(pool.imap('boom', [[n] for n in range(1000)], ordered)))
    assert sorted(outcome.chunk for outcome in found) == list(range(1000))
    assert {failure_in(outcome.failures[0].status).row for outcome in found} == {('UNKNOWN', 'FUNCTION_ERROR', True)}


@ORDERS
def test_fail_fast_ends_the_stream_with_the_failure(open_pool, ordered, tmp_path):
    ran, never = tmp_path / 'ran', str(tmp_path / 'never')
    lease = open_pool()
    chunks = [[{'value': 0}], [{'fail': 'fast'}], [{'wait': never}], *[[{'mark': str(ran)}]] * 40]
    stream = lease.imap('act', chunks, ordered, on_error=api.ON_ERROR_FAIL_FAST)
    assert next(outcomes(stream)).chunk == 0
    failure = failure_of(lambda: list(stream))
    assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    assert (failure.message, failure.metadata['chunk'], failure.metadata['item']) == ('fast', '1', '0')
    assert lease.apply('echo', 1) == 1
    assert lines(ran) == []


@ORDERS
def test_spread_bound_arguments_and_kwargs_reach_each_item(pool, ordered):
    chunks = [[[1, 2]], [[3, 4]]]
    stream = outcomes(pool.imap('collect', chunks, ordered, spread=True, args=['bound'], kwargs={'k': 5}))
    found = {outcome.chunk: value_of(outcome.payload) for outcome in stream}
    assert found == {0: [['bound', 1, 2, {'k': 5}]], 1: [['bound', 3, 4, {'k': 5}]]}


def test_chunks_may_be_cbor_or_raw(pool):
    found = outcomes(pool.imap('echo', [[2**60], [b'x']], encode=as_cbor))
    assert [value_of(outcome.payload) for outcome in found] == [[2**60], [b'x']]
    found = outcomes(pool.imap('reversed', [b'abc', b'de'], encode=as_raw))
    assert [value_of(outcome.payload) for outcome in found] == [b'cba', b'ed']


@ORDERS
def test_an_imap_without_chunks_ends_at_once(pool, ordered):
    assert list(pool.imap('echo', [], ordered)) == []


def test_large_outcomes_all_arrive(pool):
    found = list(outcomes(pool.imap('textOf', [[2_000_000]] * 8)))
    assert [len(value_of(outcome.payload)[0]) for outcome in found] == [2_000_000] * 8


def test_a_client_that_stops_reading_stops_the_work(open_pool, tmp_path):
    ran = tmp_path / 'ran'
    lease = open_pool(processes=1)
    stream = lease.imap('act', [[{'mark': str(ran), 'size': 2_000_000}]] * 100)
    next(outcomes(stream))
    # 200 MB would be the answer: more than the buffers on the way hold (a socket's alone may grow to 32 MiB).
    until(lambda: lease.state().queued == 0 and lease.state().running == 0, 'the work has stopped')
    assert len(lines(ran)) < 100
    assert len(list(outcomes(stream))) == 99
    assert len(lines(ran)) == 100


def test_a_cancelled_imap_drops_its_queued_chunks(open_pool, tmp_path):
    begun, ran, never = tmp_path / 'begun', tmp_path / 'ran', str(tmp_path / 'never')
    lease = open_pool()
    stream = lease.imap('act', [[{'mark': str(begun), 'wait': never}], *[[{'mark': str(ran)}]] * 10])
    until_begun(begun)
    stream.cancel()
    assert lease.apply('echo', 'still works') == 'still works'
    assert lines(ran) == []
    assert lease.state().tasks.cancelled == 11


@ORDERS
def test_a_wrong_request_ends_the_stream_before_the_first_frame(pool, ordered):
    failure = failure_of(lambda: list(pool.imap('nowhere', [[1]], ordered)))
    assert failure.row == ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False)


def test_retries_run_a_chunk_again_after_its_worker_died(open_pool):
    found = outcomes(open_pool().imap('crashBefore', [[3], [1]], retries=2))
    assert [value_of(outcome.payload) for outcome in found] == [[3], [1]]
