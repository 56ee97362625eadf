import { beforeEach, expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { Scene, type FakeStream } from '../scene.ts';

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

test('the error of a NACK is in the log, with its group, record and member', async () => {
  await refuse(3, 'the card was declined');
  await scene.clock.advance(100);
  await refuse(3, 'declined again');
  const line = { group: 'billing', topic: 'orders', partition: 0, lane: 0, offsets: '3', member: stream.memberId };
  expect(lines()).toMatchObject([
    { ...line, attempt: 1, error: 'the card was declined' },
    { ...line, attempt: 2, error: 'declined again' },
  ]);
});

test('a NACK without an error, a rejected NACK and an ack write no line', async () => {
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

test('a NACK of a record that has come back already still writes its error', async () => {
  scene.mayDeliver = false;
  await refuse(3, 'the first');
  await refuse(4, 'the second');
  expect(lines()).toMatchObject([{ offsets: '3' }, { offsets: '4', error: 'the second' }]);
});

test('an error of a client cannot control the terminal that shows the log, nor begin a line of its own', async () => {
  await refuse(3, 'a\u001b[2J\u0007b\r\nc\u009b31md\u007fe');
  expect(lines()).toMatchObject([{ error: 'a [2J b c 31md e' }]);
});

test('an error that is too long is cut, and so is a long list of runs', async () => {
  const runs = Array.from({ length: 12 }, (_, at) => [at * 3, at * 3 + 1]).flat();
  await scene.ack('billing', stream, { action: 'NACK', runs, delayMs: 0, error: 'x'.repeat(5_000) });
  const offsets = '0-1, 3-4, 6-7, 9-10, 12-13, 15-16, 18-19, 21-22, 24-25, 27-28, …';
  expect(lines()).toMatchObject([{ offsets, error: 'x'.repeat(limits.nackErrorCharsMax) }]);
});

test('a group that NACKs everything does not fill the log, which counts the lines left out', async () => {
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

test('the number of lines left out is logged even if the broker stops within the second', async () => {
  for (let at = 0; at < 30; at++) await refuse(at, `${at}`);
  await scene.delivery.stop();
  expect(lines().at(-1)).toMatchObject({ group: 'billing', leftOut: 30 - limits.nackLogLinesMax });
});
