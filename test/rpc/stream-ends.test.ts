import { once } from 'node:events';
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { request } from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { waitFor } from '../../bench/support/timing.ts';
import { BrokerService, SubscribeRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import type { OpenedStream } from './fake-broker.ts';
import { encode } from './grpc-client.ts';
import { serve, type Serving } from './serving.ts';

const path = `/${BrokerService.typeName}/Subscribe`;

interface Edge {
  readonly edge: string;
  readonly portOf: (serving: Serving) => number;
  readonly contentType: string;
}

const edges: readonly Edge[] = [
  { edge: 'gRPC', portOf: ({ grpcPort }) => grpcPort, contentType: 'application/grpc' },
  { edge: 'HTTP/2', portOf: ({ httpPort }) => httpPort, contentType: 'application/connect+proto' },
];

interface Subscribed {
  readonly session: ClientHttp2Session;
  readonly stream: ClientHttp2Stream;
  readonly opened: OpenedStream;
  /** The reason of the end that reaches the broker. */
  readonly end: () => Promise<OpenedStream['end']>;
}

function framed(): Buffer {
  const message = encode(SubscribeRequestSchema, { group: 'billing', topics: ['orders'] });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

async function endOf(opened: OpenedStream): Promise<OpenedStream['end']> {
  await waitFor('the end of the stream', 10_000, 2, () => opened.closed);
  return opened.end;
}

async function subscribed({ portOf, contentType }: Edge): Promise<Subscribed> {
  const serving = await serve();
  const session = connect(`http://127.0.0.1:${portOf(serving)}`).on('error', () => undefined);
  onTestFinished(() => {
    session.destroy();
  });
  const headers = { ':method': 'POST', ':path': path, 'content-type': contentType, te: 'trailers' };
  const stream = session.request(headers).on('error', () => undefined);
  stream.end(framed());
  await once(stream, 'data');
  const opened = serving.broker.streams[0]!;
  return { session, stream, opened, end: () => endOf(opened) };
}

describe.each(edges)('over $edge', (edge) => {
  test('a stream that its client resets is cancelled, not lost: the connection stays open', async () => {
    const { session, stream, end } = await subscribed(edge);
    stream.close(constants.NGHTTP2_CANCEL);
    expect(await end()).toBe('CANCELLED');
    expect(session.destroyed).toBe(false);
  });

  test('a stream is cancelled when its client resets it and closes the connection right after it', async () => {
    const { session, stream, end } = await subscribed(edge);
    stream.close(constants.NGHTTP2_CANCEL);
    session.close();
    expect(await end()).toBe('CANCELLED');
  });

  test('a stream whose connection is destroyed under it is lost, not cancelled', async () => {
    const { session, end } = await subscribed(edge);
    session.socket.destroy();
    expect(await end()).toBe('CONNECTION_LOST');
  });
});

test('over HTTP/1.1 a stream is lost with its connection', async () => {
  const { broker, httpPort } = await serve();
  const headers = { 'content-type': 'application/connect+proto' };
  const call = request({ host: '127.0.0.1', port: httpPort, path, method: 'POST', headers });
  call.on('error', () => undefined).end(framed());
  await waitFor('the stream', 10_000, 2, () => broker.streams.length === 1);
  call.destroy();
  expect(await endOf(broker.streams[0]!)).toBe('CONNECTION_LOST');
});
