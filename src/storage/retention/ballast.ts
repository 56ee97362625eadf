import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import { sqlState } from '../pg/faults.ts';

/**
 * Space that is taken while there is plenty, and freed when the disk is full: acks, the lease and
 * the drops of segments then have room.
 */
const ballastBytes = 8 * 1_048_576;
const pieceBytes = 1_048_576;
const probeBytes = 65_536;

/** Random bytes as text, because a file system may compress others. They are about $1 long. */
const noise = `SELECT decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, $1 / 16)`;

/** Takes the ballast, unless it is there. */
export async function makeBallast(client: Client): Promise<void> {
  const { rows } = await client.query<{ bytes: number }>(
    'SELECT coalesce(sum(octet_length(bytes)), 0)::float8 AS bytes FROM millrace.ballast',
  );
  for (let bytes = rows[0]?.bytes ?? 0; bytes < ballastBytes; bytes += pieceBytes) {
    await client.query(`INSERT INTO millrace.ballast (bytes) ${noise}`, [pieceBytes]);
  }
}

/** A truncated table gives its file back, which a DELETE does not. */
export async function freeBallast(client: Client): Promise<void> {
  await client.query("SET LOCAL lock_timeout = '2s'");
  await client.query('TRUNCATE millrace.ballast');
}

/**
 * Takes space in a transaction that is rolled back: a little, or twice the ballast. The truncated
 * table gets a new file, which goes with the rollback.
 */
export async function takeSpace(client: Client, size: 'PROBE' | 'BALLAST'): Promise<void> {
  await freeBallast(client);
  const bytes = size === 'PROBE' ? probeBytes : 2 * ballastBytes;
  for (let taken = 0; taken < bytes; taken += pieceBytes) {
    await client.query(`INSERT INTO millrace.ballast (bytes) ${noise}`, [Math.min(bytes, pieceBytes)]);
  }
}

/** Whether the database had no space for a write. */
export function isDiskFull(error: unknown): boolean {
  if (!(error instanceof Fault)) return false;
  const state = sqlState(error.cause);
  return state === '53100' || (state === '58030' && /No space left/.test(error.message));
}
