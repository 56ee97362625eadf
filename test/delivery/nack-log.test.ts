import { beforeEach, expect, test } from 'vitest';
import { limits } from '../../src/limits/limits.ts';
import { Scene, type FakeStream } from './scene.ts';

let scene: Scene;
let stream: FakeStream;
beforeEach(async () => {
  scene = await Scene.open();
  scene.addTopic('orders', 1)[0]!.append(40);
  stream = await scene.subscribe('billing');
});

const refuse = (offset: number, error: string): Promise<unknown> =>
  scene.ack('billing', stream, { action: 'NACK', runs: [offset, offset], delayMs: 0, error });

const lines = (): object[] => scene.said.filter((line) => 'error' in line || 'leftOut' in line);

test('what a client says went wrong with a record is in the log, with whose record it was', async () => {
  await refuse(3, 'the card was declined');
  await scene.clock.advance(100);
  await refuse(3, 'declined again');
  const line = { group: 'billing', topic: 'orders', partition: 0, lane: 0, offsets: '3', member: stream.memberId };
  expect(lines()).toMatchObject([
    { ...line, attempt: 1, error: 'the card was declined' },
    { ...line, attempt: 2, error: 'declined again' },
  ]);
});

test('a NACK without a text writes nothing, nor does one that was refused, nor an ack', async () => {
  await refuse(3, '');
  await scene.clock.advance(100);
  await scene.ack('billing', stream, { action: 'ACK', runs: [0, 0], error: 'none' });
  await refuse(0, 'acked already');
  await refuse(100, 'never delivered');
  await scene.ack(
    'billing',
    { ...stream, memberId: stream.memberId, generation: 99 },
    { action: 'NACK', runs: [1, 1], error: 'stale' },
  );
  expect(lines()).toEqual([]);
});

test('a record that is back already, because of another one, still says what went wrong with it', async () => {
  scene.mayDeliver = false;
  await refuse(3, 'the first');
  await refuse(4, 'the second');
  expect(lines()).toMatchObject([{ offsets: '3' }, { offsets: '4', error: 'the second' }]);
});

test('a text of a client cannot drive the terminal on which the log is read, nor begin a line of its own', async () => {
  await refuse(3, 'a\u001b[2J\u0007b\r\nc\u009b31md\u007fe');
  expect(lines()).toMatchObject([{ error: 'a [2J b c 31md e' }]);
});

test('a text that is too long is cut, and so are the runs that it is about', async () => {
  const runs = Array.from({ length: 12 }, (_, at) => [at * 3, at * 3 + 1]).flat();
  await scene.ack('billing', stream, { action: 'NACK', runs, delayMs: 0, error: 'x'.repeat(5_000) });
  const offsets = '0-1, 3-4, 6-7, 9-10, 12-13, 15-16, 18-19, 21-22, 24-25, 27-28, …';
  expect(lines()).toMatchObject([{ offsets, error: 'x'.repeat(limits.nackErrorCharsMax) }]);
});

test('a group that refuses everything does not fill the log, and the log says how much it has left out', async () => {
  const other = await scene.subscribe('shipping');
  for (let at = 0; at < 30; at++) await refuse(at, `${at}`);
  await scene.ack('shipping', other, { action: 'NACK', upToOffset: 2, delayMs: 0, error: 'of another group' });
  const first = Array.from({ length: limits.nackLogLinesMax }, (_, at) => ({ group: 'billing', error: `${at}` }));
  const others = { group: 'shipping', offsets: '0-2', error: 'of another group' };
  expect(lines()).toMatchObject([...first, others]);
  await scene.clock.advance(1_000);
  expect(lines().slice(first.length + 1)).toMatchObject([{ group: 'billing', leftOut: 30 - first.length }]);
  await refuse(1, 'a second later');
  expect(lines().at(-1)).toMatchObject({ error: 'a second later' });
});

test('what was left out is said also when the broker stops within the second', async () => {
  for (let at = 0; at < 30; at++) await refuse(at, `${at}`);
  await scene.delivery.stop();
  expect(lines().at(-1)).toMatchObject({ group: 'billing', leftOut: 30 - limits.nackLogLinesMax });
});
