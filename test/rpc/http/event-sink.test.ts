import { create } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { PublishRequestSchema, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { HttpEventSink } from '../../../src/rpc/http/event-sink.ts';
import { createBatchCodec } from '../../../src/wire/batch-codec.ts';
import { scanPublish } from '../../../src/wire/scan-publish.ts';
import { address, allRecords, decodeBatch, encodeRequest } from '../../wire/delivery.ts';

const partBytesMax = 131_072;

/** An encoded batch of records with values of these sizes. */
function batchOf(sizes: readonly number[]): Buffer {
  const records = sizes.map((size, n) => ({ key: `k${n}`, value: Buffer.alloc(size, n) }));
  const request = encodeRequest(create(PublishRequestSchema, { topic: 'orders', records }));
  const scanned = [allRecords(scanPublish(request, limits).records)];
  return createBatchCodec().encode(address, [{ baseOffset: 7, appendTimeUs: 1_000_001, records: scanned }]).bytes;
}

/** What a client gets that reads everything. */
async function received(fields: readonly Buffer[]): Promise<SubscribeResponse[]> {
  const sink = new HttpEventSink(
    () => 'a bug',
    () => undefined,
    { unsentBytes: () => 0, cut: () => undefined },
  );
  for (const field of fields) sink.send({ type: 'batch', generation: 3, field });
  sink.end(null);
  const messages: SubscribeResponse[] = [];
  for await (const message of sink.messages()) messages.push(message);
  expect(sink.unsentBytes).toBe(0);
  return messages;
}

test.each([
  ['a small batch', [10, 20], [2]],
  ['one that just fits as JSON', [98_058, 1], [2]],
  ['one that is too large as JSON by a byte', [98_059, 1], [1, 1]],
  ['one with a record that is larger than a part', [1, 500_000, 1, 1], [1, 1, 2]],
  ['the largest', Array.from({ length: 100 }, () => 10_000), [...Array.from({ length: 11 }, () => 9), 1]],
])('%s goes out in parts that hold so many records each', async (_, sizes, counts) => {
  const field = batchOf(sizes);
  const whole = decodeBatch(field);
  const parts = (await received([field])).map(({ generation, event }) => {
    expect(generation).toBe(3n);
    if (event.case !== 'batch') throw new Error(`${String(event.case)} instead of a batch`);
    return event.value;
  });
  expect(parts.map(({ records }) => records.length)).toEqual(counts);
  expect(parts.flatMap(({ records }) => records)).toEqual(whole.records);
  for (const part of parts) expect({ ...part, records: [] }).toEqual({ ...whole, records: [] });
});

test('a reader that stops in the middle of a batch holds up what comes behind it', async () => {
  const sink = new HttpEventSink(
    () => 'a bug',
    () => undefined,
    { unsentBytes: () => 0, cut: () => undefined },
  );
  const drained: number[] = [];
  sink.onDrain = () => drained.push(sink.unsentBytes);
  const field = batchOf([100_000, 100_000]);
  sink.send({ type: 'batch', generation: 3, field });
  sink.send({ type: 'batch', generation: 3, field });
  const all = sink.unsentBytes;
  /** What connect-node makes of the part under way. */
  const copies = 3 * partBytesMax;
  const messages = sink.messages();
  await messages.next();
  await messages.next();
  expect([sink.unsentBytes, drained]).toEqual([all + copies, []]);
  await messages.next();
  expect(sink.unsentBytes).toBe(all / 2 + copies);
  expect(drained).toEqual([all / 2]);
});
