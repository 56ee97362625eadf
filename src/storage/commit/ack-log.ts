import type { Client } from 'pg';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { AckRow } from '../../commit/store.ts';
import { cursorName } from '../../consumption/offsets/cursor-key.ts';
import type { CommitMetadata } from '../../consumption/partitioned/cursor.ts';
import { parseArrayLiteral } from '../pg/array-literal.ts';
import { DeltaSum } from './cursors.ts';
import { bigintArray, integerArray, textArray } from '../pg/number-array.ts';
import type { Statement } from '../pg/one-round-trip.ts';
import type { Fence } from '../sessions/fence.ts';

type Deltas = AckRow['deltas'];

/** Appends a row, fenced, in one statement: with what it is settled beside, or by itself. */
export function ackStatement(fence: Fence, { table, deltas, receipts }: AckRow): Statement {
  const notes = notesOf(deltas);
  const anyReset = deltas.some(({ delta }) => delta.resets > 0);
  return {
    name: 'append_acks',
    text: 'SELECT millrace.append_acks($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)',
    parameters: [
      fence.broker,
      fence.slot,
      fence.epoch(),
      table,
      integerArray(deltas, ({ key }) => key.subscriptionId),
      integerArray(deltas, ({ key }) => key.partition),
      integerArray(deltas, ({ key }) => key.lane),
      bigintArray(deltas, ({ delta }) => delta.committedOffset),
      integerArray(deltas, ({ delta }) => delta.acked.length),
      bigintArray(
        flat(deltas, ({ delta }) => delta.acked),
        itself,
      ),
      integerArray(deltas, ({ delta }) => delta.attempts.length),
      bigintArray(
        flat(deltas, ({ delta }) => delta.attempts),
        itself,
      ),
      integerArray(anyReset ? deltas : [], ({ delta }) => delta.resets),
      integerArray(notes, ({ at }) => at),
      bigintArray(notes, ({ note }) => note.seq),
      textArray(notes.map(({ note }) => note.text)),
      textArray(receipts),
    ],
  };
}

/** Whether a row with the receipt is in the table. */
export async function findReceipt(client: Client, table: AckTable, receipt: string): Promise<boolean> {
  const { rows } = await client.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM millrace.ack_log_${table} WHERE $1 = ANY (receipts)) AS found`,
    [receipt],
  );
  return rows[0]!.found;
}

const itself = (value: number): number => value;

/** Of nearly all of thousands of deltas there is nothing. */
function flat(deltas: Deltas, numbersOf: (delta: Deltas[number]) => readonly number[]): number[] {
  const all: number[] = [];
  for (const delta of deltas) for (const value of numbersOf(delta)) all.push(value);
  return all;
}

function notesOf(deltas: Deltas): { readonly at: number; readonly note: CommitMetadata }[] {
  const notes: { at: number; note: CommitMetadata }[] = [];
  for (const [at, { delta }] of deltas.entries()) if (delta.metadata !== null) notes.push({ at, note: delta.metadata });
  return notes;
}

/** Arrays of numbers as text, and at last the texts. */
type Row = [...numbers: string[], metadata: string[]];

/** Rounds that are in memory at once while the log is read: each may name 100,000 cursors. */
const fetchedTogether = 50;

/** Reads the rounds of one table into `sums`, by cursor. @returns how many rounds it has. */
export async function readRounds(client: Client, table: AckTable, sums: Map<string, DeltaSum>): Promise<number> {
  await client.query('BEGIN READ ONLY');
  try {
    await client.query(
      `DECLARE rounds NO SCROLL CURSOR FOR
       SELECT subscription_ids::text, partitions::text, lanes::text, committed_offsets::text,
              acked_counts::text, acked::text, attempt_counts::text, attempts::text,
              resets::text, metadata_at::text, metadata_seqs::text, metadata
         FROM millrace.ack_log_${table}`,
    );
    for (let count = 0; ;) {
      const { rows } = await client.query<Row>({ rowMode: 'array', text: `FETCH ${fetchedTogether} FROM rounds` });
      for (const row of rows) readRound(row, sums);
      count += rows.length;
      if (rows.length < fetchedTogether) return count;
    }
  } finally {
    await client.query('ROLLBACK');
  }
}

function readRound(row: Row, sums: Map<string, DeltaSum>): void {
  const numbers = (row.slice(0, -1) as string[]).map(parseArrayLiteral);
  const [subscriptionIds, partitions, lanes, committedOffsets, ackedCounts, acked, attemptCounts, attempts] =
    numbers as [number[], number[], number[], number[], number[], number[], number[], number[]];
  const [resets, metadataAt, metadataSeqs] = numbers.slice(8) as [number[], number[], number[]];
  const texts = row.at(-1) as string[];
  const notes = new Map(metadataAt.map((at, n) => [at, { seq: metadataSeqs[n]!, text: texts[n]! }]));
  let ackedAt = 0;
  let attemptsAt = 0;
  subscriptionIds.forEach((subscriptionId, at) => {
    const key = { subscriptionId, partition: partitions[at]!, lane: lanes[at]! };
    const name = cursorName(key);
    const delta = {
      resets: resets[at] ?? 0,
      metadata: notes.get(at) ?? null,
      committedOffset: committedOffsets[at]!,
      acked: acked.slice(ackedAt, (ackedAt += ackedCounts[at]!)),
      attempts: attempts.slice(attemptsAt, (attemptsAt += attemptCounts[at]!)),
    };
    let sum = sums.get(name);
    if (sum === undefined) sums.set(name, (sum = new DeltaSum(key, delta.resets)));
    sum.add(delta);
  });
}

/** Empties a table. `lockTimeoutMs` bounds the wait for whoever reads it, e.g. a backup. */
export async function truncateRounds(client: Client, table: AckTable, lockTimeoutMs: number): Promise<void> {
  await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
  await client.query(`TRUNCATE millrace.ack_log_${table}`);
}
