import { fromBinary } from '@bufbuild/protobuf';
import { timestampMs } from '@bufbuild/protobuf/wkt';
import { expect, test } from 'vitest';
import { SubscribeResponseSchema } from '../../../gen/millrace/v1/broker_pb.js';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { encodeEvent } from '../../../src/rpc/translation/events.ts';

test('a deadline between two milliseconds that no Timestamp holds, and that ended the broker', () => {
  const deadlineAtMs = 1_795_247_923_068.8313;
  const events = [
    { type: 'revoking', generation: 2, partitions: [], deadlineAtMs },
    { type: 'draining', generation: 2, memberId: 'm' as MemberId, deadlineAtMs },
  ] as const;
  for (const event of events) {
    const { event: decoded } = fromBinary(SubscribeResponseSchema, encodeEvent(event) as Buffer);
    if (decoded.case !== 'revoking' && decoded.case !== 'draining') throw new Error(`got ${decoded.case}`);
    expect(timestampMs(decoded.value.deadline!)).toBe(1_795_247_923_069);
  }
});
