import { fork } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Http2Session } from 'node:http2';
import { connect } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { NativeSessions } from '../../../src/rpc/connections/native-sessions.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { callHeaders, frame } from '../../hostile/frames/frames.ts';

const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]);

/** Calls whose trailers wrongly do not end them, and the answer to a ping that nobody sent. */
function wrongTrailers(path: string): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
  const field = Buffer.concat([Buffer.from([0]), text('x-some'), text('value'.repeat(20))]);
  const call = callHeaders(path, 'application/grpc');
  const ids = [1, 3, 5, 7, 9];
  const wrong = ids.map((id) => Buffer.concat([frame(1, 4, id, call), frame(1, 4, id, field)]));
  return Buffer.concat([...wrong, frame(1, 4, 11, call), frame(6, 1, 0, Buffer.alloc(8))]);
}

/** Calls `together` with the attack. False when the server is gone. */
async function attacked(port: number, attack: Buffer, together: () => void): Promise<boolean> {
  const socket = connect(port, '127.0.0.1').on('error', () => undefined);
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
  const seen = (event: string) => new Promise<void>((resolve) => socket.once(event, () => resolve()));
  socket.write(preface);
  // The server has begun the session when its settings come.
  const settings = seen('data');
  await Promise.race([settings, closed]);
  const isServed = !socket.destroyed;
  socket.write(attack);
  together();
  await Promise.race([seen('end'), closed]);
  socket.destroy();
  return isServed;
}

test.each(['gRPC', 'HTTP'] as const)(
  'a collection of garbage between a wrong end of a connection to %s and the next turn does not end the process',
  { timeout: 120_000 },
  async (edge) => {
    const child = fork(`${import.meta.dirname}/collecting-process.ts`, {
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    onTestFinished(() => void child.kill());
    let log = '';
    child.stderr!.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const ended = once(child, 'exit').then(() => log);
    const ports = await Promise.race([once(child, 'message'), ended]);
    expect(log).toBe('');
    const { [edge]: port, collector } = (ports as [Record<'gRPC' | 'HTTP' | 'collector', number>])[0];
    const trigger = connect(collector, '127.0.0.1').setNoDelay();
    trigger.on('error', () => undefined);
    await once(trigger, 'connect');
    const attack = wrongTrailers('/millrace.v1.BrokerService/Publish');
    for (let round = 0; round < 6; round += 1) {
      const isServed = await attacked(port, attack, () => trigger.write(round % 2 === 0 ? 'minor' : 'major'));
      if (!isServed) await ended;
    }
    trigger.destroy();
    expect([child.signalCode, log]).toEqual([null, '']);
  },
);

const kHandle = Symbol('kHandle');

/** The native part of a session that has closed. */
function closedSession(natives: NativeSessions, leavesUnwritten: boolean): WeakRef<object> {
  const native = {};
  const handle: { [kHandle]?: object } = { [kHandle]: native };
  const session = Object.assign(new EventEmitter(), handle);
  natives.keep(session as unknown as Http2Session);
  if (leavesUnwritten) natives.leaveUnwritten(session as unknown as Http2Session);
  delete session[kHandle];
  session.emit('close');
  return new WeakRef(native);
}

/** A weak reference holds its object until the turn is over. */
async function collected(): Promise<void> {
  await nextTurn();
  globalThis.gc!();
  await nextTurn();
}

test('the native part of a session is kept until the next turn', async () => {
  const clock = new FakeClock();
  const native = closedSession(new NativeSessions(clock), false);
  await collected();
  expect(native.deref() === undefined).toBe(false);
  await clock.advance(0);
  await expect.poll(async () => (await collected(), native.deref() === undefined)).toBe(true);
});

test('the native part of a session with an unwritten answer is kept until two collections are over', async () => {
  const clock = new FakeClock();
  const natives = new NativeSessions(clock);
  const native = closedSession(natives, true);
  await clock.advance(0);
  await collected();
  expect(native.deref() === undefined).toBe(false);
  await expect.poll(async () => (await collected(), native.deref() === undefined)).toBe(true);
  // Nothing of it is kept but by the natives, which have to be there until now.
  expect(natives).toBeDefined();
});

test('a thousand sessions wait for a collection, and the oldest of more does not', async () => {
  const clock = new FakeClock();
  const natives = new NativeSessions(clock);
  const closed = Array.from({ length: 1_001 }, () => closedSession(natives, true));
  await clock.advance(0);
  await collected();
  expect(closed.filter((native) => native.deref() === undefined)).toEqual([closed[0]]);
  expect(natives).toBeDefined();
});
