import type { Client } from 'pg';
import type { CursorSnapshot } from '../../consumption/partitioned/cursor.ts';
import type { CursorKey, StoredCursor } from '../../delivery/ports/store.ts';
import { arrayLiteral, nestedArrayLiteral, parseArrayLiteral } from '../pg/array-literal.ts';
import { eachRow } from '../pg/each-row.ts';
import { bigintArray, integerArray, textArray } from '../pg/number-array.ts';
import type { Statement } from '../pg/one-round-trip.ts';
import type { BinaryValue } from '../pg/parameter.ts';
import { parsedAttempts, storedAttempts } from './stored-attempts.ts';
import { present } from '../../errors/present.ts';

/**
 * The cursors of one subscription that have only a committed offset, or one cursor with all its
 * state. Arrays are text.
 */
type Row = [
  subscriptionId: number,
  partitions: string,
  lanes: string,
  committedOffsets: string,
  resets: string,
  acked: string | null,
  attempts: string | null,
  metadata: string | null,
  metadataSeq: string | null,
];

const isPlainRow = "c.acked = '{}' AND c.attempts = '{}' AND c.metadata IS NULL";

/** The columns of a row with one cursor. */
const oneCursor = `c.subscription_id, ARRAY[c.partition]::text, ARRAY[c.lane]::text, ARRAY[c.committed_offset]::text,
  ARRAY[c.resets]::text, c.acked::text, c.attempts::text, c.metadata, c.metadata_seq::text`;

/**
 * Reads the cursors of subscriptions, in no order. Cursors with only a committed offset are one row
 * for each subscription, because a row for each of a million cursors takes longer. The others are a
 * row each, because together they may exceed the memory of the broker.
 */
export function readCursors(
  client: Client,
  subscriptionIds: readonly number[],
  visit: (stored: StoredCursor) => void,
): Promise<void> {
  return eachRow<Row>(
    client,
    {
      name: 'read_cursors',
      values: [arrayLiteral(subscriptionIds)],
      text: `SELECT c.subscription_id, array_agg(c.partition)::text, array_agg(c.lane)::text,
                    array_agg(c.committed_offset)::text, array_agg(c.resets)::text,
                    NULL::text, NULL::text, NULL::text, NULL::text
               FROM millrace.cursors AS c
              WHERE c.subscription_id = ANY ($1::integer[]) AND ${isPlainRow} GROUP BY c.subscription_id
             UNION ALL
             SELECT ${oneCursor} FROM millrace.cursors AS c
              WHERE c.subscription_id = ANY ($1::integer[]) AND NOT (${isPlainRow})`,
    },
    (row) => {
      visitCursors(row, visit);
    },
  );
}

/** Reads the cursors of the keys, of those that exist. */
export function readNamedCursors(
  client: Client,
  keys: readonly CursorKey[],
  visit: (stored: StoredCursor) => void,
): Promise<void> {
  return eachRow<Row>(
    client,
    {
      name: 'read_named_cursors',
      values: [
        arrayLiteral(keys.map(({ subscriptionId }) => subscriptionId)),
        arrayLiteral(keys.map(({ partition }) => partition)),
        arrayLiteral(keys.map(({ lane }) => lane)),
      ],
      // OFFSET 0 makes each key a look-up, whatever the statistics of the table are.
      text: `SELECT found.* FROM unnest($1::integer[], $2::integer[], $3::integer[]) AS w (subscription_id, partition, lane),
                    LATERAL (SELECT ${oneCursor} FROM millrace.cursors AS c
                              WHERE c.subscription_id = w.subscription_id AND c.partition = w.partition AND c.lane = w.lane
                             OFFSET 0) AS found`,
    },
    (row) => {
      visitCursors(row, visit);
    },
  );
}

/** One shared object, because nearly all of a million cursors have only a committed offset. */
const nothingElse = { acked: [], attempts: [], metadata: null };

const complete = 'the arrays of a subscription have a value for each of its cursors';

function visitCursors(row: Row, visit: (stored: StoredCursor) => void): void {
  const [subscriptionId, partitions, lanes, committedOffsets, resets] = row;
  const [lane, committed, reset] = [lanes, committedOffsets, resets].map(parseArrayLiteral) as [
    number[],
    number[],
    number[],
  ];
  const more = moreOf(row);
  for (const [at, partition] of parseArrayLiteral(partitions).entries()) {
    visit({
      key: { subscriptionId, partition, lane: present(lane[at], complete) },
      cursor: { resets: present(reset[at], complete), committedOffset: present(committed[at], complete), ...more },
    });
  }
}

function moreOf(row: Row): Omit<CursorSnapshot, 'resets' | 'committedOffset'> {
  const [acked, attempts, metadata, seq] = row.slice(5) as [string | null, string | null, string | null, string | null];
  if (acked === null || attempts === null) return nothingElse;
  return {
    acked: parseArrayLiteral(acked),
    attempts: parsedAttempts(parseArrayLiteral(attempts)),
    metadata:
      metadata === null ? null : { seq: Number(present(seq, 'metadata has a sequence number')), text: metadata },
  };
}

/**
 * The statement that writes the state of cursors. It skips a cursor that is deleted, or that was
 * reset after the state was taken. It waits only for deletes, because the owner's folds and resets,
 * which alone update cursors, run one at a time.
 */
export function cursorUpdate(stored: readonly StoredCursor[]): Statement {
  const sorted = inOrder(stored);
  const plain = [
    integerArray(sorted, ({ key }) => key.subscriptionId),
    integerArray(sorted, ({ key }) => key.partition),
    integerArray(sorted, ({ key }) => key.lane),
    integerArray(sorted, ({ cursor }) => cursor.resets),
    bigintArray(sorted, ({ cursor }) => cursor.committedOffset),
  ];
  return sorted.every(isPlain) ? plainUpdate(plain) : fullUpdate(plain, sorted);
}

/**
 * Updates cursors `c` from `w`: $1 to $5, and `more`. A sub-select finds each row by its key. A
 * join, planned after an ANALYZE of the empty table, took minutes for 5,000 of 100,000 cursors. No
 * row moves between look-up and update, because cursors have no other writer.
 */
function keyedUpdate(
  set: string,
  condition: string,
  more: { readonly values: string; readonly columns: string } | null,
): string {
  return `WITH w AS MATERIALIZED (
            SELECT v.*, (SELECT f.ctid FROM millrace.cursors AS f
                          WHERE f.subscription_id = v.subscription_id AND f.partition = v.partition AND f.lane = v.lane) AS place
              FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::bigint[]${more?.values ?? ''})
                   AS v (subscription_id, partition, lane, resets, committed_offset${more?.columns ?? ''}))
          UPDATE millrace.cursors AS c SET ${set} FROM w WHERE c.ctid = w.place AND ${condition}`;
}

/** Whether the cursor has only a committed offset, as most cursors do. */
function isPlain({ cursor }: StoredCursor): boolean {
  return cursor.acked.length === 0 && cursor.attempts.length === 0 && cursor.metadata === null;
}

function plainUpdate(parameters: readonly BinaryValue[]): Statement {
  return {
    name: 'write_plain_cursors',
    text: keyedUpdate(
      "committed_offset = w.committed_offset, acked = '{}', attempts = '{}', metadata = NULL, metadata_seq = NULL",
      'c.resets = w.resets',
      null,
    ),
    parameters,
  };
}

function fullUpdate(plain: readonly BinaryValue[], sorted: readonly StoredCursor[]): Statement {
  const metadata = sorted.map(({ cursor }) => cursor.metadata);
  return {
    name: 'write_cursors',
    text: keyedUpdate(
      `committed_offset = w.committed_offset, acked = w.acked::bigint[], attempts = w.attempts::bigint[],
       metadata = w.metadata, metadata_seq = CASE WHEN w.metadata IS NOT NULL THEN w.metadata_seq END`,
      'c.resets = w.resets',
      {
        values: ', $6::text[], $7::text[], $8::text[], $9::bigint[]',
        columns: ', acked, attempts, metadata, metadata_seq',
      },
    ),
    parameters: [
      ...plain,
      nestedArrayLiteral(sorted.map(({ cursor }) => cursor.acked)),
      nestedArrayLiteral(sorted.map(({ cursor }) => storedAttempts(cursor.attempts))),
      textArray(metadata.map((note) => note?.text ?? null)),
      bigintArray(metadata, (note) => note?.seq ?? 0),
    ],
  };
}

/** By subscription, partition and lane: the order in which rows of cursors are locked. */
export function inOrder<T extends { readonly key: CursorKey }>(rows: readonly T[]): T[] {
  return [...rows].sort(
    ({ key: a }, { key: b }) => a.subscriptionId - b.subscriptionId || a.partition - b.partition || a.lane - b.lane,
  );
}
