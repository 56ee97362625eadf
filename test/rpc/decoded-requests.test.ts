import { expect, test } from 'vitest';
import { BrokerService, PullRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { limits } from '../../src/limits/limits.ts';
import { roomyAccount } from '../account/accounts.ts';
import { contentTypeOf, edges, pathOf } from '../hostile/calls.ts';
import { encode } from './grpc-client.ts';
import { answerOf, framed, openCall, rawSession } from './raw-call.ts';
import { serve } from './serving.ts';

const { pull } = BrokerService.method;
const partitionsMax = 60_000;
const partitions = Array.from({ length: partitionsMax }, (_, partition) => ({ partition, offset: 100n }));
const start = { position: { case: 'offset', value: { partitions } } } as const;
const request = encode(PullRequestSchema, { group: 'billing', topics: ['orders'], start, wait: { seconds: 60n } });

test.each(edges)(
  'over %s a connection whose large requests wait gets no room for more of them, and another one does',
  { timeout: 90_000 },
  async (edge) => {
    const account = roomyAccount();
    const { broker, grpcPort, httpPort, bugs } = await serve({ account, limits: { ...limits, partitionsMax } });
    const [one, other] = [0, 0].map(() => rawSession(edge === 'grpc' ? grpcPort : httpPort));
    const open = (session = one!) => {
      const call = openCall(session, pathOf(pull), { 'content-type': contentTypeOf(edge, pull) });
      call.end(edge === 'grpc' ? framed(request) : request);
      return call;
    };
    open();
    await expect.poll(() => broker.calls.length, { timeout: 20_000 }).toBe(1);
    const refused = edge === 'grpc' ? { code: 8, reason: 'CONNECTION_BUSY' } : { httpStatus: 429 };
    expect(await answerOf(open())).toMatchObject(refused);
    open(other);
    await expect.poll(() => broker.calls.length, { timeout: 20_000 }).toBe(2);
    for (const session of [one, other]) session!.destroy();
    await expect.poll(() => account.kind('decoded').bytes, { timeout: 20_000 }).toBe(0);
    expect(bugs).toEqual([]);
  },
);
