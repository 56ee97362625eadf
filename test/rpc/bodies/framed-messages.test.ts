import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FramedMessages } from '../../../src/rpc/bodies/framed-messages.ts';
import { smallAccount } from '../../account/accounts.ts';
import { framed } from '../raw-call.ts';

function messagesOf({ single = false, bytesMax = 100_000, roomBytes = 1_000_000 } = {}) {
  const room = smallAccount({ bodies: roomBytes }).owner().kind('bodies');
  const refusals: string[] = [];
  const rests: Buffer[] = [];
  const messages = new FramedMessages({
    bytesMax,
    single,
    room,
    received: () => undefined,
    refused: ({ reason }) => refusals.push(reason),
    putBack: (rest) => rests.push(rest),
  });
  return { messages, room, refusals, rests };
}

test('messages come out as they were, however they are cut into pieces', () => {
  const cuts = fc.array(fc.integer({ min: 20, max: 3_000 }), { minLength: 1, maxLength: 50 });
  const sizes = fc.array(fc.integer({ min: 0, max: 20_000 }), { maxLength: 20 });
  fc.assert(
    fc.property(sizes, cuts, (lengths, pieces) => {
      const { messages, room, refusals } = messagesOf();
      const sent = lengths.map((length, index) => framed(Buffer.alloc(length, index + 1)));
      const bytes = Buffer.concat(sent);
      const got: Buffer[] = [];
      for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
        const next = at + pieces[turn % pieces.length]!;
        got.push(...messages.write(bytes.subarray(at, next)));
        at = next;
      }
      expect(got).toEqual(sent);
      expect([room.bytes, messages.isPartial, refusals]).toEqual([0, false, []]);
    }),
  );
});

test('a request in pieces of one byte becomes an object for each of them, until the heap is full', () => {
  const { messages, room, refusals } = messagesOf({ single: true, bytesMax: 4_194_304, roomBytes: 8_388_608 });
  const piece = Buffer.alloc(1);
  messages.write(framed(Buffer.alloc(4_194_304)).subarray(0, 5));
  let pieces = 0;
  while (refusals.length === 0 && pieces < 2_400_000) {
    messages.write(piece);
    pieces += 1;
  }
  expect(refusals).toEqual(['MALFORMED_REQUEST']);
  expect(pieces).toBeLessThan(6_000);
  expect([messages.write(piece), room.bytes, refusals.length]).toEqual([[], 0, 1]);
});

test('a promised length takes more than 16 times the room of the bytes that have come', () => {
  const { messages, room } = messagesOf({ single: true, bytesMax: 4_194_304 });
  messages.write(framed(Buffer.alloc(4_000_000)).subarray(0, 1_000));
  expect(room.bytes).toBeLessThanOrEqual(16_000);
});

test.each([true, false])(
  'incomplete messages take no more room than there is, and give it back when they end (single: %s)',
  (single) => {
    const account = smallAccount({ bodies: 30_000_000 });
    const refusals: string[] = [];
    const greedy = account.owner();
    const connections = [greedy, greedy, greedy, account.owner(), account.owner()];
    const open = connections.map((connection) => {
      return new FramedMessages({
        bytesMax: 12_000_000,
        single,
        room: connection.kind('bodies'),
        received: () => undefined,
        refused: ({ reason }) => refusals.push(reason),
        putBack: () => undefined,
      });
    });
    const most = framed(Buffer.alloc(12_000_000)).subarray(0, 9_000_000);
    for (const messages of open) messages.write(most);
    // One connection may have 16 MiB, and all of them 30 MB.
    expect(refusals).toEqual(['CONNECTION_BUSY', 'CONNECTION_BUSY', 'BROKER_BUSY']);
    for (const messages of open) messages.close();
    for (const messages of open) messages.close();
    expect(account.kind('bodies').bytes).toBe(0);
  },
);

test('a message that is compressed, too large, or a second one where one belongs is refused', () => {
  const compressed = messagesOf();
  compressed.messages.write(framed(Buffer.alloc(10), 1));
  const large = messagesOf();
  large.messages.write(framed(Buffer.alloc(100_001)).subarray(0, 5));
  const twice = messagesOf({ single: true });
  twice.messages.write(framed(Buffer.alloc(10)));
  twice.messages.write(Buffer.alloc(1));
  const reasons = [compressed, large, twice].map(({ refusals }) => refusals[0]);
  expect(reasons).toEqual(['COMPRESSION_REFUSED', 'REQUEST_TOO_LARGE', 'MALFORMED_REQUEST']);
});

test('thousands of empty messages in one chunk do not become as many objects at once', () => {
  const { messages, rests } = messagesOf();
  const chunk = Buffer.alloc(16_384 - (16_384 % 5));
  expect(messages.write(chunk).length).toBeLessThan(100);
  expect(rests).toHaveLength(1);
});
