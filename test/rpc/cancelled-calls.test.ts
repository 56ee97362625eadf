import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { BrokerService, SubscribeRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../src/limits/limits.ts';
import { encode } from './grpc-client.ts';
import { closed } from './raw-call.ts';
import { serve, type Serving } from './serving.ts';

const { pull, subscribe } = BrokerService.method;
const cancelled = 5_000;

interface Edge {
  readonly edge: string;
  readonly portOf: (serving: Serving) => number;
  readonly contentType: string;
  readonly unaryType: string;
  readonly atOnce: number;
}

const edges: readonly Edge[] = [
  {
    edge: 'gRPC',
    portOf: ({ grpcPort }) => grpcPort,
    contentType: 'application/grpc',
    unaryType: 'application/grpc',
    atOnce: 500,
  },
  {
    edge: 'HTTP',
    portOf: ({ httpPort }) => httpPort,
    contentType: 'application/connect+proto',
    unaryType: 'application/proto',
    // With the stream as many as a connection may have.
    atOnce: limits.httpConnectionCallsMax - 1,
  },
];

function sessionOf(port: number): ClientHttp2Session {
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  return session;
}

/** Everything that was sent before has been received by the server. */
function received(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    session.ping((error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });
}

function pathOf({ name, parent }: { readonly name: string; readonly parent: { readonly typeName: string } }) {
  return { ':method': 'POST', ':path': `/${parent.typeName}/${name}` };
}

/** Calls whose request never comes, and which are cancelled once the server has begun them. */
async function cancelMany(session: ClientHttp2Session, contentType: string, atOnce: number): Promise<void> {
  for (let round = 0; round < cancelled / atOnce; round += 1) {
    const calls = Array.from({ length: atOnce }, () => {
      const call = session.request({ ...pathOf(pull), 'content-type': contentType, te: 'trailers' });
      return call.on('error', () => undefined);
    });
    await received(session);
    for (const call of calls) call.close(constants.NGHTTP2_CANCEL);
    await received(session);
  }
}

test.each(edges)(
  'over $edge a gateway that cancels thousands of calls keeps its connection, and the streams on it',
  { timeout: 120_000 },
  async ({ portOf, contentType, unaryType, atOnce }) => {
    const serving = await serve();
    const session = sessionOf(portOf(serving));
    const message = encode(SubscribeRequestSchema, { group: 'billing', topics: ['orders'] });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    const stream = session.request({ ...pathOf(subscribe), 'content-type': contentType, te: 'trailers' });
    stream.end(Buffer.concat([head, message]));
    await once(stream, 'data');

    await cancelMany(session, unaryType, atOnce);
    const more = once(stream, 'data');
    const { sink } = serving.broker.streams[0]!;
    sink.send({ type: 'assigned', generation: 2, partitions: [] });
    expect((await more).length).toBeGreaterThan(0);
    expect([session.closed, session.destroyed, stream.closed]).toEqual([false, false, false]);
  },
);

const frame = (type: number, flags: number, stream: number, payload: readonly number[]): Buffer =>
  Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream, ...payload]);

test.each(edges)('over $edge a client that does nothing but cancel is cut off in the end', async ({ portOf }) => {
  const socket = connectSocket(portOf(await serve()), '127.0.0.1');
  socket.resume();
  const over = closed(socket);
  const post = [0x83, 0x86, 0x84];
  const begin = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, []), frame(1, 4, 1, post)];
  const resets = Buffer.alloc(13 * limits.streamResetBurst * 5, frame(3, 0, 1, [0, 0, 0, 8]));
  socket.write(Buffer.concat([...begin, resets]));
  await over;
});
