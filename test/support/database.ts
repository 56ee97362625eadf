import { Client } from 'pg';
import { inject } from 'vitest';
import { systemRandom } from '../../src/time/system.ts';

/** An empty database of its own on the run's server. */
export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Removes it, with whatever is still connected. May be called more than once. */
  drop(): Promise<void>;
}

/**
 * Makes a fresh database. Drop it in `afterAll`; the run's server goes with the run, but others
 * share its disk till then.
 */
export async function createTestDatabase(): Promise<TestDatabase> {
  const server = inject('databaseServerUrl');
  const name = `test_${systemRandom.uuid().replaceAll('-', '')}`;
  await execute(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return { url: url.href, name, drop: () => execute(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`) };
}

async function execute(url: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
