import { readdirSync, readFileSync } from 'node:fs';
import type { ClientBase } from 'pg';
import { oneRow } from '../pg/one-row.ts';
import { present } from '../../errors/present.ts';

const folder = new URL('../../../drizzle/', import.meta.url);
/**
 * Two brokers that start on a fresh database migrate one after the other. The number must never
 * change.
 */
const advisoryLock = 7_164_301;

interface Migration {
  readonly version: number;
  readonly name: string;
  readonly up: URL;
}

/**
 * The database cannot be used as it is. The message is one line, for the operator at the terminal.
 */
export class UnfitDatabase extends Error {
  override readonly name = 'UnfitDatabase';
}

/**
 * The migrations of this version in order: `drizzle/NNNN_name.up.sql`, each with its `.down.sql`.
 */
function migrations(): Migration[] {
  const names = readdirSync(folder)
    .map((file) => /^(\d{4})_(\w+)\.up\.sql$/.exec(file))
    .filter((match) => match !== null);
  return names
    .map(([file, version, name]) => ({
      version: Number(version),
      name: present(name, 'the name is a group of the pattern'),
      up: new URL(file, folder),
    }))
    .sort((a, b) => a.version - b.version);
}

/**
 * Runs the wait for the owner's writes in flight. The caller may end the sessions that block it.
 */
type WaitForWrites = (wait: () => Promise<void>) => Promise<void>;

/**
 * Brings the schema up to this version (or to `upTo`), each migration in a transaction of its own.
 *
 * @returns the versions that it applied.
 * @throws UnfitDatabase if the schema is newer than this version of Millrace.
 */
export async function migrate(
  client: ClientBase,
  upTo = Infinity,
  waitForWrites: WaitForWrites = (wait) => wait(),
): Promise<number[]> {
  const done: number[] = [];
  await inTransaction(client, async () => {
    // CREATE SCHEMA IF NOT EXISTS needs the right to create one, even if the schema exists.
    const answer = await client.query<{ there: boolean }>("SELECT to_regnamespace('millrace') IS NOT NULL AS there");
    if (!oneRow(answer).there) await client.query('CREATE SCHEMA millrace');
    await client.query(
      'CREATE TABLE IF NOT EXISTS millrace.migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())',
    );
  });
  for (const migration of migrations().filter(({ version }) => version <= upTo)) {
    await inTransaction(client, async () => {
      const applied = await appliedVersion(client);
      refuseNewerSchema(applied);
      if (applied >= migration.version) return;
      await waitForWrites(() => fenceOwner(client));
      await client.query(readFileSync(migration.up, 'utf8'));
      await client.query('INSERT INTO millrace.migrations (version, name) VALUES ($1, $2)', [
        migration.version,
        migration.name,
      ]);
      done.push(migration.version);
    });
  }
  return done;
}

export async function appliedVersion(client: ClientBase): Promise<number> {
  const answer = await client.query<{ version: number }>(
    'SELECT coalesce(max(version), 0) AS version FROM millrace.migrations',
  );
  return oneRow(answer).version;
}

/** Read once, because a standby compares it four times a second. */
let newestVersion: number | null = null;

/** @throws UnfitDatabase if a schema of that version is newer than this version of Millrace. */
export function refuseNewerSchema(version: number): void {
  newestVersion ??= migrations().at(-1)?.version ?? 0;
  if (version <= newestVersion) return;
  throw new UnfitDatabase(
    `the schema of the database has version ${version}, this Millrace knows ${newestVersion}: start a newer Millrace`,
  );
}

/**
 * Fences the owner, which writes to the old schema, from the commit of this transaction on. The
 * table lock waits for the owner's writes in flight. A later write waits for it without any lock
 * that the migration needs.
 */
async function fenceOwner(client: ClientBase): Promise<void> {
  const answer = await client.query<{ there: boolean }>(
    "SELECT to_regclass('millrace.broker_fence') IS NOT NULL AS there",
  );
  if (!oneRow(answer).there) return;
  await client.query('LOCK TABLE millrace.broker_fence IN EXCLUSIVE MODE');
  await client.query('DELETE FROM millrace.broker_fence');
}

async function inTransaction(client: ClientBase, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query('SELECT pg_advisory_xact_lock($1)', [advisoryLock]);
    await work();
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
