"""Tokens in the metadata of calls, as a plain stub sends them."""

import hashlib
import json

import grpc
import pytest
from farpool.v1 import pool_service_pb2 as api, pool_service_pb2_grpc

from calling import as_json
from failing import code_of
from running import PATIENCE

TOKEN = 'fp_token-of-ann'


@pytest.fixture
def channel(serve, tmp_path) -> grpc.Channel:
    file = tmp_path / 'tokens.json'
    entry = {'name': 'ann', 'sha256': hashlib.sha256(TOKEN.encode()).hexdigest(), 'functions': ['add']}
    file.write_text(json.dumps({'tokens': [entry]}))
    file.chmod(0o600)
    return serve('--processes', '1', '--tokens', str(file)).channel


def apply(channel: grpc.Channel, function: str, *args, token: str | None = TOKEN):
    stub = pool_service_pb2_grpc.PoolServiceStub(channel)
    request = api.ApplyRequest(function=function, args=[as_json(arg) for arg in args])
    metadata = [] if token is None else [('authorization', f'Bearer {token}')]
    return stub.Apply(request, metadata=metadata, timeout=PATIENCE)


def test_a_call_needs_a_right_token(channel):
    assert apply(channel, 'add', 1, 2).result.json == '3'
    for wrong in [None, '', 'fp_wrong', TOKEN + 'x']:
        # More often than once: the connection stays as good as it was.
        for _ in range(20):
            assert code_of(lambda: apply(channel, 'add', 1, 2, token=wrong)) == 'UNAUTHENTICATED'
    assert apply(channel, 'add', 1, 2).result.json == '3'


def test_a_large_request_without_a_token_is_refused_before_it_has_come(channel):
    assert code_of(lambda: apply(channel, 'add', 'x' * 20_000_000, token=None)) == 'UNAUTHENTICATED'
    assert apply(channel, 'add', 1, 2).result.json == '3'


def test_a_stream_needs_a_token_too(channel):
    stub = pool_service_pb2_grpc.PoolServiceStub(channel)
    call = api.CallRequest(groups=[api.CallGroup(function='add', calls=[api.CallItem(id=1, args=[as_json(1), as_json(2)])])])
    assert code_of(lambda: list(stub.Call(iter([call]), timeout=PATIENCE))) == 'UNAUTHENTICATED'
    answers = list(stub.Call(iter([call]), metadata=[('authorization', f'Bearer {TOKEN}')], timeout=PATIENCE))
    assert [outcome.payload.json for answer in answers for outcome in answer.outcomes] == ['3']


def test_a_rule_says_what_may_be_called(channel):
    assert code_of(lambda: apply(channel, 'fail', 1)) == 'PERMISSION_DENIED'
    assert code_of(lambda: apply(channel, 'nowhere')) == 'PERMISSION_DENIED'
