import { once } from 'node:events';
import { constants, type ClientHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { PullRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { roomyAccount } from '../../account/accounts.ts';
import { bareConnection, callHeaders, frame } from '../../hostile/frames/frames.ts';
import { latest } from '../latest.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, closed, framed, openCall, rawSession } from '../raw-call.ts';
import { serve } from '../serving.ts';

const watchPath = '/grpc.health.v1.Health/Watch';
const checkPath = '/grpc.health.v1.Health/Check';
const pullPath = '/millrace.v1.BrokerService/Pull';
const empty = framed(Buffer.alloc(0));
const pull = framed(encode(PullRequestSchema, { group: 'billing', topics: ['orders'], wait: { seconds: 60n } }));

/** A bare connection that ends with the test. */
async function bare(port: number): Promise<Socket> {
  const socket = await bareConnection(port);
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

/** Everything that was sent before has been received by the server. */
function received(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    session.ping(() => {
      resolve();
    });
  });
}

test('a connection without a call is closed after five minutes, and one with a call is not', async () => {
  const clock = new FakeClock();
  const account = roomyAccount();
  const { grpcPort } = await serve({ clock, account });
  const [silent, calling] = [rawSession(grpcPort), rawSession(grpcPort)];
  const closed = once(silent, 'close');
  const watch = openCall(calling, watchPath);
  watch.end(empty);
  await Promise.all([received(silent), once(watch.resume(), 'data')]);
  await clock.advance(latest(limits.idleConnectionMs));
  await closed;
  await received(calling);
  expect([calling.closed, calling.destroyed]).toEqual([false, false]);
  // Its time begins with the end of its last call.
  const left = once(calling, 'close');
  watch.close();
  await expect.poll(() => account.kind('streams').bytes).toBe(0);
  await clock.advance(limits.idleConnectionMs - 1);
  await received(calling);
  expect(calling.closed).toBe(false);
  await clock.advance(latest(limits.idleConnectionMs) - limits.idleConnectionMs + 1);
  await left;
  await expect.poll(() => account.kind('connections').bytes).toBe(0);
});

test('a request with very many or very long headers is refused, and its connection goes on', async () => {
  const { grpcPort } = await serve();
  const session = rawSession(grpcPort);
  const many = Object.fromEntries(Array.from({ length: limits.requestHeadersMax }, (_, index) => [`x-${index}`, 'a']));
  for (const headers of [many, { 'x-long': 'a'.repeat(limits.requestHeaderBytesMax) }]) {
    const call = openCall(session, checkPath, headers);
    call.end(empty);
    await new Promise((resolve) => call.resume().once('close', resolve));
    expect(call.rstCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
  const call = openCall(session, checkPath);
  call.end(empty);
  expect(await answerOf(call)).toMatchObject({ code: 0 });
});

test('a connection whose client sends very many settings is closed', async () => {
  const { grpcPort } = await serve();
  const socket = await bare(grpcPort);
  const setting = Buffer.from([0, 4, 0, 0, 255, 255]);
  socket.write(frame(4, 0, 0, Buffer.concat(Array.from({ length: limits.http2SettingsMax + 1 }, () => setting))));
  await closed(socket.resume());
});

test('a connection whose client sends frames that are invalid is closed after a hundred of them', async () => {
  const { bugs, grpcPort } = await serve();
  const socket = await bare(grpcPort);
  const invalid = Buffer.concat([callHeaders(checkPath, 'application/grpc'), Buffer.from([0x00, 1, 0x41, 1, 0x61])]);
  let sent = 0;
  const over = closed(socket.resume());
  for (; sent < 2 * limits.http2InvalidFramesMax; sent += 1) socket.write(frame(1, 4, 2 * sent + 1, invalid));
  await over;
  expect(bugs).toEqual([]);
});

test('a connection whose client sends pings and reads none of the answers is closed', async () => {
  const { grpcPort } = await serve();
  const socket = await bare(grpcPort);
  socket.pause();
  const pings = Buffer.concat(Array.from({ length: 10_000 }, () => frame(6, 0, 0, Buffer.alloc(8))));
  let broken = false;
  socket.on('error', () => (broken = true));
  await expect
    .poll(
      async () => {
        await new Promise((resolve) => socket.write(pings, resolve));
        return broken;
      },
      { timeout: 20_000 },
    )
    .toBe(true);
});

test('a client that ends its side of a connection, or breaks it, leaves nothing behind', async () => {
  const account = roomyAccount();
  const { grpcPort } = await serve({ account });
  const held = () =>
    ['connections', 'streams', 'bodies', 'answers', 'decoded'].map((name) => account.kind(name as 'streams').bytes);
  const start = held();
  for (const leave of ['end', 'destroy', 'resetAndDestroy'] as const) {
    const socket = await bare(grpcPort);
    socket.resume();
    // A call that waits, one whose request is cut short, and one without a request.
    socket.write(Buffer.concat([frame(1, 4, 1, callHeaders(pullPath, 'application/grpc')), frame(0, 1, 1, pull)]));
    socket.write(
      Buffer.concat([frame(1, 4, 3, callHeaders(pullPath, 'application/grpc')), frame(0, 0, 3, pull.subarray(0, 9))]),
    );
    socket.write(frame(1, 4, 5, callHeaders(watchPath, 'application/grpc')));
    await expect.poll(() => account.kind('streams').bytes).toBe(3 * limits.openCallBytes);
    socket[leave]();
    await expect.poll(held).toEqual(start);
  }
});

test('a call that is reset in the moment in which it is refused does not end the broker', async () => {
  const { bugs, grpcPort } = await serve();
  const socket = await bare(grpcPort);
  socket.resume();
  const cancel = Buffer.from([0, 0, 0, 8]);
  const frames = Array.from({ length: 200 }, (_, index) => {
    const path = index % 2 === 0 ? '/millrace.v1.BrokerService/Nothing' : pullPath;
    return [frame(1, 4, 2 * index + 1, callHeaders(path, 'application/grpc')), frame(3, 0, 2 * index + 1, cancel)];
  });
  socket.write(Buffer.concat(frames.flat()));
  const session = rawSession(grpcPort);
  const call = openCall(session, checkPath);
  call.end(empty);
  expect(await answerOf(call)).toMatchObject({ code: 0 });
  expect(bugs).toEqual([]);
});
