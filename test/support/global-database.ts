import { constants } from 'node:fs';
import { access, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../src/embedded/embedded.ts';
import { migrate } from '../../src/storage/migrations/migrate.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A server on which tests may make databases (test/support/database.ts). */
    databaseServerUrl: string;
    /** The SQL behind CREATE DATABASE that makes a copy of a migrated database. */
    likeMigrated: string;
  }
}

interface Server {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * One PostgreSQL for the whole run: the one that TEST_DATABASE_URL names, a container with
 * TEST_POSTGRES=container, and by default an embedded one in a temporary directory.
 */
export default async function globalDatabase(project: TestProject): Promise<() => Promise<void>> {
  // The workers, and all that they start, take the environment of this process.
  process.env['NODE_COMPILE_CACHE'] ??= fileURLToPath(new URL('../../node_modules/.cache/node', import.meta.url));
  const inMemory = await hasRoom(memoryDirectory);
  if (inMemory) process.env['TMPDIR'] = memoryDirectory;
  const server = await startServer(process.env);
  project.provide('databaseServerUrl', server.url);
  const template = `template_${process.pid}`;
  await makeTemplate(server.url, template);
  // A copy of files waits for a checkpoint, which waits for the disk.
  project.provide('likeMigrated', `TEMPLATE ${template} STRATEGY ${inMemory ? 'FILE_COPY' : 'WAL_LOG'}`);
  return async () => {
    await onServer(server.url, (client) => client.query(`DROP DATABASE ${template}`));
    await server.stop();
  };
}

async function makeTemplate(serverUrl: string, name: string): Promise<void> {
  await onServer(serverUrl, (client) => client.query(`CREATE DATABASE ${name}`));
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await onServer(url.href, migrate);
}

async function onServer(url: string, run: (client: Client) => Promise<unknown>): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await run(client);
  } finally {
    await client.end();
  }
}

/**
 * Where Linux keeps files in memory. No test cuts the power, so a sync of a disk would prove
 * nothing and take most of the time of many tests.
 */
const memoryDirectory = '/dev/shm';
const roomBytes = 6 * 1_024 ** 3;

/** Whether a directory has room for all databases of a run, and runs programs. */
async function hasRoom(directory: string): Promise<boolean> {
  const program = join(directory, `millrace-probe-${process.pid}`);
  try {
    const { bavail, bsize } = await statfs(directory);
    if (Math.min(bavail * bsize, process.availableMemory()) < roomBytes) return false;
    await writeFile(program, '', { mode: 0o700 });
    await access(program, constants.X_OK);
    return true;
  } catch {
    return false;
  } finally {
    await rm(program, { force: true });
  }
}

async function startServer(env: NodeJS.ProcessEnv): Promise<Server> {
  const given = env['TEST_DATABASE_URL'];
  if (given) return { url: given, stop: () => Promise.resolve() };
  return env['TEST_POSTGRES'] === 'container' ? startContainer() : startEmbedded();
}

async function startEmbedded(): Promise<Server> {
  const dataDir = await mkdtemp(join(tmpdir(), 'millrace-test-'));
  const server = await startEmbeddedPostgres({
    dataDir,
    log: { info: () => undefined, warn: () => undefined },
    // Tests are many small databases: little WAL, and connections of several brokers at once.
    settings: { max_connections: '300', min_wal_size: '80MB', max_wal_size: '512MB', shared_buffers: '128MB' },
    walBytes: 0,
  });
  return {
    url: server.connectionString,
    async stop() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function startContainer(): Promise<Server> {
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const container = await new PostgreSqlContainer('postgres:18').withCommand(['-c', 'max_connections=300']).start();
  return {
    url: container.getConnectionUri(),
    async stop() {
      await container.stop();
    },
  };
}
