import { describe, expect, it } from 'vitest'
import { checkAddress, hostOf, isLoopback, mayUseProxy, reachedAt, socketPath } from '../../wire/address.js'

const FORMS = 'it must be host:port, [ipv6]:port or unix:/path'

describe('an address', () => {
  it.each([
    'localhost:50051',
    'my_host-1.example.org:1',
    'münchen.example:65535',
    '10.0.0.1:50051',
    '[::1]:50051',
    '[fe80::1%eth0]:50051',
    'unix:/run/farpool.sock',
    'unix:///run/farpool.sock',
    'unix:farpool.sock',
  ])('may be %s, at both ends', (address) => {
    expect(() => checkAddress('listen', address)).not.toThrow()
    expect(() => checkAddress('address', address)).not.toThrow()
  })

  it.each(['dns:///name:50051', 'dns:name:50051', 'dns://10.0.0.53/name:50051'])(
    'of a client may be the name %s, behind which several servers stand',
    (address) => {
      expect(() => checkAddress('address', address)).not.toThrow()
      expect(() => checkAddress('listen', address)).toThrow(FORMS)
    },
  )

  it.each(['ipv4:10.0.0.1:50051', 'ipv4:10.0.0.1:50051,10.0.0.2:50052', 'ipv6:[::1]:50051,[::2]:50051'])(
    'of a client may be the list %s',
    (address) => {
      expect(() => checkAddress('address', address)).not.toThrow()
      expect(() => checkAddress('listen', address)).toThrow(FORMS)
    },
  )

  it.each<[unknown, string]>([
    ['localhost', '(it has no port: localhost:50051)'],
    ['localhost:', '(it has no port: localhost:50051)'],
    ['[::1]', '(it has no port: [::1]:50051)'],
    ['dns:///name', '(it has no port: name:50051)'],
    ['50051', '(it has no host)'],
    [':50051', '(it has no host)'],
    ['', '(it has no host)'],
    ['host:65536', '(the port is a number from 1 to 65535)'],
    ['host:-1', '(the port is a number from 1 to 65535)'],
    ['host:http', '(the port is a number from 1 to 65535)'],
    ['host:1/path', '(the port is a number from 1 to 65535)'],
    ['http://host:1', '(it is a URL: write host:1)'],
    ['https://host/path', '(it is a URL: write host:50051)'],
    ['grpc://user:secret@host:1', '(it is a URL: write host:1)'],
    ['xds:///service', '(there are no xds: addresses here)'],
    ['::1', '(an IPv6 address stands in brackets: [::1]:50051)'],
    ['::1:50051', '(an IPv6 address stands in brackets: [::1]:50051)'],
    ['[::1::2]:1', '(::1::2 is no IPv6 address)'],
    ['300.0.0.1:1', '(300.0.0.1 is no IPv4 address)'],
    ['10.0.1:1', '(10.0.1 is no IPv4 address)'],
    ['ipv4:10.0.0.1', '(after ipv4: stand addresses of the form a.b.c.d:port, with commas between them)'],
    ['ipv4:name:1', '(after ipv4: stand addresses of the form a.b.c.d:port, with commas between them)'],
    ['ipv6:::1', '(after ipv6: stand addresses of the form [ipv6]:port, with commas between them)'],
    ['/run/farpool.sock', '(the path of a socket stands behind unix:, as in unix:/run/farpool.sock)'],
    ['unix:', '(it has no path of a socket)'],
    ['unix:/run/', '(it has no path of a socket)'],
    ['unix://run/farpool.sock', '(it has two slashes: write unix:/run/farpool.sock)'],
    [`unix:/${'x'.repeat(107)}`, '(its path has 108 bytes, and may have '],
    ['two words:1', FORMS],
    [' host:1', FORMS],
    ['user@host:1', FORMS],
    [undefined, 'address is undefined; '],
    [50051, 'address is 50051; '],
  ])('cannot be %j', (address, fault) => {
    expect(() => checkAddress('address', address)).toThrow(FORMS)
    expect(() => checkAddress('address', address)).toThrow(fault)
  })

  it('has port 0 only where a server listens', () => {
    expect(() => checkAddress('listen', '127.0.0.1:0')).not.toThrow()
    expect(() => checkAddress('address', '127.0.0.1:0')).toThrow('the port is a number from 1 to 65535')
  })

  it.each([
    ['localhost:1', true],
    ['LOCALHOST:1', true],
    ['db.localhost:1', true],
    ['127.1.2.3:1', true],
    ['[::1]:1', true],
    ['dns:///localhost:1', true],
    ['unix:/x', true],
    ['localhost.example.org:1', false],
    ['10.0.0.1:1', false],
    ['0.0.0.0:1', false],
    ['ipv4:127.0.0.1:1,127.0.0.1:2', true],
    ['ipv4:127.0.0.1:1,10.0.0.1:2', false],
    ['ipv6:[::1]:1', true],
  ])('%s is of this machine alone: %s', (address, isIt) => {
    expect(isLoopback(address)).toBe(isIt)
  })

  it.each([
    ['unix:/run/x', '/run/x'],
    ['unix:///run/x', '/run/x'],
    ['unix:x', 'x'],
    ['host:1', undefined],
  ])('%s has the path %s', (address, path) => {
    expect(socketPath(address)).toBe(path)
  })

  it.each([
    ['localhost:50051', 'localhost'],
    ['10.0.0.1:1', '10.0.0.1'],
    ['[::1]:1', '::1'],
    ['dns:name:1', 'name'],
    ['dns:///name.example:1', 'name.example'],
    ['dns://8.8.8.8/name:1', 'name'],
    ['unix:/run/x', 'localhost'],
    ['ipv4:10.0.0.1:1,10.0.0.2:1', undefined],
    ['ipv6:[::1]:1', undefined],
  ])('%s has the host %s', (address, host) => {
    expect(hostOf(address)).toBe(host)
  })

  it.each([
    ['example.org:1', true],
    ['10.0.0.1:1', true],
    ['localhost:1', false],
    ['unix:/x', false],
    ['ipv4:10.0.0.1:1,10.0.0.2:1', false],
    ['0.0.0.0:1', false],
  ])('%s may be reached through a proxy: %s', (address, may) => {
    expect(mayUseProxy(address)).toBe(may)
  })

  it.each([
    ['0.0.0.0:50051', '127.0.0.1:50051'],
    ['[::]:50051', '127.0.0.1:50051'],
    ['10.0.0.1:50051', '10.0.0.1:50051'],
    ['unix:/x', 'unix:/x'],
  ])('on which a server listens, %s, is reached at %s', (listen, address) => {
    expect(reachedAt(listen)).toBe(address)
  })
})
