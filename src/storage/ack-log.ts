import type { Client } from 'pg';
import type { CursorDelta } from '../cursor/cursor.ts';
import { cursorName, type AckRound } from '../delivery/store.ts';
import { arrayLiteral, parseArrayLiteral } from './array-literal.ts';
import type { Fence } from './writer.ts';

/** The tables of the ack log: append-only, used in turn. */
export const ackLogTables = [0, 1, 2] as const;
export type AckLogTable = (typeof ackLogTables)[number];

/** Appends a round, fenced, in one statement. */
export async function appendRound(
  client: Client,
  fence: Fence,
  table: AckLogTable,
  { deltas }: AckRound,
): Promise<void> {
  await client.query({
    name: 'append_acks',
    text: 'SELECT millrace.append_acks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)',
    values: [
      fence.broker,
      fence.slot,
      fence.epoch(),
      table,
      arrayLiteral(deltas.map(({ key }) => key.subscriptionId)),
      arrayLiteral(deltas.map(({ key }) => key.partition)),
      arrayLiteral(deltas.map(({ key }) => key.lane)),
      arrayLiteral(deltas.map(({ delta }) => delta.committedOffset)),
      arrayLiteral(deltas.map(({ delta }) => delta.acked.length)),
      arrayLiteral(deltas.flatMap(({ delta }) => delta.acked)),
      arrayLiteral(deltas.map(({ delta }) => delta.attempts.length)),
      arrayLiteral(deltas.flatMap(({ delta }) => delta.attempts)),
    ],
  });
}

type Row = [string, string, string, string, string, string, string, string];

/** Reads the rounds of one table into `deltas`, by cursor. @returns whether there was any. */
export async function readRounds(
  client: Client,
  table: AckLogTable,
  deltas: Map<string, CursorDelta[]>,
): Promise<boolean> {
  const { rows } = await client.query<Row>({
    rowMode: 'array',
    text: `SELECT subscription_ids::text, partitions::text, lanes::text, committed_offsets::text,
                  acked_counts::text, acked::text, attempt_counts::text, attempts::text
             FROM millrace.ack_log_${table}`,
  });
  for (const row of rows) readRound(row, deltas);
  return rows.length > 0;
}

function readRound(row: Row, deltas: Map<string, CursorDelta[]>): void {
  const [subscriptionIds, partitions, lanes, committedOffsets, ackedCounts, acked, attemptCounts, attempts] = row.map(
    parseArrayLiteral,
  ) as [number[], number[], number[], number[], number[], number[], number[], number[]];
  let ackedAt = 0;
  let attemptsAt = 0;
  subscriptionIds.forEach((subscriptionId, at) => {
    const name = cursorName({ subscriptionId, partition: partitions[at]!, lane: lanes[at]! });
    const delta = {
      committedOffset: committedOffsets[at]!,
      acked: acked.slice(ackedAt, (ackedAt += ackedCounts[at]!)),
      attempts: attempts.slice(attemptsAt, (attemptsAt += attemptCounts[at]!)),
    };
    const known = deltas.get(name);
    if (known === undefined) deltas.set(name, [delta]);
    else known.push(delta);
  });
}

/** Empties a table. `lockTimeoutMs` bounds the wait for whoever reads it, e.g. a backup. */
export async function truncateRounds(client: Client, table: AckLogTable, lockTimeoutMs: number): Promise<void> {
  await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
  await client.query(`TRUNCATE millrace.ack_log_${table}`);
}
