"""grpc.health.v1, which load balancers and container engines use."""

import signal

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from calling import Caller
from failing import code_of
from running import PATIENCE, until, until_begun

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SERVICES = pytest.mark.parametrize('service', ['', 'farpool.v1.PoolService'], ids=['the server', 'the service'])


def asked(service):
    return health_pb2.HealthCheckRequest(service=service)


@SERVICES
def test_a_running_server_is_serving(server, service):
    health = health_pb2_grpc.HealthStub(server.channel)
    assert health.Check(asked(service), timeout=PATIENCE).status == SERVING


def test_the_health_of_an_unknown_service_is_not_found(server):
    health = health_pb2_grpc.HealthStub(server.channel)
    assert code_of(lambda: health.Check(asked('nowhere'), timeout=PATIENCE)) == 'NOT_FOUND'


@SERVICES
def test_a_watch_reports_the_drain_and_does_not_delay_the_end(serve, tmp_path, service):
    begun, go = tmp_path / 'begun', tmp_path / 'go'
    running = serve('--processes', '1')
    call = Caller(running.channel).apply_async('act', {'mark': str(begun), 'wait': str(go)})
    until_begun(begun)
    watch = health_pb2_grpc.HealthStub(running.channel).Watch(asked(service), timeout=PATIENCE)
    assert next(watch).status == SERVING
    running.signal(signal.SIGTERM)
    assert next(watch).status == NOT_SERVING
    go.touch()
    call.result()
    assert running.exit_code() == 0


def test_a_server_without_its_shared_pool_is_not_serving(serve):
    running = serve('--processes', '1', '--allow-terminate')
    health = health_pb2_grpc.HealthStub(running.channel)
    Caller(running.channel).terminate()
    until(lambda: health.Check(asked(''), timeout=PATIENCE).status == NOT_SERVING, 'the server says so')
