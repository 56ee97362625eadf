import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { PublishRequestSchema, SubscribeResponseSchema, type PublishRequest } from '../../gen/millrace/v1/broker_pb.js';
import type { Batch, Record as WireRecord } from '../../gen/millrace/v1/record_pb.js';
import type { PublishCommand } from '../../src/broker/commands.ts';
import type { LogAddress, RecordSet } from '../../src/log/batch.ts';
import { createBatchCodec } from '../../src/wire/batch-codec.ts';
import { bytes, text, topic } from './loose-encoding.ts';

/** From a request to what a consumer decodes. */

export const address: LogAddress = { topicId: 1, topicName: 'orders', partition: 3, lane: 0 };

const codec = createBatchCodec();

/** The batch as protobuf-es decodes it from a stream event. */
export function decodeBatch(field: Uint8Array): Batch {
  const { event } = fromBinary(SubscribeResponseSchema, field);
  if (event.case !== 'batch') throw new Error(`decoded ${String(event.case)} instead of a batch`);
  return event.value;
}

export function allRecords(set: RecordSet): { set: RecordSet; indexes: Int32Array } {
  return { set, indexes: Int32Array.from({ length: set.count }, (_, i) => i) };
}

/** The records of a scanned request as they arrive. */
export function deliver(command: PublishCommand): WireRecord[] {
  const stored = { baseOffset: 7, appendTimeUs: 1_700_000_000_123_456, records: [allRecords(command.records)] };
  return decodeBatch(codec.encode(address, [stored]).bytes).records.map((delivered) => delivered.record!);
}

/** A record in a form that is equal for equal content. Headers of a map have no order. */
export function content(record: WireRecord): unknown {
  return {
    key: record.key,
    value: Buffer.from(record.value).toString('hex'),
    headers: Object.entries(record.headers).sort(([a], [b]) => (a < b ? -1 : 1)),
    idempotencyKey: record.idempotencyKey,
  };
}

const record = fc.record({
  key: text,
  value: bytes,
  headers: fc.array(fc.tuple(text, text), { maxLength: 4 }).map((entries) => Object.fromEntries(entries)),
  idempotencyKey: fc.oneof(fc.constant(''), text),
});

/** A request as an ordinary client makes it. */
export const ordinaryRequest: fc.Arbitrary<PublishRequest> = fc
  .record(
    {
      topic,
      records: fc.array(record, { minLength: 1, maxLength: 8 }),
      partition: fc.nat(2 ** 31 - 1),
      ackMode: fc.nat(2),
      expectedOffset: fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }),
      lane: fc.nat(2 ** 31 - 1),
    },
    { requiredKeys: ['topic', 'records'] },
  )
  .map(({ lane, ...request }) => {
    const expects = request.expectedOffset !== undefined && lane !== undefined;
    return create(PublishRequestSchema, { ...request, ...(expects && { lane }) });
  });

export function encodeRequest(request: PublishRequest): Buffer {
  return Buffer.from(toBinary(PublishRequestSchema, request));
}
