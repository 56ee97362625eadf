import { isFieldSet } from '@bufbuild/protobuf';
import { createClient, type Transport } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport } from '@connectrpc/connect-node';
import { describe, expect, test } from 'vitest';
import { BrokerService, GapReason, GapSchema, type Gap } from '../../../gen/millrace/v1/broker_pb.js';
import type { GapOfLog } from '../../../src/delivery/ports/session.ts';
import { serve, type Serving } from '../serving.ts';

const edges: readonly (readonly [string, (serving: Serving) => Transport])[] = [
  ['gRPC', ({ grpcPort }) => createGrpcTransport({ baseUrl: `http://127.0.0.1:${grpcPort}` })],
  ['Connect', ({ httpUrl: baseUrl }) => createConnectTransport({ baseUrl, httpVersion: '1.1', useBinaryFormat: true })],
  ['JSON', ({ httpUrl: baseUrl }) => createConnectTransport({ baseUrl, httpVersion: '1.1' })],
];

const zeros = { topic: 'orders', partition: 0, lane: 0, first: 0, last: 0, reason: 'RETENTION' } as const;
const gaps: readonly (readonly [GapOfLog, GapReason])[] = [
  [zeros, GapReason.RETENTION],
  [{ ...zeros, partition: 3, last: 91, reason: 'MAX_AGE' }, GapReason.MAX_AGE],
  [{ ...zeros, first: 7, last: 2 ** 53 - 1, reason: 'MAX_BYTES' }, GapReason.MAX_BYTES],
];

/** Expects the whole range, and zeros that are set. */
function expectSame(got: Gap, { topic, partition, lane, first, last }: GapOfLog, reason: GapReason): void {
  expect(got).toMatchObject({ topic, partition, lane, first: BigInt(first), last: BigInt(last), reason });
  const { field } = GapSchema;
  for (const one of [field.partition, field.lane, field.first, field.last]) expect(isFieldSet(got, one)).toBe(true);
}

describe.each(edges)('over %s', (_name, transport) => {
  test('a stream gets each gap with its range and its reason', async () => {
    const serving = await serve();
    const canceller = new AbortController();
    const request = { group: 'billing', topics: ['orders'] };
    const client = createClient(BrokerService, transport(serving));
    const stream = client.subscribe(request, { signal: canceller.signal })[Symbol.asyncIterator]();
    await stream.next();
    for (const [gap, reason] of gaps) {
      serving.broker.streams[0]!.sink.send({ type: 'gap', generation: 2, ...gap });
      const { value } = (await stream.next()) as IteratorYieldResult<{ generation?: bigint; event: unknown }>;
      const event = value.event as { readonly case: string; readonly value: Gap };
      expect([value.generation, event.case]).toEqual([2n, 'gap']);
      expectSame(event.value, gap, reason);
    }
    canceller.abort();
    await stream.next().catch(() => undefined);
  });

  test('an answer of Pull has each gap with its range and its reason', async () => {
    const serving = await serve();
    serving.broker.gaps = gaps.map(([gap]) => gap);
    const client = createClient(BrokerService, transport(serving));
    const pulled = await client.pull({ group: 'billing', topics: ['orders'] });
    expect(pulled.gaps).toHaveLength(gaps.length);
    for (const [index, [gap, reason]] of gaps.entries()) expectSame(pulled.gaps[index]!, gap, reason);
  });
});
