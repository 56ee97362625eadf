import { create } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AckAction, AckRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { ackCommand } from '../../../src/rpc/translation/ack-command.ts';

const offset = fc.nat(60);
const range = fc.tuple(offset, fc.nat(9)).map(([first, length]) => ({ first, last: first + length }));

test('the runs of an ack lose no offset, name none twice, and ascend, whatever its offsets and ranges are', () => {
  fc.assert(
    fc.property(fc.array(offset, { maxLength: 20 }), fc.array(range, { maxLength: 20 }), (offsets, ranges) => {
      const named = new Set([...offsets, ...ranges.flatMap(({ first, last }) => offsetsOf(first, last))]);
      const merged = runsOf(offsets, ranges);
      const covered: number[] = [];
      for (let index = 0; index < merged.length; index += 2) {
        // A run that touches the one before should be part of it.
        if (index > 0) expect(merged[index]).toBeGreaterThan(merged[index - 1]! + 1);
        covered.push(...offsetsOf(merged[index]!, merged[index + 1]!));
      }
      expect(covered).toEqual([...named].sort((a, b) => a - b));
    }),
    { seed: 20_260_101 },
  );
});

function runsOf(offsets: readonly number[], ranges: readonly { first: number; last: number }[]): readonly number[] {
  const entry = {
    topic: 'orders',
    partition: 0,
    offsets: offsets.map(BigInt),
    ranges: ranges.map(({ first, last }) => ({ first: BigInt(first), last: BigInt(last) })),
  };
  const request = create(AckRequestSchema, { group: 'billing', memberId: 'm', generation: 4n, acks: [entry] });
  return ackCommand(request).entries[0]!.runs!;
}

function offsetsOf(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

test('offsets, ranges and a cumulative offset mean what they say', () => {
  const request = create(AckRequestSchema, {
    group: 'billing',
    memberId: 'm',
    generation: 4n,
    acks: [
      { topic: 'orders', partition: 1, lane: 2, offsets: [7n, 5n, 6n, 9n] },
      {
        topic: 'orders',
        partition: 0,
        ranges: [{ first: 0n, last: 3n }],
        action: AckAction.NACK,
        delay: { nanos: 1 },
        error: 'boom',
      },
      { topic: 'orders', partition: 0, upToOffset: 0n, action: AckAction.RELEASE },
    ],
  });
  const cleared = { delayMs: null, error: '', lane: null, topic: 'orders' };
  expect(ackCommand(request)).toEqual({
    group: 'billing',
    memberId: 'm',
    generation: 4,
    entries: [
      { ...cleared, partition: 1, lane: 2, action: 'ACK', upToOffset: null, runs: [5, 7, 9, 9] },
      { ...cleared, partition: 0, action: 'NACK', upToOffset: null, runs: [0, 3], delayMs: 1, error: 'boom' },
      { ...cleared, partition: 0, action: 'RELEASE', upToOffset: 0, runs: null },
    ],
  });
});
