import { describe, expect, test } from 'vitest';
import { Mutex } from '../../src/time/mutex.ts';
import { Once } from '../../src/time/once.ts';
import { pause } from '../../src/time/pause.ts';
import { Turns } from '../../src/time/turns.ts';
import { timeUp, within } from '../../src/time/within.ts';
import { FakeClock } from '../support/fake-clock.ts';

describe('work that is done once', () => {
  test('is shared by all who ask for its key meanwhile, and done again for those who ask later', async () => {
    const once = new Once<string, number>();
    const gate = Promise.withResolvers<void>();
    let runs = 0;
    const work = async (): Promise<number> => {
      await gate.promise;
      return ++runs;
    };
    const first = once.run('a', work);
    expect(once.run('a', work)).toBe(first);
    expect([once.has('a'), once.has('b')]).toEqual([true, false]);
    gate.resolve();
    expect(await Promise.all([first, once.run('b', work)])).toEqual([1, 2]);
    expect(once.has('a')).toBe(false);
    expect(await once.run('a', work)).toBe(3);
  });

  test('work that fails is forgotten, so that the next caller tries again', async () => {
    const once = new Once<string, number>();
    await expect(once.run('a', () => Promise.reject(new Error('boom')))).rejects.toThrow('boom');
    await once.ended();
    expect(await once.run('a', () => Promise.resolve(1))).toBe(1);
  });
});

test('work under a mutex never overlaps, and the next begins also after work that failed', async () => {
  const mutex = new Mutex();
  const said: string[] = [];
  const work = (name: string) => async (): Promise<void> => {
    said.push(`${name} begins`);
    await Promise.resolve();
    said.push(`${name} ends`);
    if (name === 'a') throw new Error('boom');
  };
  const [first, second] = [mutex.take(work('a')), mutex.take(work('b'))];
  expect(mutex.load).toBe(2);
  await expect(first).rejects.toThrow('boom');
  await second;
  expect(said).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
  expect(mutex.load).toBe(0);
});

test('work under a mutex is never overtaken by work that came later, even in the moment between two pieces', async () => {
  const mutex = new Mutex();
  const said: string[] = [];
  const say = (name: string) => (): Promise<void> => {
    said.push(name);
    return Promise.resolve();
  };
  const first = mutex.take(say('a')).then(() => mutex.take(say('c')));
  const second = mutex.take(say('b'));
  await mutex.ended();
  await Promise.all([first, second]);
  expect(said).toEqual(['a', 'b', 'c']);
});

describe('a wait with a time limit', () => {
  test('answers what the work answers, and leaves no timer', async () => {
    const clock = new FakeClock();
    expect(await within(clock, 1_000, Promise.resolve(7))).toBe(7);
    await expect(within(clock, 1_000, Promise.reject(new Error('boom')))).rejects.toThrow('boom');
    expect(clock.pending).toBe(0);
  });

  test('is over when the time is up, and an error that comes later reaches nobody', async () => {
    const clock = new FakeClock();
    const late = Promise.withResolvers<void>();
    const waiting = within(clock, 1_000, late.promise);
    await clock.advance(1_000);
    expect(await waiting).toBe(timeUp);
    late.reject(new Error('boom'));
    await clock.settle();
  });
});

test('a pause ends with the stop of its work, and neither end leaves a timer', async () => {
  const clock = new FakeClock();
  const ending = new AbortController();
  const stopped = pause(clock, 2_000, ending.signal);
  const over = pause(clock, 100, ending.signal);
  await clock.advance(100);
  await over;
  expect(clock.pending).toBe(1);
  ending.abort();
  await stopped;
  await pause(clock, 2_000, ending.signal);
  expect(clock.pending).toBe(0);
});

test('pieces of work that come together do not keep the event loop for longer than one of them', () => {
  const putOff: (() => void)[] = [];
  const turns = new Turns({ soon: (run) => putOff.push(run) });
  const done: string[] = [];
  for (const name of ['a', 'b', 'c']) turns.take(() => done.push(name));
  expect(done).toEqual([]);
  for (const soFar of [['a'], ['a', 'b'], ['a', 'b', 'c']]) {
    expect(putOff.length).toBe(1);
    putOff.shift()!();
    expect(done).toEqual(soFar);
  }
  turns.take(() => done.push('later'));
  putOff.shift()!();
  expect([done.at(-1), putOff.length]).toEqual(['later', 0]);
});
