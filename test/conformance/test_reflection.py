"""Server reflection: a client without .proto files, such as grpcurl, makes a call."""

import pytest
from farpool.v1 import failure_pb2, payload_pb2, pool_service_pb2
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory
from google.rpc import status_pb2
from grpc_reflection.v1alpha import reflection_pb2

from running import PATIENCE

SERVICE = 'farpool.v1.PoolService'
VERSIONS = pytest.mark.parametrize('version', ['v1', 'v1alpha'])


def ask(server, version, **request):
    """Sends one request and returns its response. Both versions of the service have the same messages."""
    call = server.channel.stream_stream(
        f'/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo',
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    [response] = call(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=PATIENCE)
    return response


def files(server, version, **request):
    response = ask(server, version, **request)
    assert response.WhichOneof('message_response') == 'file_descriptor_response', response
    found = map(descriptor_pb2.FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto)
    return {file.name: file for file in found}


def reflected(server, version):
    """A descriptor pool, filled only through reflection, file by file as grpcurl does."""
    known = files(server, version, file_containing_symbol=SERVICE)
    missing = {name for file in known.values() for name in file.dependency} - known.keys()
    while missing:
        for name in missing:
            known |= files(server, version, file_by_filename=name)
        missing = {name for file in known.values() for name in file.dependency} - known.keys()
    pool = descriptor_pool.DescriptorPool()
    waiting = dict(known)
    while waiting:
        ready = [name for name, file in waiting.items() if not set(file.dependency) & waiting.keys()]
        assert ready, f'the files import each other: {waiting.keys()}'
        for name in ready:
            pool.Add(waiting.pop(name))
    return pool


@VERSIONS
def test_the_services_are_listed(server, version):
    listed = ask(server, version, list_services='').list_services_response.service
    names = {service.name for service in listed}
    assert {SERVICE, 'grpc.health.v1.Health'} <= names
    assert not any('routing' in name or 'worker' in name for name in names)


@VERSIONS
def test_the_service_is_described_with_all_its_imports(server, version):
    pool = reflected(server, version)
    for name in ('google/rpc/status.proto', 'google/protobuf/any.proto', 'farpool/v1/payload.proto'):
        assert pool.FindFileByName(name).name == name
    service = pool.FindServiceByName(SERVICE)
    streaming = {method.name for method in service.methods if method.server_streaming}
    assert streaming == {'Call', 'IMap', 'OpenPool'}
    assert set(service.methods_by_name) == set(
        pool_service_pb2.DESCRIPTOR.services_by_name['PoolService'].methods_by_name
    )


@VERSIONS
@pytest.mark.parametrize(
    'symbol', ['google.rpc.Status', 'google.protobuf.Any', 'farpool.v1.MapRequest', 'farpool.v1.OnError']
)
def test_a_symbol_is_found(server, version, symbol):
    short = symbol.rsplit('.', 1)[1]
    found = files(server, version, file_containing_symbol=symbol).values()
    assert any(short in [each.name for each in [*file.message_type, *file.enum_type]] for file in found)


@VERSIONS
def test_an_unknown_symbol_is_not_found(server, version):
    response = ask(server, version, file_containing_symbol='farpool.v1.Nothing')
    assert response.error_response.error_code == 5


@VERSIONS
@pytest.mark.parametrize(
    'module', [pool_service_pb2, payload_pb2, status_pb2, any_pb2], ids=lambda module: module.DESCRIPTOR.name
)
def test_the_descriptors_match_the_proto_files(server, version, module):
    said = reflected(server, version).FindFileByName(module.DESCRIPTOR.name)
    for name, message in module.DESCRIPTOR.message_types_by_name.items():
        there = said.message_types_by_name[name]
        fields = [
            [(f.number, f.name, f.type, f.is_repeated, f.has_presence) for f in each.fields]
            for each in (message, there)
        ]
        assert fields[0] == fields[1]
    assert said.enum_types_by_name.keys() == module.DESCRIPTOR.enum_types_by_name.keys()


@VERSIONS
def test_a_call_can_be_made_from_reflected_descriptors_alone(server, version):
    pool = reflected(server, version)
    method = pool.FindServiceByName(SERVICE).methods_by_name['Apply']
    request = message_factory.GetMessageClass(method.input_type)(function='power')
    request.args.add(json='2')
    request.args.add(json='10')
    call = server.channel.unary_unary(
        f'/{SERVICE}/{method.name}',
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    assert call(request, timeout=PATIENCE).result.json == '1024'


@VERSIONS
def test_the_details_of_a_function_error_are_described(server, version):
    name = failure_pb2.RemoteError.DESCRIPTOR.full_name
    assert 'farpool/v1/failure.proto' in files(server, version, file_containing_symbol=name)
