import { expect, test } from 'vitest';
import { Deadlines } from '../../src/time/deadlines.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { latest } from '../rpc/latest.ts';

const limitMs = 1_600;

function deadlines() {
  const clock = new FakeClock();
  const late: string[] = [];
  return { clock, late, all: new Deadlines<string>(clock, limitMs, (waiting) => late.push(waiting)) };
}

test('none is late before its limit, and each is at most a sixteenth of it later', async () => {
  const { clock, late, all } = deadlines();
  const sinceMs = new Map<string, number>();
  let seen = 0;
  for (let at = 0; at < 400; at++) {
    all.begin(`${at}`);
    sinceMs.set(`${at}`, clock.nowMs());
    await clock.advance((at * 37) % 91);
    for (const waiting of late.slice(seen)) {
      const waitedMs = clock.nowMs() - (sinceMs.get(waiting) ?? 0);
      expect(waitedMs).toBeGreaterThanOrEqual(limitMs);
      expect(waitedMs).toBeLessThanOrEqual(latest(limitMs) + 91);
    }
    seen = late.length;
  }
  await clock.advance(latest(limitMs));
  expect(late).toEqual([...sinceMs.keys()]);
});

test('one that is over is never late, and one that begins again has all of its time again', async () => {
  const { clock, late, all } = deadlines();
  for (const waiting of ['over', 'again', 'once']) all.begin(waiting);
  await clock.advance(limitMs / 2);
  all.over('over');
  all.begin('again');
  all.beginOnce('once');
  await clock.advance(latest(limitMs) - limitMs / 2);
  expect(late).toEqual(['once']);
  await clock.advance(limitMs / 2);
  expect(late).toEqual(['once', 'again']);
});

test('no timer runs while nothing waits', async () => {
  const { clock, all } = deadlines();
  all.begin('one');
  all.over('one');
  await clock.advance(limitMs / 16);
  expect(clock.pending).toBe(0);
  all.begin('two');
  all.stop();
  expect(clock.pending).toBe(0);
});
