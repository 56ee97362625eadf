import { once } from 'node:events';
import { status, type ServiceError } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
  type HealthCheckResponse,
} from '../../gen/grpc/health/v1/health_pb.js';
import { ServerReflection } from '../../gen/grpc/reflection/v1/reflection_pb.js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { draining } from '../../src/errors/rejections/broker.ts';
import { systemClock } from '../../src/time/system.ts';
import { failureOf, GrpcClient, grpcDetails } from './grpc-client.ts';
import { serve } from './serving.ts';

const { publish, publishStream, subscribe } = BrokerService.method;
const record = { value: Buffer.from('hello') };

test('a shutdown that cuts off a publish under way, or forgets a kind of stream', async () => {
  const { broker, servers, grpcPort, httpUrl } = await serve();
  const client = new GrpcClient(grpcPort);
  const commits: (() => void)[] = [];
  broker.commit = () => new Promise((resolve) => commits.push(resolve));
  const publishing = client.unary(publish, { topic: 'orders', records: [record] });
  const json = {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"topic":"orders","records":[{}]}',
  };
  await expect.poll(() => broker.published.length).toBe(1);
  const overHttp = fetch(`${httpUrl}/millrace.v1.BrokerService/Publish`, json);
  await expect.poll(() => broker.published.length).toBe(2);

  const member = client.stream(subscribe, { group: 'billing', topics: ['orders'] });
  const watch = client.stream(Health.method.watch, {});
  const statuses: ServingStatus[] = [];
  watch.on('data', ({ status: serving }: HealthCheckResponse) => statuses.push(serving));
  const reflecting = client.bidi(ServerReflection.method.serverReflectionInfo);
  reflecting.write({ messageRequest: { case: 'listServices', value: '' } });
  const publisher = client.bidi(publishStream);
  publisher.write({ topic: 'nowhere', records: [] });
  const publisherEnded = once(publisher, 'error') as Promise<[ServiceError]>;
  await Promise.all([once(member, 'data'), once(watch, 'data'), once(reflecting, 'data'), publisherEnded]);
  const idlePublisher = client.bidi(publishStream);
  idlePublisher.write({ topic: 'orders', records: [record] });
  await expect.poll(() => broker.published.length).toBe(3);

  const ends = [
    once(watch, 'end'),
    once(reflecting.resume(), 'end'),
    once(member, 'error'),
    once(idlePublisher, 'error'),
  ];
  idlePublisher.resume();
  member.resume();
  const stopped = servers.stop(60_000);
  // The broker ends its streams itself, and answers what it has taken.
  broker.streams[0]!.sink.end(draining('subscribe'));
  for (const commit of commits) commit();
  const [, , [drained], [refused]] = (await Promise.all(ends)) as [unknown, unknown, [ServiceError], [ServiceError]];
  expect(statuses).toEqual([ServingStatus.SERVING, ServingStatus.NOT_SERVING]);
  expect(drained.code).toBe(status.UNAVAILABLE);
  expect(grpcDetails(refused)).toMatchObject({ ErrorInfo: { reason: 'DRAINING' } });
  expect((await publishing).results).toHaveLength(1);
  expect((await overHttp).status).toBe(200);
  await stopped;
  expect((await failureOf(client.unary(publish, { topic: 'orders', records: [record] }))).code).toBe(
    status.UNAVAILABLE,
  );
});

test('a client that never ends its calls does not hold up a shutdown for longer than its grace', async () => {
  let elapse: () => void = () => undefined;
  const clock = {
    ...systemClock,
    after: (_delayMs: number, run: () => void) => {
      const before = elapse;
      elapse = () => {
        before();
        run();
      };
      return () => undefined;
    },
  };
  const { broker, servers, grpcPort, httpUrl } = await serve({ clock });
  broker.commit = () => new Promise(() => undefined);
  const publishing = new GrpcClient(grpcPort).unary(publish, { topic: 'orders', records: [record] });
  const overHttp = fetch(`${httpUrl}/millrace.v1.BrokerService/Publish`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"topic":"orders","records":[{}]}',
  });
  await expect.poll(() => broker.published.length).toBe(2);
  const failures = Promise.all([failureOf(publishing), failureOf(overHttp)]);
  const stopped = servers.stop(5_000);
  elapse();
  await stopped;
  expect((await failures)[0].code).toBe(status.UNAVAILABLE);
});

test('stopping what was never started, or stopping twice', async () => {
  const { servers } = await serve();
  await Promise.all([servers.stop(1_000), servers.stop(1_000)]);
  await servers.stop(1_000);
});
