import { Client } from 'pg';
import { inject } from 'vitest';
import { systemRandom } from '../../src/time/system.ts';

/** A database of its own on the run's server. */
export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Removes it, with whatever is still connected. May be called more than once. */
  drop(): Promise<void>;
}

/**
 * Makes an empty database. Drop it in `afterAll`; the run's server goes with the run, but others
 * share its disk till then.
 */
export function createTestDatabase(): Promise<TestDatabase> {
  return create('');
}

/** Makes a database that has the schema of this version and nothing else. */
export function createMigratedDatabase(): Promise<TestDatabase> {
  return create(inject('likeMigrated'));
}

async function create(options: string): Promise<TestDatabase> {
  const server = inject('databaseServerUrl');
  const name = `test_${systemRandom.uuid().replaceAll('-', '')}`;
  await execute(server, `CREATE DATABASE ${name} ${options}`);
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
