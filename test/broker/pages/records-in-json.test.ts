import { afterAll, beforeAll, expect, test } from 'vitest';
import { methodPath } from '../../../bench/client/service-client.ts';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { Site } from '../site.ts';

let site: Site;
const topic = 'orders';
/** In base64 they are more than an answer may have. */
const large = Buffer.alloc(2_800_000);
const refused = { code: 'FAILED_PRECONDITION', reason: 'RECORD_TOO_LARGE_IN_JSON' };

beforeAll(async () => {
  site = await Site.open({ flags: ['--record-bytes-max', '3145728'] });
  await site.createTopic(topic);
  const { publish } = BrokerService.method;
  const records = [{ key: 'before' }, { value: large }, { key: 'behind' }];
  await site.call(publish, { topic, partition: 0, records });
  // A third more in base64, which one record alone may have.
  await site.call(publish, { topic, partition: 1, records: [{ key: 'other', value: Buffer.alloc(1_000_000) }] });
});
afterAll(() => site.close());

interface Batches {
  readonly memberId?: string;
  readonly details?: readonly { readonly debug: { readonly reason?: string } }[];
  readonly batches?: readonly {
    readonly partition: number;
    readonly records: readonly { readonly offset: string; readonly record: { readonly key?: string } }[];
  }[];
}

async function json(method: Parameters<typeof methodPath>[0], request: object): Promise<Batches> {
  const response = await fetch(site.broker.httpUrl + methodPath(method), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
  });
  return (await response.json()) as Batches;
}

const keysOf = ({ batches = [] }: Batches) => batches.flatMap(({ records }) => records.map(({ record }) => record.key));

test('a record that is too large in JSON ends a read before it, and the read of it names it', async () => {
  const { readMessages } = MessageService.method;
  const read = (offset: number) => ({ topic, partition: 0, offset: String(offset), maxBytes: '3000000' });
  expect(keysOf(await json(readMessages, read(0)))).toEqual(['before']);
  const refusal = await site.jsonRefusal(readMessages, JSON.stringify(read(1)));
  expect(refusal).toMatchObject({ ...refused, message: expect.stringContaining('record 1 of partition 0') });
  expect(keysOf(await json(readMessages, read(2)))).toEqual(['behind']);
  const from = { case: 'offset', value: 1n } as const;
  const { batches } = await site.call(readMessages, { topic, partition: 0, from, maxBytes: 3_000_000n });
  expect(batches[0]?.records[0]?.offset).toBe(1n);
});

test('a record that is too large in JSON stops no other partition of a Pull, and its group can be reset behind it', async () => {
  const { pull } = BrokerService.method;
  const group = 'pulling';
  const request = { group, topics: [topic], start: { earliest: {} }, maxBytes: '3000000', wait: '5s', autoAck: true };
  let memberId: string | undefined;
  const keys: (string | undefined)[] = [];
  const reasons: (string | undefined)[] = [];
  const pullOnce = async (): Promise<void> => {
    const answer = await json(pull, { ...request, ...(memberId !== undefined && { memberId }) });
    memberId ??= answer.memberId;
    const reason = answer.details?.find(({ debug }) => debug.reason !== undefined)?.debug.reason;
    if (answer.details !== undefined) reasons.push(reason);
    keys.push(...keysOf(answer));
  };
  for (let pulls = 0; pulls < 6; pulls++) await pullOnce();
  expect(keys.toSorted()).toEqual(['before', 'other']);
  expect(new Set(reasons)).toEqual(new Set(['RECORD_TOO_LARGE_IN_JSON']));
  const to = { case: 'offset', value: 2n } as const;
  await site.call(GroupService.method.resetOffsets, { group, partitions: [{ topic, partition: 0 }], to, force: true });
  await pullOnce();
  expect(keys).toContain('behind');
});

test('a record that is too large in JSON is not acked by a Pull with auto-ack, and comes in protobuf as the first attempt', async () => {
  const { pull } = BrokerService.method;
  const asked = { group: 'careless', topics: [topic], start: { earliest: {} }, autoAck: true, maxRecords: 1 };
  const first = await json(pull, asked);
  const memberId = first.memberId!;
  const more = { ...asked, memberId };
  for (let pulls = 0; pulls < 3; pulls++) await json(pull, more);
  const { batches } = await site.call(pull, { group: 'careless', topics: [topic], memberId, maxBytes: 3_000_000n });
  const records = batches.filter(({ partition }) => partition === 0).flatMap(({ records: all }) => all);
  expect(records[0]).toMatchObject({ offset: 1n, attempt: 1 });
});

test('a stream in JSON ends with the reason when its next record is too large', async () => {
  const { subscribe } = BrokerService.method;
  const body = JSON.stringify({ group: 'streaming', topics: [topic], start: { earliest: {} } });
  const head = Buffer.alloc(5);
  head.writeUInt32BE(body.length, 1);
  const response = await fetch(site.broker.httpUrl + methodPath(subscribe), {
    method: 'POST',
    headers: { 'content-type': 'application/connect+json' },
    body: Buffer.concat([head, Buffer.from(body)]),
  });
  const text = await response.text();
  expect(text).toContain('"key":"before"');
  expect(text).toContain('"millrace-reason":["RECORD_TOO_LARGE_IN_JSON"]');
  expect(text.length).toBeLessThan(3_670_016);
});
