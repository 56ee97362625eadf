import { connect } from 'node:http2';
import { expect, onTestFinished, test } from 'vitest';
import { PublishRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../src/limits/limits.ts';
import { roomyAccount } from '../account/accounts.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { encode } from './grpc-client.ts';
import { framed, openCall } from './raw-call.ts';
import { serve } from './serving.ts';

const path = '/millrace.v1.BrokerService/PublishStream';
const mib = 1_048_576;
const publish = framed(encode(PublishRequestSchema, { topic: 'orders', records: [{ value: Buffer.alloc(2_000) }] }));

test.each([
  ['gRPC', 'application/grpc'],
  ['HTTP', 'application/connect+proto'],
])(
  'over %s a stream whose client reads no answers has its requests counted, and does not hold them for ever',
  { timeout: 120_000 },
  async (edge, contentType) => {
    const account = roomyAccount();
    const bodies = account.kind('bodies');
    const clock = new FakeClock();
    const { grpcPort, httpPort, bugs } = await serve({ account, clock });
    const port = edge === 'gRPC' ? grpcPort : httpPort;
    const session = connect(`http://127.0.0.1:${port}`, {
      settings: { initialWindowSize: 0 },
      maxSessionMemory: 1_000,
    });
    session.on('error', () => undefined);
    onTestFinished(() => {
      session.destroy();
    });
    const call = openCall(session, path, { 'content-type': contentType });
    // The transport of Node takes 64 KiB of answers for itself, those to thousands of requests.
    for (let sent = 0; sent < 16 * mib; sent += publish.length) call.write(publish);
    const counted = async (): Promise<number> => {
      await clock.advance(100);
      return bodies.bytes;
    };
    await expect.poll(counted, { timeout: 60_000, interval: 250 }).toBeGreaterThan(2 * mib);
    for (let minute = 0; minute < 10; minute += 1) await clock.advance(limits.unreadAnswerMs);
    await expect.poll(counted, { timeout: 20_000 }).toBe(0);
    expect(bugs).toEqual([]);
  },
);
