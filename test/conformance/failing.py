"""Reads the failure of a call from its google.rpc.Status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc
import pytest
from farpool.v1 import failure_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Failure:
    code: str
    reason: str
    message: str
    # True if the task had begun; None if the failure does not tell.
    started: bool | None
    # The other metadata of the ErrorInfo.
    metadata: Mapping[str, str]
    remote: failure_pb2.RemoteError | None
    # Seconds.
    retry_after: float | None

    @property
    def row(self) -> tuple[str, str, bool | None]:
        """The columns of this failure in the table of errors."""
        return self.code, self.reason, self.started


def failure_in(status: status_pb2.Status) -> Failure:
    """Reads a status that is part of a message."""
    info = _only(status, error_details_pb2.ErrorInfo)
    assert info is not None, f'there is no ErrorInfo in {status}'
    assert info.domain == 'farpool'
    metadata = dict(info.metadata)
    started = metadata.pop('started', None)
    assert started in (None, 'true', 'false')
    retry = _only(status, error_details_pb2.RetryInfo)
    return Failure(
        code=code_pb2.Code.Name(status.code),
        reason=info.reason,
        message=status.message,
        started=None if started is None else started == 'true',
        metadata=metadata,
        remote=_only(status, failure_pb2.RemoteError),
        retry_after=None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
    )


def failure_of(call: Callable[[], object]) -> Failure:
    """Makes a call that must fail, and returns its failure."""
    error = error_of(call)
    # from_call() also checks that the code and the message of the trailers and of the details agree.
    status = rpc_status.from_call(error)
    assert status is not None, f'the failure has no details: {error.code()}: {error.details()}'
    return failure_in(status)


def error_of(call: Callable[[], object]) -> grpc.RpcError:
    """Makes a call that must fail, and returns the error of grpcio."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value


def code_of(call: Callable[[], object]) -> str:
    return error_of(call).code().name


def _only(status: status_pb2.Status, kind: type):
    """The only detail of a type, or None."""
    found = [detail for detail in status.details if detail.Is(kind.DESCRIPTOR)]
    assert len(found) <= 1, f'there are {len(found)} details of {kind.DESCRIPTOR.full_name}'
    if not found:
        return None
    message = kind()
    assert found[0].Unpack(message)
    return message
