import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import type { Client } from 'pg';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { parseDatabaseAddress } from '../../../src/address/database-address.ts';
import { ServerChoice } from '../../../src/storage/sessions/server-choice.ts';
import { openSession } from '../../../src/storage/sessions/session.ts';
import { systemClock } from '../../../src/time/system.ts';
import { PlainServer } from '../../support/plain-server.ts';

const execute = promisify(execFile);

let directory: string;
/**
 * Its certificate is for db.example and 127.0.0.1, from our own authority. Clients with a
 * certificate need no password.
 */
let server: PlainServer;
let plain: PlainServer;
const file = (name: string): string => join(directory, name);

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-tls-'));
  await Promise.all([authority('ca'), authority('other')]);
  await certificate('server', 'db.example', 'subjectAltName=DNS:db.example');
  await certificate('client', 'millrace', '');
  [server, plain] = await Promise.all([PlainServer.make(), PlainServer.make()]);
  await writeFile(
    file('hba'),
    'hostssl postgres all 127.0.0.1/32 scram-sha-256\nhostnossl template1 all 127.0.0.1/32 scram-sha-256\n',
  );
  for (const name of ['server.crt', 'server.key', 'ca.crt']) await server.put(name, file(name), 0o600);
  await server.put('pg_hba.conf', file('hba'), 0o600);
  await Promise.all([server.start({ ssl: 'on', ssl_ca_file: 'ca.crt' }), plain.start()]);
}, 180_000);
afterAll(async () => {
  await Promise.all([server.close(), plain.close()]);
  await rm(directory, { recursive: true, force: true });
});
afterEach(() => {
  vi.unstubAllEnvs();
});

/** Throws an error that names the package to install if openssl is missing. */
async function openssl(...flags: readonly string[]): Promise<void> {
  await execute('openssl', flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    throw new Error('the certificates of this test need openssl: apt-get install openssl', { cause: error });
  });
}

async function authority(name: string): Promise<void> {
  const subject = ['-subj', `/CN=authority ${name}`, '-days', '30'];
  const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.crt`)];
  await openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...subject, ...out);
}

async function certificate(name: string, commonName: string, extension: string): Promise<void> {
  const [key, request, extensions] = [file(`${name}.key`), file(`${name}.csr`), file(`${name}.ext`)];
  await openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', `/CN=${commonName}`, '-keyout', key, '-out', request);
  await writeFile(extensions, extension);
  const by = ['-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '30'];
  await openssl('x509', '-req', '-in', request, ...by, '-extfile', extensions, '-out', file(`${name}.crt`));
}

interface Encrypted {
  readonly ssl: boolean;
  readonly client: string | null;
}

/** Opens a session. @returns whether it is encrypted, as the server shows it. */
async function encrypted(url: string): Promise<Encrypted> {
  const options = { address: parseDatabaseAddress(url), applicationName: 'millrace/one/test', clock: systemClock };
  const client: Client = await openSession(options, () => undefined);
  const { rows } = await client.query<Encrypted>(
    'SELECT ssl, client_dn AS client FROM pg_stat_ssl WHERE pid = pg_backend_pid()',
  );
  await client.end();
  return rows[0]!;
}

const at = (query: string, to = server, database = 'postgres'): string =>
  `postgresql://${to.login}@127.0.0.1:${to.port}/${database}?${query}`;
const refused = (url: string): Promise<string> =>
  encrypted(url).then(
    () => expect.unreachable('it was taken'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(Error);
      return (error as Error).message;
    },
  );

test.each([
  ['sslmode=require', true],
  ['sslmode=prefer', true],
  ['', true],
  ['sslmode=allow', true],
])('a server that requires TLS gets it unverified with %s', async (query, ssl) => {
  expect((await encrypted(at(query))).ssl).toBe(ssl);
});

test('a server without TLS is used in the modes that allow it, and rejected in the others', async () => {
  for (const query of ['', 'sslmode=prefer', 'sslmode=allow', 'sslmode=disable']) {
    expect((await encrypted(at(query, plain))).ssl).toBe(false);
  }
  for (const mode of ['require', 'verify-ca', 'verify-full']) {
    expect(await refused(at(`sslmode=${mode}`, plain))).toContain('The server does not support SSL connections');
  }
});

test('sslmode=prefer reaches a database that pg_hba.conf serves only without TLS', async () => {
  expect((await encrypted(at('sslmode=prefer', server, 'template1'))).ssl).toBe(false);
});

test('sslmode=disable does not fall back to TLS', async () => {
  expect(await refused(at('sslmode=disable'))).toContain('no pg_hba.conf entry');
});

test('a certificate is verified against the named authority, and the error names the mode', async () => {
  expect((await encrypted(at(`sslmode=verify-ca&sslrootcert=${file('ca.crt')}`))).ssl).toBe(true);
  for (const rootCert of [`&sslrootcert=${file('other.crt')}`, '&sslrootcert=system', '']) {
    const said = await refused(at(`sslmode=verify-ca${rootCert}`));
    expect(said).toMatch(/cannot be used by TLS \(sslmode=verify-ca\): .*certificate/);
  }
  // In libpq too, `require` verifies if an authority is named.
  expect(await refused(at(`sslmode=require&sslrootcert=${file('other.crt')}`))).toContain('certificate');
});

test('verify-full checks the host name, even after its address was looked up', async () => {
  const said = await refused(at(`sslmode=verify-full&sslrootcert=${file('ca.crt')}`));
  expect(said).toMatch(/sslmode=verify-full.*127\.0\.0\.1/);
  const named = at(`sslmode=verify-full&sslrootcert=${file('ca.crt')}`).replace('127.0.0.1', 'localhost');
  expect(await refused(named)).toMatch(/localhost.*db\.example/);
});

test('every session sends its host name, or a gateway for many databases could not choose one', async () => {
  const named: (string | false)[] = [];
  const gateway = createServer((socket) => {
    socket.on('error', () => undefined);
    // The client asks for TLS, and gets it.
    socket.once('data', () => {
      socket.write('S');
      const encrypted = new TLSSocket(socket, { isServer: true, cert: gatewayCert, key: gatewayKey });
      encrypted.on('error', () => undefined);
      encrypted.on('secure', () => {
        named.push((encrypted as TLSSocket & { readonly servername: string | false }).servername);
        const database = connect(plain.port, '127.0.0.1');
        database.on('error', () => undefined);
        encrypted.pipe(database).pipe(encrypted);
      });
    });
  });
  const [gatewayCert, gatewayKey] = await Promise.all([readFile(file('server.crt')), readFile(file('server.key'))]);
  await once(gateway.listen(0, '127.0.0.1'), 'listening');
  const { port } = gateway.address() as AddressInfo;
  const address = parseDatabaseAddress(`postgresql://${plain.login}@localhost:${port}/postgres?sslmode=require`);
  const options = { address, applicationName: 'millrace/one/test', clock: systemClock, server: new ServerChoice() };
  const lease = await openSession({ ...options, chooses: true }, () => undefined);
  // This session connects to the address of the first.
  const other = await openSession(options, () => undefined);
  expect(named).toEqual(['localhost', 'localhost']);
  await Promise.all([lease.end(), other.end()]);
  gateway.close();
});

test('a client certificate is sent to the server', async () => {
  const query = `sslmode=require&sslcert=${file('client.crt')}&sslkey=${file('client.key')}`;
  expect(await encrypted(at(query))).toEqual({ ssl: true, client: '/CN=millrace' });
});

test('an unreadable certificate file is named', async () => {
  expect(await refused(at('sslmode=verify-ca&sslrootcert=/no/such/file'))).toMatch(
    /sslrootcert cannot be read: .*\/no\/such\/file/,
  );
});

test('the environment neither disables verification nor adds a trusted authority', async () => {
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
  vi.stubEnv('PGSSLROOTCERT', file('ca.crt'));
  vi.stubEnv('PGSSLMODE', 'disable');
  expect(await refused(at(`sslmode=verify-ca&sslrootcert=${file('other.crt')}`))).toContain('certificate');
  expect(await refused(at('sslmode=verify-ca'))).toContain('certificate');
});
