import { expect, test } from 'vitest';
import { SubscriptionState } from '../../../gen/millrace/v1/subscription_pb.js';
import { DropReason, KeptReason } from '../../../gen/millrace/v1/topic_pb.js';
import type { KeptBy, TopicStorage } from '../../../src/broker/commands.ts';
import { limits } from '../../../src/limits/limits.ts';
import { topicStorageResponse } from '../../../src/rpc/handlers/topic-storage.ts';

const nothing: TopicStorage = { storedBytes: 0, segments: { items: [], nextToken: '' }, keptBy: [], drops: [] };
const kept: KeptBy = { reason: 'CURRENT', subscription: null, bytes: 0, segments: 1, untilMs: null, session: null };

test('a topic that stores nothing says so by zeros that are set', () => {
  const segment = { segment: 1, bytes: 0, firstOffsets: [{ partition: 0, lane: 0, offset: 0 }], isCurrent: true };
  const items = [{ ...segment, lastAppendMs: null, completedAtMs: null }];
  const shown = topicStorageResponse({ ...nothing, segments: { items, nextToken: '1' } });
  expect(shown).toMatchObject({ storedBytes: 0n, nextPageToken: '1' });
  expect(shown.segments).toMatchObject([
    { segment: 1n, bytes: 0n, firstOffsets: [{ partition: 0, lane: 0, offset: 0n }], current: true },
  ]);
  expect([shown.segments[0]!.lastAppendTime, shown.segments[0]!.completeTime]).toEqual([undefined, undefined]);
});

test('what keeps a segment is named: the group and its state, the time, or the session with its age', () => {
  const session = { pid: 7, transactionAgeMs: 1_500.4, applicationName: 'psql', state: 'idle in transaction' };
  const keptBy: KeptBy[] = [
    { ...kept, reason: 'DEAD_SUBSCRIPTION', subscription: { group: 'billing', state: 'DEAD' }, untilMs: 9_000 },
    { ...kept, reason: 'SESSION', session },
    { ...kept, reason: 'SESSION', session: { ...session, transactionAgeMs: null, state: null } },
  ];
  const [dead, blocked, hidden] = topicStorageResponse({ ...nothing, keptBy }).keptBy;
  expect(dead).toMatchObject({
    reason: KeptReason.DEAD_SUBSCRIPTION,
    group: 'billing',
    state: SubscriptionState.DEAD,
    bytes: 0n,
    segments: 1,
    untilTime: { seconds: 9n },
  });
  expect(blocked).toMatchObject({
    reason: KeptReason.SESSION,
    session: { pid: 7, transactionAge: { seconds: 1n, nanos: 500_000_000 }, state: 'idle in transaction' },
  });
  expect([hidden!.session!.transactionAge, hidden!.session!.state]).toEqual([undefined, '']);
});

test('a drop says what went, of so many logs as an answer has room for', () => {
  const ranges = Array.from({ length: 500 }, (_, partition) => ({ partition, lane: 0, first: 0, last: 9 }));
  const drop = { segment: 3, bytes: 0, plannedAtMs: 1_000, doneAtMs: null, ranges };
  const drops = [
    { ...drop, reason: 'TOPIC_DELETED' },
    { ...drop, reason: 'COMPLETED', doneAtMs: 2_000 },
  ] as const;
  const [open, done] = topicStorageResponse({ ...nothing, drops }).drops;
  expect(open).toMatchObject({ segment: 3n, reason: DropReason.TOPIC_DELETED, bytes: 0n, time: { seconds: 1n } });
  expect(open!.doneTime).toBeUndefined();
  expect(done).toMatchObject({ reason: DropReason.COMPLETED, doneTime: { seconds: 2n } });
  expect(open!.ranges).toHaveLength(limits.droppedRangesMax);
  expect(open!.ranges[0]).toMatchObject({ partition: 0, lane: 0, first: 0n, last: 9n });
});

test('each reason to keep and to drop has a name of its own in the contract', () => {
  const reasons = [
    ...['CURRENT', 'SUBSCRIPTION', 'DEAD_SUBSCRIPTION', 'RETENTION', 'ZERO_SUBSCRIPTIONS', 'KEEP_FOREVER'],
    ...['EARLIER_SEGMENT', 'SESSION', 'DROPPING'],
  ] as KeptBy['reason'][];
  const { keptBy } = topicStorageResponse({ ...nothing, keptBy: reasons.map((reason) => ({ ...kept, reason })) });
  const sent = new Set(keptBy.map(({ reason }) => reason));
  expect([sent.size, sent.has(KeptReason.UNSPECIFIED)]).toEqual([reasons.length, false]);
});
