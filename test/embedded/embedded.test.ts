import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client } from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startEmbeddedPostgres } from '../../src/embedded/embedded.ts';
import { copyBinaries, findBinaries, linkLibraries } from '../../src/embedded/binaries.ts';
import { ownUser, unprivilegedAccount } from '../../src/embedded/identity.ts';

type EmbeddedPostgres = Awaited<ReturnType<typeof startEmbeddedPostgres>>;

const isRoot = ownUser().uid === 0;
const processFile = new URL('embedded-process.ts', import.meta.url).pathname;

interface Started {
  readonly url: string;
  readonly pid: number;
  readonly warnings: readonly string[];
  readonly process: ChildProcess;
}

let directory = '';
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'millrace-embedded-'));
  await chmod(directory, 0o755);
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  await rm(directory, { recursive: true, force: true });
});

async function start(dataDir = directory): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    dataDir,
    log: { info: () => undefined, warn: () => undefined },
    settings: { shared_buffers: '16MB' },
    walBytes: 32 * 1024 * 1024,
  });
  cleanups.push(() => server.stop());
  return server;
}

/** Starts PostgreSQL in a process of its own; `env` can hide the tools of Linux from it. */
async function startProcess(
  options: { dataDir?: string; env?: Record<string, string>; uid?: number; gid?: number } = {},
): Promise<Started | { error: string }> {
  const { dataDir = directory, env = {}, ...user } = options;
  const child = spawn(process.execPath, [processFile, dataDir], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
    ...user,
  });
  cleanups.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const answer = JSON.parse(line) as Omit<Started, 'process'> | { error: string };
  return 'error' in answer ? answer : { ...answer, process: child };
}

function started(answer: Started | { error: string }): Started {
  if ('error' in answer) throw new Error(answer.error);
  return answer;
}

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function stopped(broker: Started): Promise<void> {
  broker.process.kill('SIGTERM');
  await once(broker.process, 'exit');
}

async function kill9(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

/** A zombie is not alive: where no init process collects orphans it stays for good. */
async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${String(pid)}/stat`, 'utf8').catch(() => null);
  return status !== null && !/^\d+ \(.*\) Z /.test(status);
}

test('a fresh directory becomes a durable, checksummed cluster that asks for a password', async () => {
  const server = await start();
  const settings = await query(
    server.connectionString,
    `SELECT name, setting FROM pg_settings WHERE name IN
      ('fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums', 'server_encoding', 'password_encryption')`,
  );
  expect(Object.fromEntries(settings.map((row) => [row['name'], row['setting']]))).toEqual({
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    data_checksums: 'on',
    server_encoding: 'UTF8',
    password_encryption: 'scram-sha-256',
  });
  const wrong = new URL(server.connectionString);
  wrong.password = 'guess';
  await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/);
  expect((await stat(join(directory, 'password'))).mode & 0o777).toBe(0o600);
});

test('the broker reaches its database through a socket, others through a port; a deep directory has the port only', async () => {
  const inet = 'SELECT inet_server_addr() IS NULL AS local';
  const server = await start();
  expect(await query(server.brokerConnectionString, inet)).toEqual([{ local: true }]);
  expect(await query(server.connectionString, inet)).toEqual([{ local: false }]);
  const deep = await start(join(directory, 'a'.repeat(100)));
  expect(deep.brokerConnectionString).toBe(deep.connectionString);
  expect(await query(deep.connectionString, inet)).toEqual([{ local: false }]);
});

test('WAL segments laid out ahead are used and survive a switch through all of them', async () => {
  const server = await start();
  await query(server.connectionString, 'CREATE TABLE t (v int)');
  for (let segment = 0; segment < 4; segment++) {
    await query(server.connectionString, `INSERT INTO t VALUES (${String(segment)})`);
    await query(server.connectionString, 'SELECT pg_switch_wal()');
  }
  await server.stop();
  const again = await start();
  expect(await query(again.connectionString, 'SELECT sum(v)::int AS sum FROM t')).toEqual([{ sum: 6 }]);
});

test('a restart keeps the data, the password and the port', async () => {
  const first = await start();
  await query(first.connectionString, 'CREATE TABLE kept AS SELECT 7 AS v');
  await first.stop();
  await first.stop();
  const second = await start();
  expect(second.connectionString).toBe(first.connectionString);
  expect(await query(second.connectionString, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test('a second broker on the same directory is refused with the process that holds it', async () => {
  const first = await start();
  const refused = `another broker (process ${String(process.pid)}) is using the data directory ${directory}`;
  await expect(start()).rejects.toThrow(refused);
  expect(await startProcess()).toEqual({ error: expect.stringContaining(refused) as string });
  expect(await query(first.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('kill -9 of a broker loses nothing that was committed, and its server does not stay', async () => {
  const broker = started(await startProcess());
  await query(broker.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  await kill9(broker.process);
  const next = started(await startProcess());
  expect(await isAlive(broker.pid)).toBe(false);
  expect(await query(next.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test('a server that outlived its killed broker is stopped by the next start', async () => {
  // Without setpriv nothing tells the server that its broker is gone.
  const broker = started(await startProcess({ env: { PATH: '/nonexistent' } }));
  await query(broker.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  await kill9(broker.process);
  expect(await isAlive(broker.pid)).toBe(true);
  const next = started(await startProcess());
  expect(await isAlive(broker.pid)).toBe(false);
  expect(next.warnings).toEqual([expect.stringContaining(`process ${String(broker.pid)}`)]);
  expect(await query(next.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test('kill -9 of broker and server at once is recovered from, although the old pid file is still there', async () => {
  const broker = started(await startProcess());
  await query(broker.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  process.kill(broker.pid, 'SIGKILL');
  await kill9(broker.process);
  expect(await readFile(join(directory, 'postgres', 'postmaster.pid'), 'utf8')).toContain(String(broker.pid));
  const next = started(await startProcess());
  expect(await query(next.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test("a pid file that names somebody else's process neither kills it nor stops the start", async () => {
  await (await start()).stop();
  const bystander = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  cleanups.push(() => kill9(bystander));
  const cluster = join(directory, 'postgres');
  await writeFile(join(cluster, 'postmaster.pid'), `${String(bystander.pid)}\n${cluster}\n`);
  const server = await start();
  expect(await query(server.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  expect(bystander.exitCode ?? bystander.signalCode).toBeNull();
});

test('a server that dies under a running broker comes back on the same port', async () => {
  const server = await start();
  const before = server.pid;
  process.kill(before, 'SIGKILL');
  await expect
    .poll(() => query(server.connectionString, 'SELECT 1 AS one').catch(() => null), { timeout: 20_000 })
    .toEqual([{ one: 1 }]);
  expect(server.pid).not.toBe(before);
});

test('a failed start frees the directory and leaves no server', async () => {
  await (await start()).stop();
  const config = join(directory, 'postgres', 'postgresql.conf');
  const good = await readFile(config, 'utf8');
  await writeFile(config, `${good}\nno_such_setting = 1\n`);
  await expect(start()).rejects.toThrow(/PostgreSQL did not start: .*no_such_setting/);
  await writeFile(config, good);
  const server = await start();
  expect(await query(server.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('an initdb that was killed half-way is done again', async () => {
  await (await start()).stop();
  const cluster = join(directory, 'postgres');
  await rename(cluster, `${cluster}.new`);
  const server = await start();
  expect(await query(server.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('a lost password file is named in the error', async () => {
  await (await start()).stop();
  await rm(join(directory, 'password'));
  await expect(start()).rejects.toThrow(join(directory, 'password'));
});

test('a data directory that cannot be one is named in the error', async () => {
  const file = join(directory, 'file');
  await writeFile(file, '');
  await expect(start(file)).rejects.toThrow(`cannot make the data directory ${file}`);
  await mkdir(join(directory, 'broker.lock'));
  await expect(start()).rejects.toThrow(`cannot lock the data directory ${directory}`);
});

test.runIf(isRoot)('root keeps its data below a directory that nobody else can enter', async () => {
  await chmod(directory, 0o700);
  const dataDir = join(directory, 'data');
  const first = started(await startProcess({ dataDir }));
  await query(first.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  await stopped(first);
  expect(await isAlive(first.pid)).toBe(false);
  const second = started(await startProcess({ dataDir }));
  expect(await query(second.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test.runIf(isRoot)('root without user namespaces gets a cluster elsewhere, and finds it again', async () => {
  await chmod(directory, 0o700);
  const dataDir = join(directory, 'data');
  const env = { PATH: '/nonexistent' };
  const first = started(await startProcess({ dataDir, env }));
  const location = (await readFile(join(dataDir, 'location'), 'utf8')).trim();
  cleanups.unshift(() => rm(location, { recursive: true, force: true }));
  await query(first.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  await stopped(first);
  // Namespaces are back: the data must not seem lost.
  const second = started(await startProcess({ dataDir }));
  expect(await query(second.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test.runIf(isRoot)("a directory of an ordinary user, started once by root, stays that user's", async () => {
  const { uid, gid } = (await unprivilegedAccount()) ?? { uid: -1, gid: -1 };
  await chown(directory, uid, gid);
  const first = started(await startProcess({ uid, gid }));
  await query(first.url, 'CREATE TABLE kept AS SELECT 7 AS v');
  await stopped(first);
  await stopped(started(await startProcess()));
  const third = started(await startProcess({ uid, gid }));
  expect(await query(third.url, 'SELECT v FROM kept')).toEqual([{ v: 7 }]);
});

test('links that blocked install scripts did not make are made, in a copy where the package is read-only', async () => {
  const binaries = await findBinaries();
  const native = join(directory, 'package', 'native');
  await mkdir(join(native, 'lib'), { recursive: true });
  const links = [{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }];
  await writeFile(join(native, 'pg-symlinks.json'), JSON.stringify(links));
  await writeFile(join(native, 'lib', 'libpq.so.5.18'), 'library');
  const bare = { ...binaries, root: native };
  expect(await Promise.all([linkLibraries(bare), linkLibraries(bare)])).toEqual([true, true]);
  expect(await readFile(join(native, 'lib', 'libpq.so.5'), 'utf8')).toBe('library');
  const copy = await copyBinaries(bare, join(directory, 'copy'));
  expect(await readFile(join(copy.root, 'lib', 'libpq.so.5'), 'utf8')).toBe('library');
});
