import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AssignedSchema, SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import { encodeEvent } from '../../src/rpc/translation/events.ts';
import { encodePartitions } from '../../src/wire/partition-list.ts';

const places = fc.array(
  fc.record({
    topic: fc.oneof(fc.constantFrom('orders', 'a', 'x'.repeat(200)), fc.string({ unit: 'binary', minLength: 1 })),
    partition: fc.oneof(fc.constantFrom(0, 127, 128, 16_383, 16_384, 99_999), fc.nat(2 ** 31 - 1)),
  }),
);

test('a list of partitions is encoded as protobuf-es would', () => {
  const { number } = AssignedSchema.field.partitions;
  fc.assert(
    fc.property(places, (partitions) => {
      const expected = toBinary(AssignedSchema, create(AssignedSchema, { partitions }));
      expect(encodePartitions(number, partitions)).toEqual(Buffer.from(expected));
    }),
  );
});

test('a change of the assignment says what was gained and what was lost, also if that is nothing', () => {
  fc.assert(
    fc.property(places, places, (partitions, removed) => {
      const assigned = encodeEvent({ type: 'assigned', generation: 7, partitions, removed }) as Buffer;
      expect(fromBinary(SubscribeResponseSchema, assigned)).toMatchObject({
        event: { case: 'assigned', value: { generation: 7n, changes: true, partitions, removed } },
      });
    }),
  );
});

test('events with partitions say what they are to say, also with none', () => {
  fc.assert(
    fc.property(places, fc.nat(1_000), (partitions, generation) => {
      const assigned = encodeEvent({ type: 'assigned', generation, partitions }) as Buffer;
      expect(fromBinary(SubscribeResponseSchema, assigned)).toMatchObject({
        generation: BigInt(generation),
        event: { case: 'assigned', value: { generation: BigInt(generation), changes: false, partitions, removed: [] } },
      });
      const revoking = encodeEvent({ type: 'revoking', generation, partitions, deadlineAtMs: 5_000 }) as Buffer;
      expect(fromBinary(SubscribeResponseSchema, revoking)).toMatchObject({
        generation: BigInt(generation),
        event: { case: 'revoking', value: { partitions, deadline: { seconds: 5n } } },
      });
    }),
  );
});
