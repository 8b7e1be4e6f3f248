"""The trailers of a failed call stay below 6 KiB: above 8 KiB this client and others refuse the whole call."""

from urllib.parse import quote

import grpc
import pytest

from calling import Caller, outcomes
from failing import error_of, failure_in, failure_of

LIMIT = 6 * 1024

FAILURES = {
    'a message of 1 MB': ('throwLong', 'x', 1_000_000),
    'a message of 1 MB that is not ASCII': ('throwLong', '世', 350_000),
    'a message of 1 MB of emoji': ('throwLong', '🙂', 250_000),
    'a message of 1 MB of percent signs': ('throwLong', '%', 1_000_000),
    'a message of 1 MB of line feeds': ('throwLong', '\n', 1_000_000),
    'a thrown string of 1 MB': ('throwString', 'y' * 1_000_000),
    'a type of 1 MB': ('throwLongName', 1_000_000),
    'many causes': ('throwDeep', 50, 10),
    'many long causes': ('throwDeep', 50, 100_000),
    'an unknown function with a long name': ('x' * 100_000,),
    'an unknown function with a long name that is not ASCII': ('世' * 100_000,),
    'an unknown function with a name of control characters': ('\x01' * 100_000,),
    'an ordinary error': ('boom',),
}


def size(error: grpc.RpcError) -> int:
    """The size of the trailers on the wire: binary ones as base64, the message percent-encoded."""
    sent = sum(
        len(key) + ((len(value) + 2) // 3 * 4 if isinstance(value, bytes) else len(value))
        for key, value in error.trailing_metadata()
    )
    code = len('grpc-status') + len(str(error.code().value[0]))
    printable = ''.join(map(chr, set(range(0x20, 0x7F)) - {ord('%')}))
    return sent + code + len('grpc-message') + len(quote(error.details(), safe=printable))


@pytest.mark.parametrize('call', FAILURES.values(), ids=FAILURES)
def test_the_trailers_of_a_failure_are_small_and_keep_the_reason(pool, call):
    function, *args = call
    assert size(error_of(lambda: pool.apply(function, *args))) <= LIMIT
    failure = failure_of(lambda: pool.apply(function, *args))
    if len(function) < 100:
        assert failure.row == ('UNKNOWN', 'FUNCTION_ERROR', True)
    else:
        assert failure.row == ('NOT_FOUND', 'FUNCTION_NOT_FOUND', False)
    assert pool.apply('add', 2, 3) == 5


def test_the_trailers_are_small_whatever_the_size_of_the_error(pool):
    # Also those that just fit, and those that just do not.
    errors = [('throwLong', 'x', length) for length in range(0, 9_000, 125)]
    errors += [
        ('throwDeep', depth, length) for depth in range(1, 13) for length in (1, 100, 200, 300, 500, 1_000, 2_000)
    ]
    for function, *args in errors:
        error = error_of(lambda: pool.apply(function, *args))
        assert error.code().name == 'UNKNOWN'
        assert size(error) <= LIMIT, (function, *args)


@pytest.mark.parametrize(
    'name', ['p' * 100_000, '世' * 100_000, '\x01' * 100_000], ids=['ASCII', 'not ASCII', 'control']
)
def test_the_trailers_of_an_unknown_pool_are_small(server, name):
    pool = Caller(server.channel, name)
    assert size(error_of(lambda: pool.apply('echo', 1))) <= LIMIT
    assert failure_of(lambda: pool.apply('echo', 1)).row == ('NOT_FOUND', 'POOL_NOT_FOUND', False)


def test_a_long_message_is_truncated(pool):
    failure = failure_of(lambda: pool.apply('throwLong', 'abc', 300_000))
    assert 100 <= len(failure.message) <= LIMIT
    assert failure.message.startswith('abcabcabc')
    assert failure.remote.message.startswith('abcabcabc')


def test_stacks_and_causes_are_dropped_before_the_type_and_message(pool):
    failure = failure_of(lambda: pool.apply('throwDeep', 50, 100_000))
    assert failure.remote.type == 'Error'
    assert failure.remote.message.startswith('level 49')


def test_a_long_message_in_the_frames_of_a_map_is_truncated_too(pool):
    [outcome] = outcomes(pool.imap('throwLong', [[['x', 1_000_000]]], spread=True))
    failure = failure_in(outcome.failures[0].status)
    assert failure.message.startswith('xxx')
    assert outcome.ByteSize() < 64 * 1024
