import type { Client } from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { allOf, boundsPerRecord, type StoredBatch } from '../../log/batch.ts';
import type { ReadRequest, RecordPlace } from '../../log/store.ts';
import { arrayLiteral } from '../pg/array-literal.ts';
import { nowOf, type Now } from '../pg/now.ts';
import { decodePart, recordParts, type RecordPart } from '../pg/bytea-array.ts';
import { integer, leafTable, ofLog } from '../schema/leaf.ts';

/**
 * The most rows that one read looks at, which is enough for usual batches and bounds the sort and
 * the sum.
 */
const rowsMax = 512;

/**
 * Reads batches from an offset on by binary COPY, several times faster than rows of text. A running
 * sum of `byte_size` picks the rows before their bytes are read. The copy is read to its end,
 * because a slow consumer must not keep a snapshot open.
 */
export async function readBatches(client: Client, segment: number, request: ReadRequest): Promise<StoredBatch[]> {
  const { topicId, partition, lane, offset, bytesMax } = request;
  const leaf = leafTable(topicId, segment);
  const log = ofLog(topicId, segment, integer(partition), integer(lane));
  const planned = `SELECT *, sum(byte_size) OVER (ORDER BY base_offset) AS running FROM (
    SELECT * FROM ${leaf} WHERE ${log} AND base_offset >= (
      SELECT base_offset FROM ${leaf} WHERE ${log} AND base_offset <= ${integer(offset)} ORDER BY base_offset DESC LIMIT 1
    ) ORDER BY base_offset LIMIT ${rowsMax}) AS rows`;
  const bytes = await copy(
    client,
    `COPY (SELECT base_offset, record_count, (extract(epoch FROM appended_at) * 1000000)::bigint, keys, headers, "values", rests
       FROM (${planned}) AS planned WHERE running - byte_size < ${integer(bytesMax)} ORDER BY base_offset)
     TO STDOUT (FORMAT binary)`,
  );
  return parseRows(bytes).filter((batch) => batch.baseOffset + countOf(batch) > offset);
}

function countOf(batch: StoredBatch): number {
  return batch.records[0]?.set.count ?? 0;
}

async function copy(client: Client, statement: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of client.query(copyTo(statement)) as AsyncIterable<Buffer>) chunks.push(chunk);
  const [first] = chunks;
  return first !== undefined && chunks.length === 1 ? first : Buffer.concat(chunks);
}

/** The signature (11 bytes), the flags, and the length of the header extension, which is empty. */
const copyHeaderBytes = 19;
const columns = 7;
const parts: readonly RecordPart[] = [recordParts.keys, recordParts.headers, recordParts.values, recordParts.rests];

function parseRows(bytes: Buffer): StoredBatch[] {
  const batches: StoredBatch[] = [];
  let at = copyHeaderBytes;
  while (bytes.readInt16BE(at) === columns) {
    at += 2;
    // A length of 4 bytes precedes each column. The first three have 8, 4 and 8 bytes.
    const baseOffset = Number(bytes.readBigInt64BE(at + 4));
    const count = bytes.readInt32BE(at + 16);
    const appendTimeUs = Number(bytes.readBigInt64BE(at + 24));
    at += 32;
    const bounds = new Int32Array(count * boundsPerRecord);
    for (const part of parts) {
      const length = bytes.readInt32BE(at);
      at += 4;
      if (length < 0) continue;
      decodePart(bytes, at, part, count, bounds);
      at += length;
    }
    const indexes = allOf(count);
    batches.push({ baseOffset, appendTimeUs, records: [{ set: { count, buffer: bytes, bounds }, indexes }] });
  }
  return batches;
}

type LogOfSegment = Pick<ReadRequest, 'topicId' | 'partition' | 'lane'>;

interface BatchPosition {
  readonly baseOffset: number;
  readonly endOffset: number;
  readonly timeUs: number;
}

/**
 * The last batch of a log in a segment with a base offset at or before `offset`; null if there is
 * none.
 */
async function lastBatch(
  client: Client,
  segment: number,
  log: LogOfSegment,
  offset: number,
): Promise<BatchPosition | null> {
  const { rows } = await client.query<{ base_offset: string; record_count: number; time_us: string }>(
    `SELECT base_offset, record_count, (extract(epoch FROM appended_at) * 1000000)::bigint AS time_us
       FROM ${leafTable(log.topicId, segment)}
      WHERE ${ofLog(log.topicId, segment, integer(log.partition), integer(log.lane))} AND base_offset <= ${integer(offset)}
      ORDER BY base_offset DESC LIMIT 1`,
  );
  const row = rows[0];
  if (row === undefined) return null;
  const baseOffset = Number(row.base_offset);
  return { baseOffset, endOffset: baseOffset + row.record_count, timeUs: Number(row.time_us) };
}

/**
 * The base offset of the first batch that was appended at or after a time, in a segment that begins
 * at `from`; null if there is none. It is a binary search over the primary key, because append
 * times never fall within a log, and an index by time would slow every append.
 */
export async function baseAtTime(
  client: Client,
  segment: number,
  log: LogOfSegment,
  from: number,
  timeUs: number,
): Promise<number | null> {
  const last = await lastBatch(client, segment, log, Number.MAX_SAFE_INTEGER);
  if (last === null || last.timeUs < timeUs) return null;
  let low = from;
  let high = last.baseOffset;
  while (low < high) {
    const middle = await lastBatch(client, segment, log, Math.floor((low + high) / 2));
    if (middle === null) return high;
    if (middle.timeUs >= timeUs) high = middle.baseOffset;
    else low = middle.endOffset;
  }
  return high;
}

/**
 * The ages of records of one segment, in milliseconds; null where there is no record. One statement
 * looks each up by the primary key. The database's clock gives both times, because the broker's may
 * differ.
 */
export async function appendAges(
  client: Client,
  segment: number,
  topicId: number,
  places: readonly RecordPlace[],
  now: Now,
): Promise<(number | null)[]> {
  const { rows } = await client.query<{ age_ms: number | null }>(
    `SELECT extract(epoch FROM ${nowOf('$4')} - batch.appended_at)::float8 * 1000 AS age_ms
       FROM unnest($1::integer[], $2::integer[], $3::bigint[])
              WITH ORDINALITY AS wanted (partition, lane, record_offset, place)
       LEFT JOIN LATERAL (
         SELECT base_offset + record_count AS end_offset, appended_at FROM ${leafTable(topicId, segment)}
          WHERE ${ofLog(topicId, segment, 'wanted.partition', 'wanted.lane')} AND base_offset <= wanted.record_offset
          ORDER BY base_offset DESC LIMIT 1
       ) AS batch ON batch.end_offset > wanted.record_offset
      ORDER BY wanted.place`,
    [
      arrayLiteral(places.map(({ partition }) => partition)),
      arrayLiteral(places.map(({ lane }) => lane)),
      arrayLiteral(places.map(({ offset }) => offset)),
      now(),
    ],
  );
  return rows.map(({ age_ms }) => age_ms);
}
