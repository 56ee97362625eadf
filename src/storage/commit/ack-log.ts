import type { Client } from 'pg';
import type { AckTable } from '../../commit/ack-ring.ts';
import type { AckRow } from '../../commit/store.ts';
import type { CommitMetadata } from '../../consumption/partitioned/cursor.ts';
import { parseArrayLiteral } from '../pg/array-literal.ts';
import type { DeltaSums } from './delta-sums.ts';
import { parsedAttempts, storedAttempts } from './stored-attempts.ts';
import { eachRow } from '../pg/each-row.ts';
import { bigintArray, integerArray, textArray } from '../pg/number-array.ts';
import type { Statement } from '../pg/one-round-trip.ts';
import type { Fence } from '../sessions/fence.ts';
import { present } from '../../errors/present.ts';
import { oneRow } from '../pg/one-row.ts';

type Deltas = AckRow['deltas'];

/** The fenced statement that appends a row, beside the batches of an append or alone. */
export function ackStatement(fence: Fence, { table, deltas, receipts }: AckRow): Statement {
  const notes = notesOf(deltas);
  const attempts = deltas.map(({ delta }) => (delta.attempts.length === 0 ? none : storedAttempts(delta.attempts)));
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
      bigintArray(flat(deltas.map(({ delta }) => delta.acked)), itself),
      integerArray(attempts, ({ length }) => length),
      bigintArray(flat(attempts), itself),
      integerArray(anyReset ? deltas : [], ({ delta }) => delta.resets),
      integerArray(notes, ({ at }) => at),
      bigintArray(notes, ({ note }) => note.seq),
      textArray(notes.map(({ note }) => note.text)),
      textArray(receipts),
    ],
  };
}

export async function findReceipt(client: Client, table: AckTable, receipt: string): Promise<boolean> {
  const answer = await client.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM millrace.ack_log_${table} WHERE $1 = ANY (receipts)) AS found`,
    [receipt],
  );
  return oneRow(answer).found;
}

const itself = (value: number): number => value;
const none: readonly number[] = [];

/** Nearly all of thousands of arrays are empty, so a loop is cheaper than `flat`. */
function flat(arrays: readonly (readonly number[])[]): number[] {
  const all: number[] = [];
  for (const array of arrays) for (const value of array) all.push(value);
  return all;
}

function notesOf(deltas: Deltas): { readonly at: number; readonly note: CommitMetadata }[] {
  const notes: { at: number; note: CommitMetadata }[] = [];
  for (const [at, { delta }] of deltas.entries()) if (delta.metadata !== null) notes.push({ at, note: delta.metadata });
  return notes;
}

/** Arrays of numbers as text; the last column has the texts of the metadata, parsed from JSON. */
type Row = [...numbers: string[], metadata: string[]];

/**
 * Adds the rounds of one table to `sums`. One round is in memory at a time, because all together
 * may exceed the memory of the broker. @returns the number of rounds.
 */
export async function readRounds(client: Client, table: AckTable, sums: DeltaSums): Promise<number> {
  let count = 0;
  await eachRow<Row>(
    client,
    {
      name: `read_rounds_${table}`,
      values: [],
      text: `SELECT subscription_ids::text, partitions::text, lanes::text, committed_offsets::text,
                    acked_counts::text, acked::text, attempt_counts::text, attempts::text,
                    resets::text, metadata_at::text, metadata_seqs::text, to_json(metadata)
               FROM millrace.ack_log_${table}`,
    },
    (row) => {
      readRound(row, sums);
      count++;
    },
  );
  return count;
}

const complete = 'the arrays of a row of the ack log have a value for each of its cursors';

function readRound(row: Row, sums: DeltaSums): void {
  const numbers = (row.slice(0, -1) as string[]).map(parseArrayLiteral);
  const [subscriptionIds, partitions, lanes, committedOffsets, ackedCounts, acked, attemptCounts, attempts] =
    numbers as [number[], number[], number[], number[], number[], number[], number[], number[]];
  const [resets, metadataAt, metadataSeqs] = numbers.slice(8) as [number[], number[], number[]];
  const texts = row.at(-1) as string[];
  const notes = new Map(
    metadataAt.map((at, n) => [at, { seq: present(metadataSeqs[n], complete), text: present(texts[n], complete) }]),
  );
  let ackedAt = 0;
  let attemptsAt = 0;
  subscriptionIds.forEach((subscriptionId, at) => {
    const key = {
      subscriptionId,
      partition: present(partitions[at], complete),
      lane: present(lanes[at], complete),
    };
    const delta = {
      resets: resets[at] ?? 0,
      metadata: notes.get(at) ?? null,
      committedOffset: present(committedOffsets[at], complete),
      acked: acked.slice(ackedAt, (ackedAt += present(ackedCounts[at], complete))),
      attempts: parsedAttempts(attempts.slice(attemptsAt, (attemptsAt += present(attemptCounts[at], complete)))),
    };
    sums.add(key, delta);
  });
}

/** Truncates a table. `lockTimeoutMs` bounds the wait for a reader, such as a backup. */
export async function truncateRounds(client: Client, table: AckTable, lockTimeoutMs: number): Promise<void> {
  await client.query(`SET LOCAL lock_timeout = ${lockTimeoutMs}`);
  await client.query(`TRUNCATE millrace.ack_log_${table}`);
}
