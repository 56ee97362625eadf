import { create, fromBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PublishRequestSchema, type PublishRequest } from '../../../gen/millrace/v1/broker_pb.js';
import { Rejection } from '../../../src/errors/rejections/rejection.ts';
import { limits } from '../../../src/limits/limits.ts';
import type { PublishCommand } from '../../../src/commit/publish.ts';
import type { TopicRow } from '../../../src/log/store.ts';
import type { Storage } from '../../../src/storage/storage.ts';
import { scanPublish } from '../../../src/wire/scan-publish.ts';
import { property } from '../../coordinator/property.ts';
import { encodeRequest, ordinaryRequest } from '../../wire/delivery.ts';
import { looseRequest } from '../../wire/loose-encoding.ts';
import { LogSite } from '../log/log-site.ts';
import { batch, roll, transaction, values, type Parts } from '../../log/records.ts';

let site: LogSite;
let storage: Storage;

beforeAll(async () => {
  site = await LogSite.open();
  storage = await site.own('one', 1);
});

afterAll(() => site.close());

interface Message {
  readonly topic: string;
  readonly partition: number;
  readonly lane: number;
  readonly offset: string;
  readonly key: string | null;
  readonly headers: Record<string, string>;
  readonly value: Buffer;
  readonly time_us: string;
}

async function messages(topic: TopicRow, partition: number): Promise<Message[]> {
  const { rows } = await site.client.query<Message>(
    `SELECT *, (extract(epoch FROM append_time) * 1000000)::bigint AS time_us FROM millrace.messages
      WHERE topic = $1 AND partition = $2 ORDER BY "offset"`,
    [topic.name, partition],
  );
  return rows;
}

/** A text in PostgreSQL cannot have U+0000. */
const asText = (text: string): string => text.replaceAll('\u0000', '\ufffd');

describe('the view of all messages', () => {
  let published = 0;

  /** Publishes each request, and compares it with the view. */
  const same = async (topic: TopicRow, bytes: Buffer, request: PublishRequest): Promise<void> => {
    const scanned = scan(bytes);
    if (scanned === null) return;
    published++;
    const { records } = scanned;
    const indexes = Int32Array.from({ length: records.count }, (_, index) => index);
    const whole = { ...batch(topic, 1, values('')), recordCount: records.count, records: [{ set: records, indexes }] };
    const [appended] = await storage.commits.append(0, transaction([whole]));
    const { baseOffset, appendTimeUs } = appended!;
    const shown = (await messages(topic, 1)).filter(({ offset }) => Number(offset) >= baseOffset);
    expect(shown.map(({ key, headers, value, offset, time_us }) => ({ key, headers, value, offset, time_us }))).toEqual(
      request.records.map((record, index) => ({
        key: record.key === '' ? null : asText(record.key),
        headers: Object.fromEntries(Object.entries(record.headers).map((entry) => entry.map(asText))),
        value: Buffer.from(record.value),
        offset: String(baseOffset + index),
        time_us: String(appendTimeUs),
      })),
    );
    for (const row of shown) expect(row).toMatchObject({ topic: topic.name, partition: 1, lane: 0 });
  };

  const scan = (bytes: Buffer): PublishCommand | null => {
    try {
      return scanPublish(bytes, limits);
    } catch (error) {
      if (error instanceof Rejection) return null;
      throw error;
    }
  };

  test('the view shows the messages of an ordinary client', async () => {
    const topic = await site.topic(storage, 2);
    await fc.assert(
      fc.asyncProperty(ordinaryRequest, (request) => same(topic, encodeRequest(request), request)),
      property(150),
    );
  });

  test('the view shows messages with padded, scattered and repeated headers', async () => {
    const topic = await site.topic(storage, 2);
    published = 0;
    await fc.assert(
      fc.asyncProperty(looseRequest, (bytes) => same(topic, bytes, fromBinary(PublishRequestSchema, bytes))),
      property(150),
    );
    expect(published).toBeGreaterThan(75);
  });

  test('the view shows header values longer than 127 bytes', async () => {
    const topic = await site.topic(storage, 2);
    const headers = { short: '', [`${'n'.repeat(200)}`]: 'é'.repeat(9_000), ['\u{1f4a9}']: '"\\' };
    const record = { key: 'k', value: new Uint8Array(), headers, idempotencyKey: '' };
    const request = create(PublishRequestSchema, { topic: topic.name, records: [record] });
    await same(topic, encodeRequest(request), request);
  });

  test('the view shows all segments of a topic, and no deleted topic', async () => {
    const topic = await site.topic(storage, 2);
    await storage.commits.append(0, transaction([batch(topic, 0, values('a'))]));
    await roll(storage, topic.id, 1);
    await storage.commits.append(0, transaction([batch({ ...topic, segment: 2 }, 0, values('b', 'c'))]));
    const texts = (await messages(topic, 0)).map(({ offset, value }) => `${offset}:${value.toString()}`);
    expect(texts).toEqual(['0:a', '1:b', '2:c']);
    await storage.topics.deleteTopic(topic.id);
    expect(await messages(topic, 0)).toEqual([]);
  });
});

describe('the speed of the view', () => {
  const batches = 200;
  const perBatch = 1_000;
  let topic: TopicRow;

  beforeAll(async () => {
    topic = await site.topic(storage, 3);
    for (let n = 0; n < batches; n++) {
      const records = Array.from({ length: perBatch }, (_, index): Parts => ({
        key: Buffer.from(`customer-${(n * perBatch + index) % 5_000}`),
        headers: Buffer.from('\x1a\x08\x0a\x02id\x12\x02no', 'latin1'),
        value: Buffer.alloc(100, `order ${n}/${index} `),
      }));
      await storage.commits.append(n % 4, transaction([batch(topic, n % 3, records)]));
    }
    await site.client.query('ANALYZE millrace.record_batches');
    await site.client.query(
      "CREATE TABLE public.customers AS SELECT 'customer-' || n AS key, n % 7 AS region FROM generate_series(0, 4999) AS n",
    );
    await site.client.query('ANALYZE public.customers');
  }, 120_000);

  /** The best of a few tries, because other work on the machine must not count. */
  async function rate(name: string, sql: string, tries = 5): Promise<number> {
    let best = 0;
    for (let n = 0; n < tries; n++) {
      const begun = performance.now();
      const { rows } = await site.client.query<{ n: string }>(sql, [topic.name]);
      best = Math.max(best, (batches * perBatch) / ((performance.now() - begun) / 1_000));
      expect(rows.reduce((sum, row) => sum + Number(row.n), 0)).toBe(batches * perBatch);
    }
    console.log(`${name}: ${Math.round(best).toLocaleString('en')} messages/s`);
    return best;
  }

  test('the view reads key, value and time of 200,000 messages of 100 B at 200,000 messages/s and more', async () => {
    const measured = await rate(
      'key, value and time of messages of 100 B',
      `SELECT count(key) AS n, sum(length(value)), max(append_time) FROM millrace.messages WHERE topic = $1`,
    );
    expect(measured).toBeGreaterThan(200_000);
  });

  test('the view is joined with a table of the user at the same rate', async () => {
    const measured = await rate(
      'joined with a table',
      `SELECT region, count(*) AS n, sum(length(m.value)) FROM millrace.messages AS m JOIN public.customers USING (key)
        WHERE topic = $1 GROUP BY region`,
    );
    expect(measured).toBeGreaterThan(200_000);
  });

  test('the view decodes headers only if a query reads them', async () => {
    const { rows } = await site.client.query<{ 'QUERY PLAN': string }>(
      'EXPLAIN (VERBOSE) SELECT key, value, append_time FROM millrace.messages',
    );
    expect(rows.map((row) => row['QUERY PLAN']).join('\n')).not.toContain('headers_of');
    await rate('headers', `SELECT count(headers ->> 'id') AS n FROM millrace.messages WHERE topic = $1`, 1);
  });
});
