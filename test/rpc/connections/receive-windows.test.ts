import { once } from 'node:events';
import { connect, type ClientHttp2Session } from 'node:http2';
import { expect, onTestFinished, test } from 'vitest';
import { PublishRequestSchema } from '../../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../../src/limits/limits.ts';
import { smallAccount } from '../../account/accounts.ts';
import { encode } from '../grpc-client.ts';
import { answerOf, framed, openCall } from '../raw-call.ts';
import { serve } from '../serving.ts';

const session = (port: number): ClientHttp2Session => {
  const opened = connect(`http://127.0.0.1:${port}`);
  opened.on('error', () => undefined);
  onTestFinished(() => {
    opened.destroy();
  });
  return opened;
};
const record = { topic: 'orders', records: [{ value: Buffer.alloc(20_000) }] };
const publish = async (client: ClientHttp2Session): Promise<void> => {
  const call = openCall(client, '/millrace.v1.BrokerService/Publish');
  call.end(framed(encode(PublishRequestSchema, record)));
  await answerOf(call);
};
const expectWindow = async (client: ClientHttp2Session, bytes: number): Promise<void> => {
  await expect.poll(() => client.remoteSettings?.initialWindowSize).toBe(bytes);
  await expect.poll(() => client.state.remoteWindowSize).toBeGreaterThan(bytes - 21_000);
};

test('a publisher of large records waits for a window of 64 KiB after each bit of its request', async () => {
  const { grpcPort } = await serve();
  const client = session(grpcPort);
  await publish(client);
  await expectWindow(client, limits.receiveWindowBytes);
  const streaming = session(grpcPort);
  openCall(streaming, '/millrace.v1.BrokerService/PublishStream').on('error', () => undefined);
  await expectWindow(streaming, limits.receiveWindowBytes);
});

test('more connections have a wide window than there is memory for what they may send, or none has one again', async () => {
  const { grpcPort, httpPort } = await serve({ account: smallAccount({ bodies: 4 * limits.receiveWindowBytes }) });
  const clients = Array.from({ length: 4 }, () => session(grpcPort));
  for (const client of clients) await publish(client);
  for (const client of clients.slice(0, 3)) await expectWindow(client, limits.receiveWindowBytes);
  await publish(clients[3]!);
  await expectWindow(clients[3]!, 65_535);
  const http = session(httpPort);
  const path = {
    ':method': 'POST',
    ':path': '/millrace.v1.BrokerService/Publish',
    'content-type': 'application/proto',
  };
  const publishHere = async (): Promise<void> => {
    const call = http.request(path).resume();
    call.end(encode(PublishRequestSchema, record));
    await once(call, 'close');
  };
  await publishHere();
  await expectWindow(http, 65_535);
  clients[0]!.destroy();
  await expect
    .poll(async () => {
      await publishHere();
      return http.remoteSettings?.initialWindowSize;
    })
    .toBe(limits.receiveWindowBytes);
});
