import type { Client } from 'pg';
import { expect, test, vi } from 'vitest';
import { answered } from '../../../src/storage/pg/answered.ts';

const withinMs = 3_000;

/** A statement under way, on an event loop of which the test makes each step. */
function statement() {
  const timers: (() => void)[] = [];
  const putOff: (() => void)[] = [];
  const clock = {
    wallMs: () => 0,
    nowMs: () => 0,
    after: (_ms: number, run: () => void) => {
      timers.push(run);
      return () => undefined;
    },
    soon: (run: () => void) => {
      putOff.push(run);
    },
  };
  const destroy = vi.fn();
  const client = { connection: { stream: { destroy } } } as unknown as Client;
  const answer = Promise.withResolvers<string>();
  const waiting = answered(client, { withinMs, clock }, () => answer.promise);
  const runAll = (due: (() => void)[]): void => {
    for (const run of due.splice(0)) run();
  };
  return { waiting, answer, destroy, runTimers: () => runAll(timers), runPutOff: () => runAll(putOff) };
}

test('an answer that arrives while the broker stands still keeps its connection', async () => {
  const { waiting, answer, destroy, runTimers, runPutOff } = statement();
  // The event loop runs its timers, then reads its sockets, then runs what was put off.
  runTimers();
  answer.resolve('renewed');
  expect(await waiting).toBe('renewed');
  runPutOff();
  expect(destroy).not.toHaveBeenCalled();
});

test('a connection without an answer is cut', () => {
  const { destroy, runTimers, runPutOff } = statement();
  runTimers();
  runPutOff();
  const error = expect.objectContaining({ message: `Connection terminated: no answer for ${withinMs} ms` });
  expect(destroy).toHaveBeenCalledWith(error);
});
