import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/embedded.ts';
import { parentOf, postgresUsage, programOf } from './measure/usage.ts';

/**
 * Bytes of WAL files that exist before a fresh cluster starts. Without them commits wait some 50 ms
 * at each new 16 MB while the server writes zeros, and the benchmark would measure that. An older
 * cluster renames old files instead. The full size is what `max_wal_size` lets a busy cluster keep.
 */
const walBytes = { smoke: 1024 ** 3, full: 4 * 1024 ** 3 };

export interface Database {
  /** Creates an empty database. @returns its connection string. */
  create(name: string): Promise<string>;
  drop(name: string): Promise<void>;
  /** Bytes of WAL that the cluster has written since its creation. */
  walBytes(): Promise<number>;
  /** The CPU time so far, and the current memory; null if the server is on another machine. */
  usage(): { readonly cpuMs: number; readonly memoryMib: number } | null;
  /** The settings that the figures depend on. */
  readonly settings: Readonly<Record<string, string>>;
  checkpoint(): Promise<void>;
  close(): Promise<void>;
}

/** Opens the given server, or starts an embedded one in a directory that is removed afterwards. */
export async function openDatabase(options: {
  readonly databaseUrl: string | null;
  readonly directory: string | null;
  readonly size: 'smoke' | 'full';
}): Promise<Database> {
  if (options.databaseUrl !== null) return connectDatabase(options.databaseUrl, () => Promise.resolve());
  const dataDir = await mkdtemp(join(options.directory ?? tmpdir(), 'millrace-bench-'));
  const server = await startEmbeddedPostgres({
    dataDir,
    walBytes: walBytes[options.size],
    log: { info: () => undefined, warn: (text: string) => process.stderr.write(`${text}\n`) },
  });
  return connectDatabase(server.brokerConnectionString, async () => {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  });
}

async function connectDatabase(url: string, release: () => Promise<void>): Promise<Database> {
  const admin = new pg.Client({ connectionString: url, application_name: 'millrace-bench' });
  // When its server goes away, an idle client emits an error, which would end the process.
  admin.on('error', () => undefined);
  await admin.connect();
  const postmasterPid = await findPostmaster(admin);
  const settings = await readSettings(admin);
  return {
    settings,
    create: async (name) => {
      await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`);
      const created = new URL(url);
      created.pathname = `/${name}`;
      return created.href;
    },
    drop: async (name) => {
      await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
    },
    walBytes: async () => {
      const { rows } = await admin.query<{ bytes: string }>(
        `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS bytes`,
      );
      return Number(rows[0]!.bytes);
    },
    usage: () => (postmasterPid === null ? null : postgresUsage(postmasterPid)),
    checkpoint: async () => {
      await admin.query('CHECKPOINT');
    },
    close: async () => {
      await admin.end();
      await release();
    },
  };
}

/**
 * The parent of this client's backend; null if no PostgreSQL process of this machine has that id.
 */
async function findPostmaster(admin: pg.Client): Promise<number | null> {
  const { rows } = await admin.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const pid = rows[0]!.pid;
  return programOf(pid)?.startsWith('postgres') === true ? parentOf(pid) : null;
}

async function readSettings(admin: pg.Client): Promise<Record<string, string>> {
  const names = [
    'server_version',
    'fsync',
    'synchronous_commit',
    'full_page_writes',
    'wal_level',
    'wal_sync_method',
    'wal_compression',
    'wal_buffers',
    'min_wal_size',
    'max_wal_size',
    'shared_buffers',
    'data_checksums',
  ];
  const { rows } = await admin.query<{ name: string; value: string }>(
    'SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS name',
    [names],
  );
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}
