import { beforeEach, describe, expect, test } from 'vitest';
import { AwakeClock } from '../../src/time/awake-clock.ts';
import { FakeClock } from '../support/fake-clock.ts';

let base: FakeClock;
let clock: AwakeClock;
let pauses: number[];
beforeEach(() => {
  base = new FakeClock(0);
  pauses = [];
  clock = new AwakeClock(base, (ms) => pauses.push(ms));
  clock.start();
});

/** A timer, and at what times of the clock below it ran. */
function timer(delayMs: number): number[] {
  const ran: number[] = [];
  clock.after(delayMs, () => ran.push(base.nowMs()));
  return ran;
}

describe('a process that is awake', () => {
  test('has the time of the clock below, however seldom anybody asks for it', async () => {
    const ran = timer(60_000);
    await base.advance(59_999);
    expect(clock.nowMs()).toBe(59_999);
    expect(ran).toEqual([]);
    await base.advance(1);
    expect(ran).toEqual([60_000]);
    expect(pauses).toEqual([]);
  });

  test('a process that is late by less than a second has missed nothing, so no pause is counted', async () => {
    await base.advance(250);
    base.jump(1_000);
    expect(clock.nowMs()).toBe(1_250);
    expect(pauses).toEqual([]);
  });
});

describe('a process that stood still', () => {
  test('finds that its timers have as much left as when it stopped, but for one look', async () => {
    const ran = timer(7_000);
    await base.advance(4_000);
    base.jump(20_000);
    await base.advance(0);
    expect(pauses).toEqual([20_000]);
    expect(ran).toEqual([]);
    await base.advance(2_749);
    expect(ran).toEqual([]);
    await base.advance(1);
    expect(ran).toEqual([26_750]);
  });

  test('never tells a time that lies before one that it has told, nor one that it has not been awake for', async () => {
    let lastMs = clock.nowMs();
    for (const ms of [100, 5_000, 1_001, 900, 86_400_000, 1]) {
      base.jump(ms);
      const nowMs = clock.nowMs();
      expect(nowMs).toBeGreaterThanOrEqual(lastMs);
      expect(nowMs - lastMs).toBeLessThanOrEqual(1_000);
      lastMs = nowMs;
      await base.advance(0);
    }
  });

  test('again and again is not awake for ever: each pause counts for something', async () => {
    const ran = timer(7_000);
    for (let pause = 0; pause < 28; pause++) {
      base.jump(1_500);
      await base.advance(0);
    }
    expect(ran).toHaveLength(1);
  });

  test('handles what arrived meanwhile before a timer that is late', async () => {
    // The event loop runs what is due, then reads its sockets, then runs what was put off.
    const putOff: (() => void)[] = [];
    base.soon = (run) => putOff.push(run);
    const ran = timer(500);
    const cancelled: string[] = [];
    const cancel = clock.after(500, () => cancelled.push('ran'));
    base.jump(900);
    await base.advance(0);
    expect(ran).toEqual([]);
    expect(putOff).toHaveLength(2);
    cancel();
    for (const run of putOff) run();
    expect(ran).toEqual([900]);
    expect(cancelled).toEqual([]);
  });
});

test('it leaves no timer behind when it is stopped, and counts no pause any more', () => {
  void clock.stop();
  expect(base.pending).toBe(0);
  base.jump(20_000);
  expect(clock.nowMs()).toBe(20_000);
});

test('it tells deadlines by the wall clock', () => {
  base.jump(20_000);
  expect(clock.wallMs()).toBe(base.wallMs());
});
