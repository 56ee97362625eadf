import { expect, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { BufferedBodies } from '../../../src/rpc/bodies/buffered-bodies.ts';
import { smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';

test('what waits in the streams that nobody reads is counted, and a stream beyond the room is refused', async () => {
  const account = smallAccount({ bodies: 1_000 });
  const bodies = account.kind('bodies');
  const clock = new FakeClock();
  const buffered = new BufferedBodies(clock);
  const refused: string[] = [];
  const bodyOf = (name: string) => ({
    stream: { readableLength: 0 },
    readBytes: 0,
    room: account.owner().kind('bodies'),
    refused: () => refused.push(name),
  });
  const [first, second] = [bodyOf('first'), bodyOf('second')];
  for (const body of [first, second]) buffered.begin(body);
  const look = async (...lengths: readonly [number, number]) => {
    [first.stream.readableLength, second.stream.readableLength] = lengths;
    await clock.advance(100);
    return bodies.bytes;
  };
  expect(await look(600, 0)).toBe(600);
  expect(await look(500, 500)).toBe(1_000);
  expect(await look(500, 600)).toBe(500);
  expect(refused).toEqual(['second']);
  // It is not counted or refused again, and the other goes on.
  expect(await look(900, 9_000)).toBe(900);
  for (const body of [first, second, first]) buffered.over(body);
  expect(bodies.bytes).toBe(0);
  await clock.advance(100);
  expect([clock.pending, refused]).toEqual([0, ['second']]);
});

test('bytes that nobody reads end their stream, and one that is read slowly goes on for ever', async () => {
  const account = smallAccount({});
  const bodies = account.kind('bodies');
  const clock = new FakeClock();
  const buffered = new BufferedBodies(clock);
  const refused: string[] = [];
  const bodyOf = (name: string) => ({
    stream: { readableLength: 1_000 },
    readBytes: 0,
    room: account.owner().kind('bodies'),
    refused: ({ reason }: { readonly reason: string }) => refused.push(`${name} ${reason}`),
  });
  const [slow, stuck, empty] = [bodyOf('slow'), bodyOf('stuck'), bodyOf('empty')];
  for (const body of [slow, stuck, empty]) buffered.begin(body);
  await clock.advance(100);
  empty.stream.readableLength = 0;
  for (let minute = 0; minute < 10; minute += 1) {
    slow.readBytes += 1_000;
    // It never has less than before, and some of it is read, but not what came first.
    stuck.readBytes += 90;
    await clock.advance(limits.unreadAnswerMs);
  }
  expect(refused).toEqual(['stuck MALFORMED_REQUEST']);
  expect(bodies.bytes).toBe(1_000);
  buffered.stop();
});
