import { expect, test } from 'vitest';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import type { AckRow } from '../../../src/commit/store.ts';
import { begunAt } from '../../../src/consumption/partitioned/cursor.ts';
import type { Feed } from '../../../src/delivery/dispatch/feed.ts';
import type { GroupStore } from '../../../src/delivery/ports/store.ts';
import { AckRounds } from '../../../src/delivery/rounds/ack-rounds.ts';
import { Fault } from '../../../src/errors/fault.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** A log whose cursor always has changes, with a note of so many bytes. */
function feedWith(noteBytes: number): Feed {
  const delta = { ...begunAt(7), metadata: { seq: 1, text: 'n'.repeat(noteBytes) } };
  return {
    key: { subscriptionId: 1 },
    recount: () => undefined,
    roundBegins: () => Infinity,
    cursor: { takeDelta: () => delta, written: () => undefined },
  } as unknown as Feed;
}

const feed = feedWith(0);

/** Rounds that append with `append`. */
function scene(append: (row: AckRow) => Promise<void>) {
  const clock = new FakeClock();
  const seen = { rounds: 0, fenced: 0 };
  const appendAcks = (row: AckRow): Promise<void> => {
    seen.rounds++;
    return append(row);
  };
  const rounds = new AckRounds({
    store: {} as GroupStore,
    commits: { appendAcks },
    ring: new AckRing(),
    clock,
    onFenced: () => seen.fenced++,
    onFoldFailed: () => undefined,
  });
  rounds.start();
  /** The outcome of an ack that waits for its round. */
  const ack = (): Promise<string> => {
    rounds.mark(feed);
    return rounds.durable().then(
      () => 'durable',
      (error: unknown) => (error as Fault).kind,
    );
  };
  return { clock, seen, rounds, ack };
}

test('a broker that stops writes no scheduled round, rejects the acks that wait for it, and ends after the round under way', async () => {
  const gate = Promise.withResolvers<void>();
  const { clock, seen, rounds, ack } = scene(() => gate.promise);
  const first = ack();
  await clock.settle();
  const second = ack();
  let stopped = false;
  const stopping = rounds.stop().then(() => (stopped = true));
  await clock.settle();
  expect([await second, stopped]).toEqual(['FENCED', false]);
  gate.resolve();
  await stopping;
  expect(await first).toBe('durable');
  await clock.advance(60_000);
  expect([seen.rounds, clock.pending]).toEqual([1, 0]);
});

test('acks that come while a round is fenced, or after it, are answered and do not hang', async () => {
  const gate = Promise.withResolvers<void>();
  const { clock, seen, ack } = scene(() => gate.promise);
  const first = ack();
  await clock.settle();
  const second = ack();
  gate.reject(new Fault('FENCED', 'another broker has taken over'));
  expect([await first, await second, await ack()]).toEqual(['FENCED', 'FENCED', 'FENCED']);
  expect(seen).toEqual({ rounds: 1, fenced: 1 });
});

test('a round of 4,000 notes is written in rows that a successor can read, and is durable after the last one', async () => {
  const rows: number[] = [];
  const gates = Array.from({ length: 20 }, () => Promise.withResolvers<void>());
  const { clock, rounds, ack } = scene(async ({ deltas }) => {
    await gates[rows.push(deltas.length) - 1]!.promise;
  });
  for (let cursor = 1; cursor < 4_000; cursor++) rounds.mark(feedWith(4_096));
  let answer = '';
  void ack().then((outcome) => (answer = outcome));
  for (const gate of gates) {
    await clock.settle();
    expect(answer).toBe('');
    if (rows.reduce((sum, deltas) => sum + deltas) === 4_000) break;
    gate.resolve();
  }
  gates[rows.length - 1]!.resolve();
  await clock.settle();
  expect([answer, rows.length, rows.every((deltas) => deltas * 4_096 <= 1_048_576)]).toEqual(['durable', 16, true]);
});

test('a round whose second row fails is written again with all that the row had, and its ack is not answered before', async () => {
  const rows: number[] = [];
  let fails = 1;
  const { clock, rounds, ack } = scene(({ deltas }) => {
    if (rows.length === 1 && fails-- > 0) return Promise.reject(new Fault('DATABASE_UNAVAILABLE', 'away'));
    rows.push(deltas.length);
    return Promise.resolve();
  });
  for (let cursor = 1; cursor < 600; cursor++) rounds.mark(feedWith(4_096));
  const answer = ack();
  await clock.settle();
  expect([await answer, rows.length]).toEqual(['DATABASE_UNAVAILABLE', 1]);
  await clock.advance(1_000);
  expect(rows.reduce((sum, deltas) => sum + deltas)).toBe(600);
});
