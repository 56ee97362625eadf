import { describe, expect, test } from 'vitest';
import { parseDatabaseAddress, WrongAddress, type DatabaseAddress } from '../../src/address/database-address.ts';

const plain: DatabaseAddress = {
  hosts: [{ host: 'localhost', port: 5432 }],
  user: null,
  password: null,
  database: null,
  tls: { mode: 'prefer', rootCert: null, cert: null, key: null },
  connectTimeoutMs: 5_000,
};

const hostsOf = (url: string) => parseDatabaseAddress(url).hosts.map(({ host, port }) => `${host} ${port}`);

function refusal(url: string): string {
  try {
    parseDatabaseAddress(url);
  } catch (error) {
    expect(error).toBeInstanceOf(WrongAddress);
    return (error as Error).message;
  }
  return expect.unreachable(`${url} was taken`);
}

test('what a connection string does not say has one default, whatever the environment says', () => {
  expect(parseDatabaseAddress('postgresql://')).toEqual(plain);
  expect(parseDatabaseAddress('postgres:///')).toEqual(plain);
});

test('every part of a connection string arrives where it belongs', () => {
  expect(parseDatabaseAddress('postgresql://me:secret@db.example:6432/orders?sslmode=disable')).toEqual({
    ...plain,
    hosts: [{ host: 'db.example', port: 6432 }],
    user: 'me',
    password: 'secret',
    database: 'orders',
    tls: { ...plain.tls, mode: 'disable' },
  });
});

test.each([
  ['postgresql://h/a%26b', 'a&b'],
  ['postgresql://h/a%23b', 'a#b'],
  ['postgresql://h/a%2Fb', 'a/b'],
  ['postgresql://h/a/b', 'a/b'],
  ['postgresql://h/a&b', 'a&b'],
  ['postgresql://h/a%3Fb', 'a?b'],
  ['postgresql://h/a%25b', 'a%b'],
  ['postgresql://h/a+b', 'a+b'],
  ['postgresql://h/?dbname=a%26b%3Dc', 'a&b=c'],
  ['postgresql://h/%C3%BC', 'ü'],
])('the database of %s is the one that is meant', (url, database) => {
  expect(parseDatabaseAddress(url).database).toBe(database);
});

test('a user and a password of any characters arrive as they were percent-encoded', () => {
  const characters = 'a:b@c/d?e#f&g%h ü';
  const encoded = encodeURIComponent(characters);
  const address = parseDatabaseAddress(`postgresql://${encoded}:${encoded}@h/`);
  expect([address.user, address.password]).toEqual([characters, characters]);
  expect(parseDatabaseAddress('postgresql://u:p@ss@h/d')).toMatchObject({ user: 'u', password: 'p@ss' });
  expect(parseDatabaseAddress('postgresql://h/?user=u&password=p')).toMatchObject({ user: 'u', password: 'p' });
});

describe('hosts', () => {
  test.each([
    ['postgresql://a', ['a 5432']],
    ['postgresql://a:1,b:2,c/d', ['a 1', 'b 2', 'c 5432']],
    ['postgresql://[::1]:7,[fe80::1]/', ['::1 7', 'fe80::1 5432']],
    ['postgresql://:6000/', ['localhost 6000']],
    ['postgresql:///?host=a,b&port=1,2', ['a 1', 'b 2']],
    ['postgresql:///?host=a,b&port=1', ['a 1', 'b 1']],
    ['postgresql:///?host=/run/postgresql', ['/run/postgresql 5432']],
    ['postgresql://%2Frun%2Fpostgresql:6000/d', ['/run/postgresql 6000']],
    ['postgresql://127.0.0.1:6000/d?host=%2Fdata%2Fa%20b', ['/data/a b 6000']],
  ])('%s are tried in the order in which they are named', (url, hosts) => {
    expect(hostsOf(url)).toEqual(hosts);
  });
});

test('TLS is asked for by the names that libpq has for it', () => {
  const { tls } = parseDatabaseAddress('postgresql://h/?sslmode=verify-full&sslrootcert=%2Fca&sslcert=/c&sslkey=/k');
  expect(tls).toEqual({ mode: 'verify-full', rootCert: '/ca', cert: '/c', key: '/k' });
  expect(parseDatabaseAddress('postgresql://h/?ssl=true').tls.mode).toBe('require');
});

test('a limit of time and the demand for a writable server are understood', () => {
  const url = 'postgresql://a,b/?connect_timeout=2&target_session_attrs=read-write';
  expect(parseDatabaseAddress(url).connectTimeoutMs).toBe(2_000);
});

test.each([
  'application_name=x',
  'options=-c%20statement_timeout%3D60s',
  'statement_timeout=1',
  'search_path=public',
  'client_encoding=latin1',
  'sslnegotiation=direct',
  'replication=database',
  'passfile=/x',
  'service=x',
  'channel_binding=require',
])('a parameter that would change what sessions rely on is refused by its name: %s', (parameter) => {
  const [name] = parameter.split('=');
  expect(refusal(`postgresql://u:secret@h/d?${parameter}`)).toMatch(
    new RegExp(`^the parameter "${name}" is not one of`),
  );
});

test.each([
  ['', /is not of the form/],
  ['mysql://h/d', /is not of the form/],
  ['host=h dbname=d', /is not of the form/],
  ['postgresql://u:secret@h/a#b', /a # in it is written %23/],
  ['postgresql://u:secret@h:port/d', /a host that is not of the form host, host:port/],
  ['postgresql://u:secret@h:70000/d', /"70000" is not a port/],
  ['postgresql://u:secret@h:0/d', /"0" is not a port/],
  ['postgresql://u:secret@::1/d', /a host that is not of the form/],
  ['postgresql://u:12/secret@h/d', /has an @ behind/],
  ['postgresql://u:12?secret@h/d', /has an @ behind/],
  ['postgresql://u:secret%@h/d', /the password has a %/],
  ['postgresql://u:secret@h/d%00', /zero byte/],
  ['postgresql://u:secret@h/d?sslmode', /"sslmode" has no value/],
  ['postgresql://u:secret@h/d?sslmode=no-verify', /sslmode is one of disable.*not "no-verify"/],
  ['postgresql://u:secret@h/d?sslmode=require&sslmode=disable', /"sslmode" is given twice/],
  ['postgresql://u:secret@h/d?sslcert=/c', /sslcert and sslkey belong together/],
  ['postgresql://u:secret@h/d?target_session_attrs=any', /may only be read-write/],
  ['postgresql://u:secret@h/d?connect_timeout=0', /connect_timeout is a number of seconds/],
  ['postgresql://u:secret@a,b,c/d?port=1,2', /names 3 hosts and 2 ports/],
  ['postgresql://u:secret@h/d?ssl=1', /"ssl" may only be true/],
])('%s is refused with one line that does not repeat the password', (url, message) => {
  const said = refusal(url);
  expect(said).toMatch(message);
  expect(said).not.toMatch(/secret|\n/);
});
