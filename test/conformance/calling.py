"""Short forms of calls through a plain stub: JSON by default, always with a deadline."""

import json
import math
from collections.abc import Iterable, Iterator
from typing import Any

import cbor2
import grpc
from farpool.v1 import payload_pb2, pool_service_pb2 as api, pool_service_pb2_grpc

from running import PATIENCE

Payload = payload_pb2.Payload


def as_json(value: Any) -> Payload:
    return Payload(json=json.dumps(value))


def as_cbor(value: Any) -> Payload:
    return Payload(cbor=cbor2.dumps(value))


def as_raw(value: bytes) -> Payload:
    return Payload(raw=value)


def value_of(payload: Payload) -> Any:
    match payload.WhichOneof('kind'):
        case 'json':
            return json.loads(payload.json, parse_constant=_no_json)
        case 'cbor':
            return cbor2.loads(payload.cbor)
        case 'raw':
            return payload.raw
    raise AssertionError('the payload has no kind')


def _no_json(text: str) -> None:
    raise AssertionError(f'{text} is not JSON')


def same(left: Any, right: Any) -> bool:
    """Like ==, but NaN equals NaN, 0.0 differs from -0.0, and True differs from 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        if math.isnan(left) or math.isnan(right):
            return math.isnan(left) and math.isnan(right)
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    return type(left) is type(right) and left == right


class Caller:
    """The stub of a channel, with the name of a pool to call."""

    def __init__(self, channel: grpc.Channel, pool: str = ''):
        self.channel = channel
        self.stub = pool_service_pb2_grpc.PoolServiceStub(channel)
        self.pool = pool

    def request(self, function: str, *args: Any, kwargs: Any = None, encode=as_json, **fields: Any) -> api.ApplyRequest:
        return api.ApplyRequest(
            pool=self.pool,
            function=function,
            args=[encode(arg) for arg in args],
            kwargs=None if kwargs is None else encode(kwargs),
            **fields,
        )

    def apply(self, function: str, *args: Any, timeout: float = PATIENCE, **fields: Any) -> Any:
        return value_of(self.stub.Apply(self.request(function, *args, **fields), timeout=timeout).result)

    def apply_async(self, function: str, *args: Any, timeout: float = 2 * PATIENCE, **fields: Any) -> grpc.Future:
        return self.stub.Apply.future(self.request(function, *args, **fields), timeout=timeout)

    def map_request(self, function: str, chunks: Iterable[Any], encode=as_json, kind=api.MapRequest, **fields: Any):
        args = [encode(arg) for arg in fields.pop('args', [])]
        kwargs = fields.pop('kwargs', None)
        return kind(
            pool=self.pool,
            function=function,
            chunks=[encode(chunk) for chunk in chunks],
            args=args,
            kwargs=None if kwargs is None else encode(kwargs),
            **fields,
        )

    def map(self, function: str, chunks: Iterable[Any], **fields: Any) -> list[Any]:
        """Returns one list of results per chunk."""
        response = self.stub.Map(self.map_request(function, chunks, **fields), timeout=PATIENCE)
        return [value_of(chunk) for chunk in response.chunks]

    def map_async(self, function: str, chunks: Iterable[Any], **fields: Any) -> grpc.Future:
        return self.stub.Map.future(self.map_request(function, chunks, **fields), timeout=2 * PATIENCE)

    def settle(self, function: str, chunks: Iterable[Any], **fields: Any) -> api.MapResponse:
        request = self.map_request(function, chunks, on_error=api.ON_ERROR_SETTLE, **fields)
        return self.stub.Map(request, timeout=PATIENCE)

    def imap(self, function: str, chunks: Iterable[Any], ordered: bool = True, **fields: Any):
        """Returns the stream of response messages."""
        request = self.map_request(function, chunks, kind=api.IMapRequest, ordered=ordered, **fields)
        return self.stub.IMap(request, timeout=2 * PATIENCE)

    def state(self) -> api.GetPoolResponse:
        return self.stub.GetPool(api.GetPoolRequest(pool=self.pool), timeout=PATIENCE)

    def pids(self) -> set[int]:
        return {worker.pid for worker in self.state().workers}

    def close(self) -> None:
        self.stub.ClosePool(api.ClosePoolRequest(pool=self.pool), timeout=PATIENCE)

    def join(self) -> None:
        self.stub.JoinPool(api.JoinPoolRequest(pool=self.pool), timeout=PATIENCE)

    def join_async(self) -> grpc.Future:
        return self.stub.JoinPool.future(api.JoinPoolRequest(pool=self.pool), timeout=2 * PATIENCE)

    def terminate(self) -> None:
        self.stub.Terminate(api.TerminateRequest(pool=self.pool), timeout=PATIENCE)


class Lease(Caller):
    """An owned pool: the stream of its events, and calls to it."""

    def __init__(self, channel: grpc.Channel, **options: Any):
        super().__init__(channel)
        self.events = self.stub.OpenPool(open_request(**options), timeout=3 * PATIENCE)
        self.opened = self.next_event('opened')
        self.pool = self.opened.pool

    def next_event(self, name: str) -> Any:
        event = next(self.events)
        assert event.WhichOneof('event') == name, f'the event is {event}'
        return getattr(event, name)

    def end(self) -> None:
        self.events.cancel()


def open_request(initargs: Iterable[Any] = (), encode=as_json, **options: Any) -> api.OpenPoolRequest:
    return api.OpenPoolRequest(initargs=[encode(arg) for arg in initargs], **options)


def outcomes(frames: Iterable[api.IMapResponse]) -> Iterator[api.ChunkOutcome]:
    for frame in frames:
        yield from frame.outcomes


def group(function: str, *calls: api.CallItem, **fields: Any) -> api.CallGroup:
    return api.CallGroup(function=function, calls=calls, **fields)


def call(id: int, *args: Any) -> api.CallItem:
    return api.CallItem(id=id, args=[as_json(arg) for arg in args])
