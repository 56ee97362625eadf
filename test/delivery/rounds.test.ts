import { expect, test } from 'vitest';
import { AckRing } from '../../src/commit/ack-ring.ts';
import type { Feed } from '../../src/delivery/dispatch/feed.ts';
import type { GroupStore } from '../../src/delivery/ports/store.ts';
import { AckRounds } from '../../src/delivery/rounds/ack-rounds.ts';
import { Fault } from '../../src/errors/fault.ts';
import { FakeClock } from '../support/fake-clock.ts';

const feed = {
  key: { subscriptionId: 1 },
  recount: () => undefined,
  roundBegins: () => Infinity,
  cursor: { takeDelta: () => ({}), written: () => undefined },
} as unknown as Feed;

/** Rounds that append with `append`. */
function scene(append: () => Promise<void>) {
  const clock = new FakeClock();
  const seen = { rounds: 0, fenced: 0 };
  const appendAcks = (): Promise<void> => {
    seen.rounds++;
    return append();
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
