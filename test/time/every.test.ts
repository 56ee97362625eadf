import { expect, test } from 'vitest';
import { Every } from '../../src/time/every.ts';
import { FakeClock } from '../support/fake-clock.ts';

interface Run {
  readonly atMs: number;
  end(error?: Error): void;
}

/** A loop whose runs last until the test ends them. */
function scene(delayMs: number | (() => number) = 100) {
  const clock = new FakeClock(0);
  const runs: Run[] = [];
  const errors: unknown[] = [];
  const loop = new Every({
    clock,
    delayMs,
    run: () =>
      new Promise<void>((resolve, reject) => {
        const end = (error?: Error): void => {
          if (error === undefined) resolve();
          else reject(error);
        };
        runs.push({ atMs: clock.nowMs(), end });
      }),
    onError: (error) => errors.push(error),
  });
  const at = (): number[] => runs.map(({ atMs }) => atMs);
  return { clock, loop, runs, errors, at };
}

test('a run that takes longer than the interval is not overtaken by the next one', async () => {
  const { clock, loop, runs, at } = scene();
  loop.start();
  await clock.advance(1_000);
  expect(at()).toEqual([100]);
  runs[0]!.end();
  await clock.advance(150);
  expect(at()).toEqual([100, 1_100]);
});

test('an error of a run goes to the handler and does not end the loop', async () => {
  const { clock, loop, runs, errors, at } = scene();
  loop.start();
  await clock.advance(100);
  runs[0]!.end(new Error('boom'));
  await clock.advance(100);
  expect(errors).toEqual([new Error('boom')]);
  expect(at()).toEqual([100, 200]);
});

test('a stop waits for the run under way, and no run and no timer come after it', async () => {
  const { clock, loop, runs, at } = scene();
  loop.start();
  await clock.advance(100);
  let stopped = false;
  const stopping = loop.stop().then(() => (stopped = true));
  await clock.advance(1_000);
  expect(stopped).toBe(false);
  runs[0]!.end();
  await stopping;
  await clock.advance(1_000);
  expect([at(), clock.pending]).toEqual([[100], 0]);
});

test('a loop that is started twice runs once, and one that is stopped twice ends', async () => {
  const { clock, loop, at } = scene();
  loop.start();
  loop.start();
  expect(clock.pending).toBe(1);
  await Promise.all([loop.stop(), loop.stop()]);
  await loop.stop();
  await clock.advance(1_000);
  expect([at(), clock.pending]).toEqual([[], 0]);
});

test('a loop that is started again while its last run ends goes on after that run, and not beside it', async () => {
  const { clock, loop, runs, at } = scene();
  loop.start();
  await clock.advance(100);
  const stopping = loop.stop();
  loop.start();
  await clock.advance(500);
  expect(at()).toEqual([100]);
  runs[0]!.end();
  await stopping;
  await clock.advance(100);
  expect(at()).toEqual([100, 700]);
});

test('a delay that is computed is asked for before each wait', async () => {
  const delays = [10, 50, 200];
  const { clock, loop, runs, at } = scene(() => delays.shift() ?? Infinity);
  loop.start();
  for (let i = 0; i < 3; i++) {
    await clock.advance(200);
    runs[i]?.end();
    await clock.settle();
  }
  expect(at()).toEqual([10, 250, 600]);
});

test('a run that is wanted soon begins at once, or after the one under way, and never while the loop is stopped', async () => {
  const { clock, loop, runs, at } = scene();
  loop.soon();
  await clock.advance(500);
  expect(at()).toEqual([]);
  loop.start();
  loop.soon();
  await clock.advance(1);
  expect(at()).toEqual([500]);
  loop.soon();
  await clock.advance(20);
  expect(at()).toEqual([500]);
  runs[0]!.end();
  await clock.advance(1);
  expect(at()).toEqual([500, 521]);
});
