"""Wrong requests: each gets a clear error, affects no other call, and the server goes on."""

import grpc
import pytest
from farpool.v1 import pool_service_pb2 as api
from google.protobuf.descriptor import FieldDescriptor

from calling import Caller, Payload, as_json, as_raw, value_of
from failing import code_of, error_of, failure_of
from running import PATIENCE

SERVICE = api.DESCRIPTOR.services_by_name['PoolService']
METHODS = sorted(SERVICE.methods_by_name)
BAD_REQUEST = ('INVALID_ARGUMENT', 'BAD_REQUEST', False)
NOT_FOUND = ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False)
UNDECODABLE = ('INVALID_ARGUMENT', 'PAYLOAD_DECODE_FAILED', False)


@pytest.fixture(autouse=True)
def the_server_goes_on(server, pool):
    """After each of these tests the same workers answer on the same connection."""
    before = pool.pids()
    yield
    assert server.is_running
    assert pool.apply('add', 2, 3) == 5
    assert pool.pids() == before


def send(channel: grpc.Channel, method: str, request: bytes) -> list[bytes]:
    """A request of any bytes; the answers as bytes."""
    path = f'/{SERVICE.full_name}/{method}'
    if SERVICE.methods_by_name[method].server_streaming:
        return list(channel.unary_stream(path)(request, timeout=PATIENCE))
    return [channel.unary_unary(path)(request, timeout=PATIENCE)]


# Bytes that are no message.

MALFORMED = {
    'a length beyond the end': b'\x0a\x7fabc',
    'a field cut in the middle': b'\x0a',
    'a varint without an end': b'\x30' + b'\xff' * 12,
    'a wire type that does not exist': b'\x0f\x00',
    'a group that is never closed': b'\x0b',
    'the end of a group that never began': b'\x0c',
    'field number zero': b'\x02\x01x',
    'zeros': b'\x00' * 8,
}


@pytest.mark.parametrize('request_bytes', MALFORMED.values(), ids=MALFORMED)
def test_bytes_that_are_not_a_message_are_a_bad_request(server, request_bytes):
    for method in METHODS:
        failure = failure_of(lambda: send(server.channel, method, request_bytes))
        assert failure.row == BAD_REQUEST, method
        assert SERVICE.methods_by_name[method].input_type.full_name in failure.message


# A field of another type than its own. By protobuf's rule such a field is unknown to the parser, so the request is what
# it would be without it; refusing the request is right too. Anything else (a wrong value, an internal error, silence) is not.

FIELDS = [(method, field.name) for method in METHODS for field in SERVICE.methods_by_name[method].input_type.fields]


@pytest.mark.parametrize(('method', 'name'), FIELDS, ids=[f'{method}.{name}' for method, name in FIELDS])
def test_a_field_of_a_wrong_type_is_ignored_or_refused(server, method, name):
    request = example(method)
    field = request.DESCRIPTOR.fields_by_name[name]
    request.ClearField(name)
    without = request.SerializeToString()
    wrong = without + of_wrong_type(field)
    expected = answer(server.channel, method, without)
    assert answer(server.channel, method, wrong) in (expected, BAD_REQUEST)


def example(method: str):
    """A request that is all right and sets what it can; of a pool that is not there where the method would end it."""
    payload, chunks = as_json(2), [as_json([3]), as_json([4])]
    match method:
        case 'Apply':
            return api.ApplyRequest(pool='default', function='power', args=[payload, payload], reply_kind=1, retries=1)
        case 'Map' | 'IMap':
            kind = api.MapRequest if method == 'Map' else api.IMapRequest
            return kind(
                pool='default', function='power', chunks=chunks, args=[payload], reply_kind=1, retries=1, on_error=2
            )
        case 'OpenPool':
            return api.OpenPoolRequest(processes=0, initializer='initialize', initargs=[payload], maxtasksperchild=0)
        case _:
            request = SERVICE.methods_by_name[method].input_type._concrete_class()
            if 'pool' in request.DESCRIPTOR.fields_by_name:
                request.pool = 'nowhere'
            return request


def of_wrong_type(field: FieldDescriptor) -> bytes:
    """A text where a number is expected, a number where a text or a message is."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE):
        return bytes([field.number << 3 | 0, 5])
    return bytes([field.number << 3 | 2, 3]) + b'abc'


def answer(channel: grpc.Channel, method: str, request: bytes):
    """What the server makes of it, as far as two answers to the same request are alike."""
    try:
        answers = send(channel, method, request)
    except grpc.RpcError:
        return failure_of(lambda: send(channel, method, request)).row
    kind = SERVICE.methods_by_name[method].output_type._concrete_class
    messages = [kind.FromString(each) for each in answers]
    match method:
        case 'IMap':
            found = [outcome for frame in messages for outcome in frame.outcomes]
            return sorted((each.chunk, each.payload.json, len(each.failures)) for each in found)
        case 'GetPool':
            return [(message.pool, message.shared) for message in messages]
        case _:
            return messages


def test_bytes_that_are_not_a_payload_are_refused(server):
    request = api.ApplyRequest(function='echo').SerializeToString()
    for args in (b'\x0a\x7f', b'\x0a', b'\x0f\x00'):
        inside = bytes([3 << 3 | 2, len(args)]) + args
        failure = failure_of(lambda: send(server.channel, 'Apply', request + inside))
        assert failure.code == 'INVALID_ARGUMENT'
        assert failure.reason in ('BAD_REQUEST', 'PAYLOAD_DECODE_FAILED')
        assert failure.started is False


def test_a_payload_without_a_kind_is_refused(pool):
    request = api.ApplyRequest(function='echo', args=[Payload()])
    failure = failure_of(lambda: pool.stub.Apply(request))
    assert failure.code == 'INVALID_ARGUMENT'
    assert failure.reason in ('BAD_REQUEST', 'PAYLOAD_DECODE_FAILED')
    assert failure.started is False


@pytest.mark.parametrize(
    'json', ['', '{', 'nope', '[1,]', '1 2', 'NaN', "'x'", '"\n"', '01', '[' * 100_000], ids=lambda t: t[:8]
)
def test_invalid_json_is_refused(pool, json):
    for call in _everywhere(pool, Payload(json=json)):
        assert failure_of(call).row == UNDECODABLE


def test_json_that_is_not_utf_8_is_refused(server):
    payload = b'\x0a\x03"\xff"'
    request = api.ApplyRequest(function='echo').SerializeToString() + bytes([3 << 3 | 2, len(payload)]) + payload
    failure = failure_of(lambda: send(server.channel, 'Apply', request))
    assert failure.code == 'INVALID_ARGUMENT'
    assert failure.started is False


CBOR = {
    'nothing': b'',
    'an array cut off': b'\x83\x01\x02',
    'a string cut off': b'\x65ab',
    'two values': b'\x01\x02',
    'a length beyond all memory': b'\x9b\x7f\xff\xff\xff\xff\xff\xff\xff',
    'bytes beyond all memory': b'\x5b\x00\xff\xff\xff\xff\xff\xff\xff',
    'a break without a beginning': b'\xff',
    'reserved additional information': b'\x1c',
    'text that is not UTF-8': b'\x62\xff\xfe',
    'arrays in arrays without end': b'\x81' * 100_000,
}


@pytest.mark.parametrize('cbor', CBOR.values(), ids=CBOR)
def test_invalid_cbor_is_refused(pool, cbor):
    for call in _everywhere(pool, Payload(cbor=cbor)):
        assert failure_of(call).row == UNDECODABLE


def _everywhere(pool, bad):
    """Calls that hold a payload wherever one can stand."""
    good, chunk = as_json(1), as_json([1])
    apply, mapped = pool.stub.Apply, pool.stub.Map
    yield lambda: apply(api.ApplyRequest(function='echo', args=[bad]))
    yield lambda: apply(api.ApplyRequest(function='collect', args=[good, bad]))
    yield lambda: apply(api.ApplyRequest(function='collect', args=[good], kwargs=bad))
    yield lambda: mapped(api.MapRequest(function='echo', chunks=[bad]))
    yield lambda: mapped(api.MapRequest(function='echo', chunks=[chunk], args=[bad]))
    yield lambda: mapped(api.MapRequest(function='echo', chunks=[chunk], kwargs=bad))


def test_an_undecodable_chunk_does_not_affect_the_others(pool):
    request = api.MapRequest(
        function='echo', chunks=[as_json([1]), Payload(json='['), as_json([3])], on_error=api.ON_ERROR_SETTLE
    )
    response = pool.stub.Map(request)
    assert [value_of(response.chunks[at]) for at in (0, 2)] == [[1], [3]]
    assert [(failed.chunk, failed.HasField('item')) for failed in response.failures] == [(1, False)]


@pytest.mark.parametrize('kwargs', ['null', '[1]', '"text"', '7', 'true'])
def test_kwargs_must_be_an_object(pool, kwargs):
    request = api.ApplyRequest(function='collect', args=[as_json(1)], kwargs=Payload(json=kwargs))
    failure = failure_of(lambda: pool.stub.Apply(request))
    assert failure.row == BAD_REQUEST
    assert 'kwargs' in failure.message


def test_kwargs_cannot_be_raw(pool):
    request = api.ApplyRequest(function='collect', kwargs=as_raw(b'bytes'))
    assert failure_of(lambda: pool.stub.Apply(request)).row == BAD_REQUEST


# Numbers out of their range.


@pytest.mark.parametrize('retries', [-1, -(2**31)])
def test_retries_must_not_be_negative(pool, retries):
    calls = [
        lambda: pool.apply('echo', 1, retries=retries),
        lambda: pool.map('echo', [[1]], retries=retries),
        lambda: list(pool.imap('echo', [[1]], retries=retries)),
    ]
    for call in calls:
        failure = failure_of(call)
        assert failure.row == BAD_REQUEST
        assert str(retries) in failure.message


@pytest.mark.parametrize('number', [4, 99, -1])
def test_an_unknown_reply_kind_is_refused(pool, number):
    calls = [
        lambda: pool.apply('echo', 1, reply_kind=number),
        lambda: pool.map('echo', [[1]], reply_kind=number),
    ]
    for call in calls:
        failure = failure_of(call)
        assert failure.row == BAD_REQUEST
        assert str(number) in failure.message


@pytest.mark.parametrize('number', [3, 99, -1])
def test_an_unknown_on_error_is_refused(pool, number):
    for call in (
        lambda: pool.map('echo', [[1]], on_error=number),
        lambda: list(pool.imap('echo', [[1]], on_error=number)),
    ):
        failure = failure_of(call)
        assert failure.row == BAD_REQUEST
        assert str(number) in failure.message


# Names that nothing is registered under.

NAMES = [
    '',
    ' ',
    'toString',
    '__proto__',
    'constructor',
    'hasOwnProperty',
    'default',
    'echo ',
    'ECHO',
    'a\nb',
    'ü🙂',
    'x' * 50_000,
]


@pytest.mark.parametrize('name', NAMES, ids=lambda name: repr(name[:20]))
def test_an_unregistered_name_is_not_found(pool, name):
    calls = [
        lambda: pool.apply(name, 1),
        lambda: pool.map(name, [[1]]),
        lambda: list(pool.imap(name, [[1]])),
        lambda: pool.map(name, []),
    ]
    for call in calls:
        assert failure_of(call).row == NOT_FOUND


@pytest.mark.parametrize(
    ('typed', 'meant'), [('ehco', 'echo'), ('Echo', 'echo'), ('powr', 'power'), ('bytecount', 'byteCount')]
)
def test_a_misspelt_name_is_answered_with_the_nearest_names(pool, typed, meant):
    failure = failure_of(lambda: pool.apply(typed, 1))
    assert meant in failure.metadata['nearest'].split(',')
    assert meant in failure.message


def test_a_name_near_no_other_is_answered_with_all_names(pool):
    failure = failure_of(lambda: pool.apply('qqqqqqqqq', 1))
    assert 'nearest' not in failure.metadata
    assert 'add' in failure.message


# Messages above the limit.


@pytest.fixture
def small(serve):
    """A server whose messages are at most 10,000 bytes."""
    return Caller(serve('--processes', '1', '--max-message-bytes', '10000').channel)


def test_a_message_above_the_limit_is_refused_and_the_connection_stays_open(small):
    calls = [
        lambda: small.apply('echo', 'x' * 20_000),
        lambda: small.map('echo', [['x' * 20_000]]),
        lambda: list(small.imap('echo', [['x' * 20_000]])),
    ]
    for call in calls:
        assert code_of(call) == 'RESOURCE_EXHAUSTED'
        assert small.apply('add', 2, 3) == 5


def test_a_message_just_below_the_limit_is_accepted(small):
    text = 'x' * 9_900
    assert small.apply('echo', text) == text


def test_a_length_beyond_the_end_of_the_message_is_refused(server):
    # A field of 2 GiB in a message of six bytes: refused without the memory for it.
    error = error_of(lambda: send(server.channel, 'Apply', b'\x12\xff\xff\xff\xff\x07'))
    assert error.code().name == 'INVALID_ARGUMENT'
