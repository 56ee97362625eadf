import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../src/embedded/embedded.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** A server on which tests may make databases (test/support/database.ts). */
    databaseServerUrl: string;
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
  const server = await startServer(process.env);
  project.provide('databaseServerUrl', server.url);
  return () => server.stop();
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
