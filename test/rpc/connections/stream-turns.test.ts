import { EventEmitter } from 'node:events';
import type { Http2Server, ServerHttp2Stream } from 'node:http2';
import { expect, test, vi } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { EarlyResets } from '../../../src/rpc/connections/early-resets.ts';
import { NativeSessions } from '../../../src/rpc/connections/native-sessions.ts';
import { countRead, StreamTurns } from '../../../src/rpc/connections/stream-turns.ts';
import { roomyAccount, smallAccount } from '../../account/accounts.ts';
import { FakeClock } from '../../support/fake-clock.ts';

class FakeSession {
  destroyed = false;
  endedWith: number | null = null;
  reads = true;
  readonly handle = {
    writeQueueSize: 0,
    readStop: () => void (this.reads = false),
    readStart: () => void (this.reads = true),
  };
  readonly socket = { remoteAddress: '127.0.0.1', _handle: this.handle };

  destroy(_error: Error, code: number): void {
    this.destroyed = true;
    this.endedWith = code;
  }
}

class FakeStream extends EventEmitter {
  destroyed = false;
  closed = false;
  headersSent = false;
  rstCode = 0;
  readableEnded = false;
  writableLength = 0;
  readonly session: FakeSession;

  constructor(session: FakeSession) {
    super();
    this.session = session;
  }

  reset(rstCode = 8): void {
    Object.assign(this, { destroyed: true, closed: true, rstCode });
    this.emit('close');
  }

  /** Node ends an empty body although nobody listens yet. */
  endOfBody(): void {
    this.readableEnded = true;
    this.emit('end');
  }

  answered(): void {
    this.headersSent = true;
    this.reset(0);
  }
}

/** A server whose streams stay open, with its turns before it. */
function scene(account = roomyAccount(), serve: (stream: FakeStream) => void = () => undefined) {
  const clock = new FakeClock();
  const warnings: object[] = [];
  const resets = new EarlyResets(clock, { warn: (fields: object) => warnings.push(fields) });
  const server = new EventEmitter();
  const served: FakeStream[] = [];
  server.on('stream', (stream: FakeStream) => {
    served.push(stream);
    serve(stream);
  });
  const natives = new NativeSessions(clock);
  new StreamTurns({ clock, account, resets, natives }).attach(server as unknown as Http2Server);
  const open = (session: FakeSession): FakeStream => {
    const stream = new FakeStream(session);
    server.emit('stream', stream, {}, 0, []);
    return stream;
  };
  return { clock, warnings, served, open, natives, streams: account.kind('streams') };
}

const many = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);

test('a call waits for one turn of a connection that opens a thousand in the same moment, and not for all of them', async () => {
  const { clock, served, open, streams } = scene();
  const [greedy, other] = [new FakeSession(), new FakeSession()];
  many(1_000, () => open(greedy));
  const call = open(other);
  expect(served).toHaveLength(limits.streamsAtOnceMax);
  expect(streams.bytes).toBe((1_001 - limits.streamsAtOnceMax) * limits.openCallBytes);
  await clock.advance(0);
  expect(served).toHaveLength(1_001);
  expect(served.indexOf(call)).toBeLessThanOrEqual(limits.streamsAtOnceMax + 1);
  expect(streams.bytes).toBe(0);
});

test('a stream that is reset while it waits is never begun, and does not stay counted', async () => {
  const { clock, served, open, streams } = scene();
  const session = new FakeSession();
  const opened = many(500, () => open(session));
  for (const stream of opened) stream.reset();
  await clock.advance(0);
  expect(served).toHaveLength(limits.streamsAtOnceMax);
  expect([streams.bytes, session.endedWith]).toEqual([0, null]);
});

test('who serves a stream that has waited hears of the end of its body once', async () => {
  const ends = new Map<FakeStream, number>();
  const { clock, open } = scene(roomyAccount(), (stream) => {
    stream.on('end', () => ends.set(stream, (ends.get(stream) ?? 0) + 1));
  });
  const session = new FakeSession();
  const opened = many(limits.streamsAtOnceMax + 2, () => open(session));
  const [before, after] = opened.slice(-2) as [FakeStream, FakeStream];
  before.endOfBody();
  await clock.advance(0);
  after.endOfBody();
  expect([ends.get(before), ends.get(after), ends.size]).toEqual([1, 1, 2]);
});

test('a connection with more streams than a turn is not read until they are served', async () => {
  const { clock, open } = scene();
  const [greedy, other] = [new FakeSession(), new FakeSession()];
  open(other);
  many(limits.streamsAtOnceMax, () => open(greedy));
  expect([greedy.reads, other.reads]).toEqual([false, true]);
  await clock.advance(0);
  expect(greedy.reads).toBe(true);
});

test('a connection whose client does not take what is written to it is not read on before Node does it', async () => {
  const { clock, open } = scene();
  const greedy = new FakeSession();
  many(limits.streamsAtOnceMax + 1, () => open(greedy));
  greedy.handle.writeQueueSize = 1;
  await clock.advance(0);
  expect(greedy.reads).toBe(false);
});

test('a connection that brings more than its part of a full turn is read on in the next turn', async () => {
  const { clock, open } = scene();
  const [greedy, other] = [new FakeSession(), new FakeSession()];
  const [one, two] = [open(greedy), open(greedy)];
  const small = open(other);
  const bring = (stream: FakeStream, bytes: number) => {
    countRead(stream as unknown as ServerHttp2Stream, bytes);
  };
  for (let turn = 0; turn < 3; turn += 1) {
    bring(one, limits.allReadAtOnceBytes - limits.readAtOnceBytes);
    bring(small, limits.readAtOnceBytes - 1);
    expect([greedy.reads, other.reads]).toEqual([true, true]);
    bring(two, 1);
    expect([greedy.reads, other.reads]).toEqual([false, true]);
    await clock.advance(0);
    expect([greedy.reads, other.reads]).toEqual([true, true]);
  }
});

test('a full turn stops no connection that has not had its part', async () => {
  const { clock, open } = scene();
  const sessions = many(5, () => new FakeSession());
  const bring = (stream: FakeStream, bytes: number) => {
    countRead(stream as unknown as ServerHttp2Stream, bytes);
  };
  const [first, ...others] = sessions.map(open);
  for (const stream of others) bring(stream, limits.readAtOnceBytes - 1);
  bring(first!, 3);
  expect(sessions.map(({ reads }) => reads)).toEqual([true, true, true, true, true]);
  bring(first!, limits.readAtOnceBytes);
  expect(sessions.map(({ reads }) => reads)).toEqual([false, true, true, true, true]);
  await clock.advance(0);
  expect(sessions.map(({ reads }) => reads)).toEqual([true, true, true, true, true]);
});

test('streams that may not wait, because the account has no room, are served at once and refused', () => {
  const { served, open } = scene(smallAccount({ streams: 0 }));
  const session = new FakeSession();
  many(limits.streamsAtOnceMax + 10, () => open(session));
  expect(served).toHaveLength(limits.streamsAtOnceMax + 10);
});

test('a connection that only opens and resets is closed, and one that cancels thousands of begun calls is not', async () => {
  const { clock, open, warnings } = scene();
  const [hostile, gateway] = [new FakeSession(), new FakeSession()];
  for (let round = 0; round < 100; round += 1) {
    const calls = many(50, () => open(gateway));
    await clock.advance(0);
    for (const call of calls) call.reset();
    for (const call of many(50, () => open(gateway))) call.answered();
    await clock.advance(0);
  }
  expect(gateway.endedWith).toBe(null);
  for (let count = 0; count <= limits.earlyResetBurst; count += 1) open(hostile).reset();
  await clock.advance(0);
  expect(hostile.endedWith).toBe(11);
  expect(warnings).toEqual([{ connections: 1, peer: '127.0.0.1' }]);
});

test('many connections that reset calls within their limits are closed together, and one with few resets is not', async () => {
  const { clock, open } = scene();
  const hostile = many(100, () => new FakeSession());
  const gateway = new FakeSession();
  for (let count = 0; count < limits.freeEarlyResets - 1; count += 1) open(gateway).reset();
  for (let count = 0; count < limits.earlyResetBurst / 10; count += 1) {
    for (const session of hostile) if (!session.destroyed) open(session).reset();
    await clock.advance(0);
  }
  open(gateway).reset();
  await clock.advance(0);
  expect(hostile.filter(({ endedWith }) => endedWith === 11)).toHaveLength(100);
  expect(gateway.endedWith).toBe(null);
});

test('the session of a stream that ends with an unwritten answer is kept, and that of others is not', () => {
  const { open, natives } = scene();
  const leaves = vi.spyOn(natives, 'leaveUnwritten');
  const [written, unwritten] = [new FakeSession(), new FakeSession()];
  open(written).reset();
  const stream = open(unwritten);
  stream.writableLength = 1;
  stream.reset();
  expect(leaves.mock.calls).toEqual([[unwritten]]);
});
