import { create, toBinary, toJsonString, type DescMessage, type Message } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  AckResponseSchema,
  HeartbeatResponseSchema,
  PullResponseSchema,
  SubscribeResponseSchema,
} from '../../../gen/millrace/v1/broker_pb.js';
import { GetGroupResponseSchema, JoinGroupResponseSchema } from '../../../gen/millrace/v1/group_pb.js';
import { ReadMessagesResponseSchema } from '../../../gen/millrace/v1/message_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { jsonEncodingSteps } from '../../../src/rpc/translation/json-encoding.ts';
import { property } from '../../coordinator/property.ts';

function encoded(desc: DescMessage, message: Message): { readonly text: string; readonly steps: number } {
  const steps = jsonEncodingSteps(desc, message);
  for (let count = 1; ; count += 1) {
    const step = steps.next();
    if (step.done === true) return { text: step.value.toString(), steps: count };
  }
}

const many = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
const record = (at: number) => ({
  key: `k"${at}`,
  value: Buffer.alloc(at % 7, at),
  headers: { a: 'ü', [`b${at}`]: '' },
});
const delivered = (at: number) => ({
  ...{ offset: BigInt(at), attempt: 1, record: record(at) },
  appendTime: { seconds: 1_700_000_000n, nanos: 5_000 },
});
const batch = (records: number) => ({ topic: 'orders', partition: 0, lane: 0, records: many(records, delivered) });
const place = (partition: number) => ({ topic: 'orders', partition });

const answers: readonly (readonly [string, DescMessage, Message])[] = [
  ['nothing', AckResponseSchema, create(AckResponseSchema)],
  [
    'zeros that are set',
    HeartbeatResponseSchema,
    create(HeartbeatResponseSchema, { generation: 0n, planWanted: false }),
  ],
  ['no records', PullResponseSchema, create(PullResponseSchema, { batches: [{ topic: 'orders', partition: 0 }] })],
  [
    'records of several partitions',
    PullResponseSchema,
    create(PullResponseSchema, {
      ...{ memberId: 'm', generation: 3n, leaseDeadline: { seconds: 1n } },
      batches: [batch(3), batch(0), batch(2_000)],
    }),
  ],
  [
    'an event of a stream',
    SubscribeResponseSchema,
    create(SubscribeResponseSchema, { generation: 1n, event: { case: 'batch', value: batch(5) } }),
  ],
  [
    'members that hold partitions',
    GetGroupResponseSchema,
    create(GetGroupResponseSchema, {
      group: { name: 'billing', lag: 0n, topics: ['a', 'b'] },
      members: many(300, (at) => ({ memberId: `m${at}`, stalled: true, partitions: many(at, place) })),
      nextPageToken: 'm~1',
    }),
  ],
  [
    'lists and bytes below a field that is no list',
    JoinGroupResponseSchema,
    create(JoinGroupResponseSchema, {
      assignmentTask: {
        members: many(40, () => ({ memberId: 'm', metadata: Buffer.alloc(60_000, 'ab') })),
        topics: [],
      },
    }),
  ],
];

test.each(answers)('an answer in JSON is the same in steps as at once: %s', (_what, desc, message) => {
  const { text, steps } = encoded(desc, message);
  expect(JSON.parse(text)).toEqual(JSON.parse(toJsonString(desc, message)));
  expect(steps).toBeGreaterThanOrEqual(Math.floor(text.length / (2 * limits.bytesAtOnceMax)));
});

const text = (charsMax: number) => fc.oneof(fc.string({ maxLength: charsMax }), fc.constant('\u0001'.repeat(charsMax)));

const records = fc.array(
  fc.record({
    key: text(20),
    value: fc.uint8Array({ maxLength: 20 }),
    headers: fc.dictionary(text(8), text(8), { maxKeys: 3 }),
  }),
  { minLength: 1, maxLength: 5 },
);

test('records in JSON have at most six times their bytes in protobuf, so no answer is larger than a message', () => {
  const bounded = fc.property(records, (some) => {
    const of = { topic: 'o', partition: 0, lane: 0 };
    const all = some.map((one, at) => ({ ...delivered(at), record: one }));
    const message = create(ReadMessagesResponseSchema, { batches: [{ ...of, records: all }] });
    const binary = toBinary(ReadMessagesResponseSchema, message).length;
    expect(encoded(ReadMessagesResponseSchema, message).text.length).toBeLessThanOrEqual(6 * binary);
  });
  fc.assert(bounded, property(300));
});

test('six times the records of one answer in JSON fit into a message, with all that stands beside them', () => {
  expect(6 * limits.jsonRecordsBytesMax + limits.recordsHeadBytesMax).toBeLessThanOrEqual(limits.messageBytesMax);
});
