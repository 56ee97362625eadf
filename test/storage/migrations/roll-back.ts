import { readdirSync, readFileSync } from 'node:fs';
import type { ClientBase } from 'pg';
import { appliedVersion } from '../../../src/storage/migrations/migrate.ts';

const folder = new URL('../../../drizzle/', import.meta.url);

/** The migrations in their folder, in order. Each has a way up and a way back. */
export const migrations = readdirSync(folder)
  .flatMap((file) => {
    const [, version, name] = /^(\d{4})_(\w+)\.up\.sql$/.exec(file) ?? [];
    if (version === undefined || name === undefined) return [];
    return [{ version: Number(version), name, down: new URL(file.replace('.up.', '.down.'), folder) }];
  })
  .sort((a, b) => a.version - b.version);

/**
 * Takes the schema back to a version by the ways back of the migrations, as an operator may. Fences
 * the owner first. Version 0 leaves an empty schema.
 */
export async function rollBack(client: ClientBase, toVersion: number): Promise<void> {
  for (const { version, down } of [...migrations].reverse()) {
    if (version <= toVersion || (await appliedVersion(client)) !== version) continue;
    await client.query('BEGIN');
    await client.query('DELETE FROM millrace.broker_fence');
    await client.query(readFileSync(down, 'utf8'));
    await client.query('DELETE FROM millrace.migrations WHERE version = $1', [version]);
    await client.query('COMMIT');
  }
}
