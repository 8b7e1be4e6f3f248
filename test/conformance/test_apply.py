"""Apply: calls one function once, in any encoding."""

import datetime
import json
import math
import os

import cbor2
import grpc
import pytest
from farpool.v1 import payload_pb2, pool_service_pb2 as api

from calling import Payload, as_cbor, as_json, as_raw, same, value_of
from failing import failure_of
from running import PATIENCE, is_alive, until

JSON_VALUES = [
    None,
    True,
    False,
    0,
    -1.5,
    1e300,
    9007199254740991,
    '',
    'Grüße, 世界 🙂',
    'line\nquote"zero\x00',
    [],
    {},
    [[[]], {'a': [{}]}],
    {'__proto__': 1, 'constructor': 2, 'toString': None},
    list(range(10_000)),
]

CBOR_VALUES = [
    *JSON_VALUES,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    math.nan,
    math.inf,
    -math.inf,
    -0.0,
    b'',
    b'\x00\xff' * 1000,
    [b'bytes', {'deep': [b'er']}],
    datetime.datetime(2024, 2, 29, 12, 30, 15, tzinfo=datetime.timezone.utc),
]


def shown(value):
    text = repr(value)
    return text if len(text) < 40 else f'{text[:37]}...'


@pytest.mark.parametrize('value', JSON_VALUES, ids=shown)
def test_a_json_value_comes_back_as_it_was(pool, value):
    assert same(pool.apply('echo', value), value)


@pytest.mark.parametrize('value', CBOR_VALUES, ids=shown)
def test_a_cbor_value_comes_back_as_it_was(pool, value):
    assert same(pool.apply('echo', value, encode=as_cbor), value)


@pytest.mark.parametrize('value', [b'', b'\x00', bytes(range(256)) * 4096], ids=len)
def test_raw_bytes_go_in_and_come_out(pool, value):
    assert pool.apply('reversed', value, encode=as_raw) == value[::-1]


def test_a_large_integer_in_cbor_is_a_bigint_for_the_function(pool):
    assert pool.apply('kindOf', 2**53 + 1, encode=as_cbor) == 'bigint'
    assert pool.apply('kindOf', 2**53 - 1, encode=as_cbor) == 'number'


def test_arguments_arrive_in_order(pool):
    assert pool.apply('power', 2, 10) == 1024
    assert pool.apply('power', 10, 2) == 100


def test_an_async_function_is_awaited(pool):
    assert pool.apply('later', 'soon') == 'soon'


def test_a_call_without_arguments_is_answered_in_json(pool):
    response = pool.stub.Apply(api.ApplyRequest(function='pid'), timeout=PATIENCE)
    assert int(json.loads(response.result.json)) > 0


def test_a_function_runs_in_a_process_of_its_own(pool, server):
    pid = pool.apply('pid')
    assert pid in pool.pids()
    assert pid not in (server.pid, os.getpid())
    assert is_alive(pid)


def test_kwargs_are_passed_as_the_last_argument(pool):
    assert pool.apply('greet', 'Ada', kwargs={'greeting': 'Good day'}) == 'Good day, Ada!'
    assert pool.apply('collect', 1, 2, kwargs={'c': 3}) == [1, 2, {'c': 3}]
    assert pool.apply('collect', kwargs={'only': True}) == [{'only': True}]


def test_empty_kwargs_are_not_passed(pool):
    assert pool.apply('collect', 1, kwargs={}) == [1]


def test_kwargs_may_be_cbor(pool):
    assert pool.apply('greet', 'Ada', kwargs={'mark': '?'}, encode=as_cbor) == 'Hello, Ada?'


@pytest.mark.parametrize('encode', [as_json, as_cbor], ids=['json', 'cbor'])
def test_the_reply_has_the_kind_of_the_first_payload(pool, encode):
    other = as_cbor if encode is as_json else as_json
    kind = encode(0).WhichOneof('kind')
    mixed = api.ApplyRequest(function='collect', args=[encode(1), other(2)])
    only_kwargs = api.ApplyRequest(function='collect', kwargs=encode({'a': 1}))
    for request, result in [(mixed, [1, 2]), (only_kwargs, [{'a': 1}])]:
        reply = pool.stub.Apply(request, timeout=PATIENCE).result
        assert reply.WhichOneof('kind') == kind
        assert value_of(reply) == result


@pytest.mark.parametrize(
    ('kind', 'name', 'expected'),
    [
        (payload_pb2.PAYLOAD_KIND_JSON, 'json', b'256'),
        (payload_pb2.PAYLOAD_KIND_CBOR, 'cbor', cbor2.dumps(256)),
    ],
)
def test_reply_kind_chooses_the_encoding_of_the_result(pool, kind, name, expected):
    request = api.ApplyRequest(function='byteCount', args=[as_raw(bytes(256))], reply_kind=kind)
    reply = pool.stub.Apply(request, timeout=PATIENCE).result
    assert reply.WhichOneof('kind') == name
    content = getattr(reply, name)
    assert (content.encode() if name == 'json' else content) == expected


def test_reply_kind_raw_returns_the_bytes_of_the_function(pool):
    result = pool.apply('bytesUpTo', 300, reply_kind=payload_pb2.PAYLOAD_KIND_RAW)
    assert result == bytes(at % 256 for at in range(300))


def test_a_result_of_10_mb_arrives_whole(pool):
    assert pool.apply('textOf', 10_000_000) == 'x' * 10_000_000


def test_an_argument_of_10_mb_arrives_whole(pool):
    assert (
        pool.apply('byteCount', bytes(10_000_000), encode=as_raw, reply_kind=payload_pb2.PAYLOAD_KIND_JSON)
        == 10_000_000
    )


def test_many_calls_at_once_each_get_their_own_answer(pool):
    calls = [pool.apply_async('add', number, 1000) for number in range(500)]
    assert [value_of(call.result().result) for call in calls] == [number + 1000 for number in range(500)]


def test_a_server_listens_on_a_unix_socket(serve, tmp_path):
    running = serve('--processes', '1', listen=f'unix:{tmp_path}/farpool.sock')
    with grpc.insecure_channel(f'unix:{tmp_path}/farpool.sock') as channel:
        apply = channel.unary_unary(
            '/farpool.v1.PoolService/Apply',
            request_serializer=api.ApplyRequest.SerializeToString,
            response_deserializer=api.ApplyResponse.FromString,
        )
        reply = apply(api.ApplyRequest(function='add', args=[as_json(2), as_json(3)]), timeout=PATIENCE)
    assert reply.result == Payload(json='5')
    running.stop()
    assert not (tmp_path / 'farpool.sock').exists()


def test_the_shared_pool_is_called_default(pool):
    request = api.ApplyRequest(pool='default', function='add', args=[as_json(2), as_json(3)])
    assert value_of(pool.stub.Apply(request, timeout=PATIENCE).result) == 5


# What cannot be sent as the reply's kind fails; it is never sent as something else.

UNSENDABLE = [
    ('giveFunction', as_json, None),
    ('giveFunction', as_cbor, None),
    ('giveSymbol', as_json, None),
    ('giveSymbol', as_cbor, None),
    ('giveCycle', as_json, None),
    ('giveCycle', as_cbor, None),
    ('giveNaN', as_json, None),
    ('giveInfinity', as_json, None),
    ('echo', as_json, payload_pb2.PAYLOAD_KIND_RAW),
]


@pytest.mark.parametrize(('function', 'encode', 'reply_kind'), UNSENDABLE)
def test_a_result_that_its_encoding_cannot_carry_fails_and_the_worker_survives(open_pool, function, encode, reply_kind):
    lease = open_pool()
    pid = lease.apply('pid')
    failure = failure_of(lambda: lease.apply(function, 1, encode=encode, reply_kind=reply_kind))
    assert failure.row == ('INTERNAL', 'RESULT_ENCODE_FAILED', True)
    assert lease.apply('pid') == pid


def test_a_large_integer_cannot_be_sent_as_json_without_loss(pool):
    failure = failure_of(
        lambda: pool.apply('echo', 2**60 + 1, encode=as_cbor, reply_kind=payload_pb2.PAYLOAD_KIND_JSON)
    )
    assert failure.row == ('INTERNAL', 'RESULT_ENCODE_FAILED', True)


# What a client can ask about the server.


def test_the_functions_are_listed_by_name(pool):
    functions = pool.stub.ListFunctions(api.ListFunctionsRequest(), timeout=PATIENCE).functions
    names = [function.name for function in functions]
    assert names == sorted(names)
    assert {'echo', 'power', 'boom'} <= set(names)
    listed = {function.name: function for function in functions}
    assert listed['power'].parameters == 2
    assert listed['greet'].parameters == 1
    assert {function.module for function in functions} == {'functions.mjs'}


def test_the_server_reports_its_version_and_limits(pool, serve):
    running = serve('--processes', '1', '--grace', '1234', '--max-message-bytes', '123456')
    request = api.GetServerInfoRequest()
    info = type(pool)(running.channel).stub.GetServerInfo(request, timeout=PATIENCE)
    assert info.version.count('.') == 2
    assert info.runtime.startswith('node v')
    assert (info.processes, info.grace_ms, info.max_message_bytes) == (1, 1234, 123456)


def test_a_pool_counts_its_tasks(open_pool):
    lease = open_pool(processes=2)
    until(
        lambda: {worker.state for worker in lease.state().workers} == {api.WORKER_STATE_IDLE}, 'both workers are ready'
    )
    assert lease.map('echo', [[1, 2], [3]]) == [[1, 2], [3]]
    lease.apply('pid')
    failure_of(lambda: lease.apply('boom'))
    state = lease.state()
    assert (state.tasks.submitted, state.tasks.succeeded, state.tasks.failed, state.tasks.cancelled) == (4, 3, 1, 0)
    assert (state.queued, state.running, state.workers_started) == (0, 0, 2)
    assert sum(worker.tasks for worker in state.workers) == 4
    assert {worker.state for worker in state.workers} == {api.WORKER_STATE_IDLE}
