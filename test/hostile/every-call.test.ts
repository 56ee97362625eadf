import { once } from 'node:events';
import { connect, type ClientHttp2Session } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Site } from '../broker/site.ts';
import { answerOf, closed, framed, openCall } from '../rpc/raw-call.ts';
import { contentTypeOf, edges, mayWait, methodsOfEdge, pathOf, portOf, type EdgeName } from './calls.ts';
import { bareConnection, callHeaders, frame, sent, taken } from './frames/frames.ts';
import { HostileSite } from './hostile-site.ts';
import { isFull, sized } from './sizes.ts';
import { UsualRequests } from './fuzz/usual-requests.ts';

const timeout = isFull ? 3_600_000 : 240_000;
const callsEach = 8;
const pieces = 3_000;
const usual = new UsualRequests();
const keptEach = sized(2, 250);
const atOnce = { connections: sized(2, 10), callsEach: sized(1, 25) };
/** Field 2,000, of 4,000,000 bytes. */
const unknown = Buffer.concat([Buffer.from([0x82, 0x7d, 0x80, 0x92, 0xf4, 0x01]), Buffer.alloc(4_000_000)]);
const framesAtOnce = 500;
/** More than a connection may have, at the sizes that once ended a broker. */
const opened: Readonly<Record<EdgeName, { readonly calls: number; readonly connections: number }>> = {
  grpc: { calls: sized(1_500, 34_000), connections: sized(1, 3) },
  http: { calls: sized(500, 10_000), connections: 1 },
};
let hostile: HostileSite;

beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** Each call of an edge has a connection of its own, which breaks afterwards. */
async function withEachCall(
  { broker }: Site,
  edge: EdgeName,
  run: (from: ClientHttp2Session, method: DescMethod) => Promise<void>,
  initialWindowSize = 65_535,
): Promise<void> {
  const url = `http://127.0.0.1:${portOf(broker, edge)}`;
  for (const method of methodsOfEdge[edge]) {
    const from = connect(url, { settings: { initialWindowSize } });
    from.on('error', () => undefined);
    // A ping on a connection that is not there yet is cancelled.
    await once(from, 'connect');
    try {
      await run(from, method);
    } finally {
      from.destroy();
    }
  }
}

/** The requests of the attack may delete the topic themselves. */
function onUsualTopic(run: (site: Site) => Promise<void>): Promise<void> {
  return hostile.attack(async (site) => {
    await site.createTopic(usual.topic);
    await run(site);
    await site.deleteTopic(usual.topic).catch(() => undefined);
  });
}

/** The broker has read what was sent before. */
const allRead = (from: ClientHttp2Session): Promise<void> =>
  new Promise((resolve, reject) => {
    from.ping((error: Error | null) => {
      if (error === null) resolve();
      else reject(error);
    });
  });

/**
 * Requests of 4 MB, whole or without their last byte. They come over some connections, so that no
 * limit of one connection keeps them away.
 */
async function sendAtOnce(port: number, method: DescMethod, isWhole: boolean): Promise<void> {
  const sessions = Array.from({ length: atOnce.connections }, () => {
    const session = connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 1_000 });
    return session.on('error', () => undefined);
  });
  const answered = isWhole && !mayWait(method);
  const taken = sessions.flatMap((session, connection) =>
    Array.from({ length: atOnce.callsEach }, async (_, index) => {
      const message = usual.binary(method, connection * atOnce.callsEach + index);
      const call = openCall(session, pathOf(method)).resume();
      const over = closed(call);
      // Without a copy of the megabytes for each request.
      const head = Buffer.alloc(5);
      head.writeUInt32BE(message.length + unknown.length, 1);
      call.write(Buffer.concat([head, message]));
      const written = new Promise<void>((resolve) => {
        if (isWhole) call.end(unknown, resolve);
        else call.write(unknown.subarray(0, -1), () => resolve());
      });
      await Promise.race(answered ? [over] : [over, written]);
    }),
  );
  await Promise.all(taken);
  for (const session of sessions) session.destroy();
}

describe.each(edges)('every call over %s', (edge) => {
  const openSome = (from: ClientHttp2Session, method: DescMethod) =>
    Array.from({ length: callsEach }, () => openCall(from, pathOf(method)));

  test('requests that never end leave nothing behind when their clients go', { timeout }, async () => {
    const begun = framed(Buffer.alloc(4_000_000)).subarray(0, 60_000);
    await hostile.attack((site) =>
      withEachCall(site, edge, async (from, method) => {
        for (const call of openSome(from, method)) call.resume().write(begun);
        await allRead(from);
      }),
    );
  });

  test.each([
    { what: 'requests of 4 MB', isWhole: true },
    { what: 'requests of 4 MB without their last byte', isWhole: false },
  ])('hundreds of $what at once are held or rejected, and leave nothing behind', { timeout }, async ({ isWhole }) => {
    await onUsualTopic(async (site) => {
      for (const method of methodsOfEdge[edge]) await sendAtOnce(portOf(site.broker, edge), method, isWhole);
    });
  });

  test('requests in thousands of pieces of one byte are refused', { timeout }, async () => {
    await hostile.attack((site) =>
      withEachCall(site, edge, async (from, method) => {
        if (method.methodKind !== 'unary') return;
        const call = openCall(from, pathOf(method));
        const answered = answerOf(call);
        call.write(framed(Buffer.alloc(1_000_000)).subarray(0, 5));
        for (let piece = 0; piece < pieces; piece += 1) call.write(Buffer.alloc(1));
        call.end();
        const { reason } = await answered;
        expect([method.name, reason]).toEqual([method.name, 'MALFORMED_REQUEST']);
      }),
    );
  });

  test('answers that nobody reads leave nothing behind when their clients go', { timeout }, async () => {
    await onUsualTopic(async (site) => {
      const run = async (from: ClientHttp2Session, method: DescMethod) => {
        openSome(from, method).forEach((call, index) => call.pause().end(framed(usual.binary(method, index))));
        await allRead(from);
      };
      await withEachCall(site, edge, run, 0);
    });
  });

  test('calls that are opened in thousands, and left, leave nothing behind', { timeout }, async () => {
    const { calls, connections } = opened[edge];
    await hostile.attack(async ({ broker }) => {
      for (const method of methodsOfEdge[edge]) {
        const headers = callHeaders(pathOf(method), contentTypeOf(edge, method));
        for (let round = 0; round < connections; round += 1) {
          const socket = await bareConnection(portOf(broker, edge));
          socket.resume();
          for (let first = 0; first < calls && !socket.destroyed; first += framesAtOnce) {
            const frames = Array.from({ length: framesAtOnce }, (_, at) => frame(1, 4, 2 * (first + at) + 1, headers));
            await sent(socket, Buffer.concat(frames));
          }
          await taken(socket);
          socket.destroy();
        }
      }
    });
  });

  test('megabytes that the broker does not know in a request are not kept with it', { timeout }, async () => {
    await onUsualTopic((site) =>
      withEachCall(site, edge, async (from, method) => {
        for (let index = 0; index < keptEach; index += 1) {
          const call = openCall(from, pathOf(method)).resume();
          const gone = closed(call);
          const request = framed(Buffer.concat([usual.binary(method, index), unknown]));
          const written = new Promise<void>((resolve) => call.end(request, resolve));
          // A call that may wait goes on while the next one begins.
          await Promise.race(mayWait(method) ? [gone, written] : [gone]);
        }
        await allRead(from);
      }),
    );
  });
});
