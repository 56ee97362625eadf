import { once } from 'node:events';
import type { ServiceError } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { call, connect, openServerStream } from '../../../bench/client/service-client.ts';
import { freePort } from '../../../bench/support/free-port.ts';
import { BrokerService, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { failureOf } from '../../rpc/grpc-client.ts';
import { grpcRefusal } from '../refusal.ts';
import { answerOf, flagsOf, Starts, type Start } from '../start.ts';

const starts = new Starts();

async function start(url = starts.database.url): Promise<{ begun: Start; grpc: string; http: string }> {
  const flags = await flagsOf(url);
  const begun = starts.begin([...flags, '--log-level', 'info']);
  return { begun, grpc: `127.0.0.1:${flags[1]}`, http: flags[3]! };
}

test('SIGTERM while the broker waits for its database ends it at once with exit code 0', async () => {
  const { begun, http } = await start(`postgresql://u:p@127.0.0.1:${await freePort()}/d`);
  await begun.until('a reason', async () => /database/.test(String(await answerOf(http, '/readyz').catch(() => ''))));
  const sentMs = performance.now();
  begun.signal('SIGTERM');
  expect(await begun.end()).toBe(0);
  expect(performance.now() - sentMs).toBeLessThan(3_000);
});

test('SIGTERM at any moment of the start ends the broker with exit code 0', { timeout: 60_000 }, async () => {
  for (const moment of ['', 'this broker owns the database', 'this broker owns the database and serves']) {
    const { begun, http } = await start();
    if (moment === '')
      await begun.until('HTTP', async () => (await answerOf(http, '/healthz').catch(() => [0]))[0] === 200);
    else await begun.untilPrinted(moment);
    begun.signal('SIGTERM');
    expect([moment, await begun.end()]).toEqual([moment, 0]);
  }
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
  '%s while the broker serves ends it in time with exit code 0, and is logged',
  async (signal) => {
    const { begun } = await start();
    await begun.untilPrinted('Millrace serves');
    const sentMs = performance.now();
    begun.signal(signal);
    expect(await begun.end()).toBe(0);
    expect(performance.now() - sentMs).toBeLessThan(5_000);
    expect(begun.stderr).toContain(`${signal}: draining`);
  },
);

test(
  'a member with records in flight can still ack them during a drain, and no other member may join',
  { timeout: 60_000 },
  async () => {
    const { begun, grpc, http } = await start();
    await begun.untilPrinted('Millrace serves');
    const client = connect(grpc);
    await call(client, TopicService.method.createTopic, { topic: { name: 'orders', partitions: 1 } });
    await call(client, BrokerService.method.publish, { topic: 'orders', records: [{}, {}] });
    const request = { group: 'g', topics: ['orders'], start: { position: { case: 'earliest' as const, value: {} } } };
    const stream = openServerStream(client, BrokerService.method.subscribe, request);
    const events: SubscribeResponse[] = [];
    stream.on('data', (event: SubscribeResponse) => events.push(event));
    const ended = once(stream, 'error') as Promise<[ServiceError]>;
    const saw = (what: string) => () => events.some(({ event }) => event.case === what);
    await begun.until('a batch', saw('batch'));
    begun.signal('SIGTERM');
    await begun.until('Draining', saw('draining'));
    expect(await answerOf(http, '/readyz')).toEqual([503, 'stopping']);
    const another = openServerStream(client, BrokerService.method.subscribe, request).resume();
    expect(grpcRefusal(await failureOf(another.toArray()))).toMatchObject({ reason: 'DRAINING' });
    const joined = events[0]!;
    const { results } = await call(client, BrokerService.method.ack, {
      group: 'g',
      memberId: joined.event.case === 'joined' ? joined.event.value.memberId : '',
      generation: events.at(-1)!.generation!,
      acks: [{ topic: 'orders', partition: 0, upToOffset: 1n }],
    });
    expect(results).toMatchObject([{ committedOffset: 2n }]);
    const [error] = await ended;
    expect(grpcRefusal(error)).toMatchObject({ code: 'UNAVAILABLE', reason: 'DRAINING' });
    expect(await begun.end()).toBe(0);
    client.close();
  },
);

test('a second signal ends the drain without waiting for records in flight', { timeout: 60_000 }, async () => {
  const { begun, grpc } = await start();
  await begun.untilPrinted('Millrace serves');
  const client = connect(grpc);
  const request = { group: 'late', topics: ['orders'], start: { position: { case: 'earliest' as const, value: {} } } };
  const stream = openServerStream(client, BrokerService.method.subscribe, request).on('error', () => undefined);
  let events = '';
  stream.on('data', ({ event }: SubscribeResponse) => (events += ` ${event.case}`));
  await begun.until('a batch', () => events.includes('batch'));
  begun.signal('SIGTERM');
  await begun.until('Draining', () => events.includes('draining'));
  const sentMs = performance.now();
  begun.signal('SIGINT');
  expect(await begun.end()).toBe(1);
  expect(performance.now() - sentMs).toBeLessThan(1_000);
  client.close();
});
