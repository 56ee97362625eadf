import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decide, gapReasonOf, type OwedClaim, type TopicFacts } from '../../src/retention/decision.ts';
import { excusedMs, type RetentionSettings } from '../../src/retention/settings.ts';
import { factsOf, goesByRecords, recordedTopic } from './account.ts';

const many = { numRuns: 3_000 };

test('what goes is what an account of single records lets go, and the oldest first', () => {
  fc.assert(
    fc.property(recordedTopic, (topic) => {
      const { drop } = decide(factsOf(topic));
      const going = drop.map(({ segment, reason }) => ({
        segment,
        isCapped: reason === 'MAX_AGE' || reason === 'MAX_BYTES',
      }));
      expect(going).toEqual(goesByRecords(topic));
    }),
    many,
  );
});

test('a segment that stays for subscriptions names exactly those that need it', () => {
  fc.assert(
    fc.property(recordedTopic, (topic) => {
      const facts = factsOf(topic);
      const { kept, live, excused } = decide(facts);
      for (const { segment, reason } of kept) {
        if (!('claims' in reason)) continue;
        const isDead = reason.type === 'DEAD_SUBSCRIPTION';
        const untilMs = (diedAtMs: number): number => diedAtMs + excusedMs(facts.settings);
        const owed = facts.claims.filter(({ needs, state, diedAtMs }) => {
          if (needs > segment || (state === 'DEAD') !== isDead) return false;
          return !isDead || facts.nowMs < untilMs(diedAtMs!);
        });
        const named = (isDead ? excused : live).slice(0, reason.claims);
        expect(new Set(named)).toEqual(new Set(owed));
        if (isDead) expect(reason.untilMs).toBe(Math.max(...owed.map(({ diedAtMs }) => untilMs(diedAtMs!))));
      }
    }),
    many,
  );
});

test('ten thousand subscriptions and a day of the shortest segments are decided without a walk over all pairs', () => {
  const settings = { ...kept, maxBytes: 1 };
  const sealed = Array.from({ length: 1_440 }, (_, index) => {
    return { segment: index + 1, bytes: 1, lastAppendMs: 0, completedAtMs: null };
  });
  let reads = 0;
  const claims = Array.from({ length: 10_000 }, (_, subscriptionId): OwedClaim => {
    const one = { ...claim('ACTIVE', 0), subscriptionId };
    return Object.defineProperty(one, 'needs', { get: () => (reads++, 1 + (subscriptionId % 1_440)) });
  });
  const { drop } = decide({ nowMs: 0, settings, current: 1_441, currentBytes: 1, sealed, claims });
  expect(drop).toHaveLength(1_440);
  // A sort of 10,000 reads less than 300,000 times, and all pairs are 14 million.
  expect(reads).toBeLessThan(400_000);
});

test('each segment goes or stays for a reason, and the current one always stays', () => {
  fc.assert(
    fc.property(recordedTopic, (topic) => {
      const facts = factsOf(topic);
      const { drop, kept, complete } = decide(facts);
      const all = [...facts.sealed.map(({ segment }) => segment), facts.current];
      expect([...drop, ...kept].map(({ segment }) => segment)).toEqual(all);
      expect(kept.at(-1)?.reason.type).toBe('CURRENT');
      expect(kept.filter(({ reason }) => reason.type === 'CURRENT')).toHaveLength(1);
      for (const segment of complete) {
        const owed = facts.claims.filter(({ state, needs }) => state !== 'DEAD' && needs <= segment);
        expect(owed).toEqual([]);
      }
    }),
    many,
  );
});

/** The facts after the plan of their decision, which marks complete segments, and some time. */
function later(facts: TopicFacts, nowMs: number): TopicFacts {
  const complete = new Set(decide(facts).complete);
  const sealed = facts.sealed.map((one) => (complete.has(one.segment) ? { ...one, completedAtMs: facts.nowMs } : one));
  return { ...facts, nowMs, sealed };
}

const segmentsOf = (facts: TopicFacts): number[] => decide(facts).drop.map(({ segment }) => segment);

test('time that passes keeps nothing that would have gone', () => {
  fc.assert(
    fc.property(recordedTopic, fc.integer({ min: 0, max: 2_000 }), (topic, ms) => {
      const facts = factsOf(topic);
      expect(segmentsOf(later(facts, facts.nowMs + ms))).toEqual(expect.arrayContaining(segmentsOf(facts)));
    }),
    many,
  );
});

test('a subscription that ends keeps nothing that would have gone, while another one is left', () => {
  fc.assert(
    fc.property(recordedTopic, fc.nat(), (topic, drawn) => {
      const facts = factsOf(topic);
      if (facts.claims.length < 2) return;
      const claims = facts.claims.filter((_, index) => index !== drawn % facts.claims.length);
      expect(segmentsOf({ ...facts, claims })).toEqual(expect.arrayContaining(segmentsOf(facts)));
    }),
    many,
  );
});

test('before the time of the next look nothing more goes', () => {
  fc.assert(
    fc.property(recordedTopic, fc.integer({ min: 1, max: 2_000 }), (topic, ms) => {
      const facts = factsOf(topic);
      const { nextLookAtMs } = decide(facts);
      const nowMs = Math.min(facts.nowMs + ms, (nextLookAtMs ?? Infinity) - 1);
      if (nowMs < facts.nowMs) return;
      expect(segmentsOf(later(facts, nowMs))).toEqual(segmentsOf(facts));
    }),
    many,
  );
});

const hour = 3_600_000;
const kept: RetentionSettings = {
  afterCompletionMs: 7 * hour,
  excusedKeepMs: 9 * hour,
  maxAgeMs: null,
  maxBytes: null,
  keepUnsubscribedMs: 2 * hour,
};

function claim(state: OwedClaim['state'], needs: number, diedAtMs: number | null = null): OwedClaim {
  return { subscriptionId: 1, group: 'billing', state, claimSeq: 0, diedAtMs, needs };
}

/** One sealed segment, appended and complete at 0, and the current one. */
function facts(nowMs: number, claims: readonly OwedClaim[], settings: Partial<RetentionSettings> = {}): TopicFacts {
  const sealed = [{ segment: 1, bytes: 60, lastAppendMs: 0, completedAtMs: 0 }];
  return { nowMs, settings: { ...kept, ...settings }, current: 2, currentBytes: 40, sealed, claims };
}

const done = claim('ACTIVE', 2);

test.each<[string, TopicFacts, string, number | null]>([
  ['what a group is still owed stays', facts(99 * hour, [claim('ACTIVE', 1)]), 'SUBSCRIPTION', null],
  ['what a PAUSED subscription is owed stays', facts(99 * hour, [claim('PAUSED', 1)]), 'SUBSCRIPTION', null],
  ['a complete segment stays for its retention', facts(7 * hour - 1, [done]), 'RETENTION', 7 * hour],
  [
    'what only a DEAD subscription is owed stays for its excused time',
    facts(10 * hour, [claim('DEAD', 1, 2 * hour)]),
    'DEAD_SUBSCRIPTION',
    11 * hour,
  ],
  [
    'a longer retention holds for a DEAD subscription too',
    facts(21 * hour, [claim('DEAD', 1, 2 * hour)], { afterCompletionMs: 20 * hour }),
    'DEAD_SUBSCRIPTION',
    22 * hour,
  ],
  ['without subscriptions it stays from its append on', facts(2 * hour - 1, []), 'ZERO_SUBSCRIPTIONS', 2 * hour],
  [
    'a topic that refuses publishes without subscriptions keeps its records for their retention',
    facts(7 * hour - 1, [], { keepUnsubscribedMs: null }),
    'RETENTION',
    7 * hour,
  ],
  [
    'a topic that keeps everything keeps it without subscriptions too',
    facts(99 * hour, [], { afterCompletionMs: null }),
    'KEEP_FOREVER',
    null,
  ],
])('%s', (_, of, reason, untilMs) => {
  const decision = decide(of);
  expect(decision.drop).toEqual([]);
  expect(decision.kept[0]?.reason).toMatchObject({ type: reason, untilMs });
  expect(decision.nextLookAtMs).toBe(untilMs);
});

test.each<[string, TopicFacts, string]>([
  ['a complete segment goes after its retention', facts(7 * hour, [done]), 'COMPLETED'],
  [
    'a DEAD subscription holds nothing after its excused time',
    facts(11 * hour, [claim('DEAD', 1, 2 * hour)]),
    'COMPLETED',
  ],
  ['nobody was ever owed it, and its time is over', facts(2 * hour, []), 'ZERO_SUBSCRIPTIONS'],
  ['it is too old, although it is owed', facts(hour, [claim('ACTIVE', 1)], { maxAgeMs: hour }), 'MAX_AGE'],
  ['the topic is too large, although it is owed', facts(0, [claim('PAUSED', 1)], { maxBytes: 99 }), 'MAX_BYTES'],
  [
    'a topic that keeps everything is too large',
    facts(0, [done], { afterCompletionMs: null, maxBytes: 99 }),
    'MAX_BYTES',
  ],
])('a segment goes: %s', (_, of, reason) => {
  expect(decide(of).drop).toEqual([{ segment: 1, reason }]);
});

test('a topic within its bytes loses nothing to them', () => {
  expect(decide(facts(0, [claim('ACTIVE', 1)], { maxBytes: 100 })).drop).toEqual([]);
});

test('a segment that is seen complete for the first time is marked, and counts from then on', () => {
  const of = facts(99 * hour, [done]);
  const sealed = of.sealed.map((one) => ({ ...one, completedAtMs: null }));
  const decision = decide({ ...of, sealed });
  expect(decision).toMatchObject({ drop: [], complete: [1], nextLookAtMs: 106 * hour });
});

test('a segment behind one that stays is kept by it', () => {
  const of = facts(9 * hour, [done]);
  const [first] = of.sealed;
  const sealed = [
    { ...first!, completedAtMs: 8 * hour },
    { ...first!, segment: 2, completedAtMs: 0 },
  ];
  const decision = decide({ ...of, sealed, current: 3, claims: [claim('ACTIVE', 3)] });
  expect(decision.kept.map(({ reason }) => reason.type)).toEqual(['RETENTION', 'EARLIER_SEGMENT', 'CURRENT']);
});

test('a gap names the last cap among the drops, and else the retention', () => {
  expect(gapReasonOf([{ segment: 1, reason: 'COMPLETED' }])).toBe('RETENTION');
  const mixed = [
    { segment: 1, reason: 'MAX_AGE' },
    { segment: 2, reason: 'MAX_BYTES' },
    { segment: 3, reason: 'COMPLETED' },
  ] as const;
  expect(gapReasonOf(mixed)).toBe('MAX_BYTES');
});
