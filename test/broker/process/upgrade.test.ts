import { Client } from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { MessageService } from '../../../gen/millrace/v1/message_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { rollBack } from '../../storage/migrations/roll-back.ts';
import { Site } from '../site.ts';

/** The version of the schema before retention. */
const before = 10;
const name = 'orders';

let site: Site;
beforeAll(async () => {
  site = await Site.open();
});
afterAll(() => site.close());

/** Ends the broker, takes the database back to the schema before, and starts the broker again. */
async function fromBefore(): Promise<void> {
  site.broker.kill('SIGTERM');
  await site.broker.exited;
  const client = new Client({ connectionString: site.databaseUrl });
  await client.connect();
  await rollBack(client, before).finally(() => client.end());
  await site.restart();
}

const saidOfBefore = (): number => site.broker.output().split('topics from before keep everything').length - 1;
const retentionOf = async (topic: string) => (await site.call(TopicService.method.getTopic, { name: topic })).topic;

async function pulled(memberId = ''): Promise<{ memberId: string; generation: bigint; offsets: number[] }> {
  const sessionTimeout = { seconds: 60n };
  const pull = { group: 'billing', topics: [name], memberId, sessionTimeout, wait: { seconds: 10n } };
  const answer = await site.call(BrokerService.method.pull, pull);
  const offsets = answer.batches.flatMap(({ records }) => records.map(({ offset }) => Number(offset)));
  return { memberId: answer.memberId, generation: answer.generation ?? 0n, offsets };
}

test('topics from before keep everything, which the log says once, and groups go on where they were', async () => {
  await site.createTopic(name, 1);
  expect((await retentionOf(name))?.retention?.completion.case).toBe('afterCompletion');
  const start = { position: { case: 'earliest', value: {} } } as const;
  await site.call(SubscriptionService.method.createSubscription, { group: 'billing', topic: name, start });
  await site.publish(name, 0, ['a', 'b', 'c']);
  const { memberId, generation } = await pulled();
  const acks = [{ topic: name, partition: 0, upToOffset: 1n }];
  await site.call(BrokerService.method.ack, { group: 'billing', memberId, generation, acks });

  await fromBefore();
  expect(saidOfBefore()).toBe(1);
  expect(await retentionOf(name)).toMatchObject({
    retention: { completion: { case: 'keepForever', value: true } },
    zeroSubscriptions: { policy: { case: 'keepFor', value: { seconds: 86_400n } } },
  });
  await site.publish(name, 0, ['d']);
  await site.expectAllThere();
  expect((await pulled(memberId)).offsets).toEqual([2, 3]);
  const read = await site.call(MessageService.method.readMessages, { topic: name, partition: 0 });
  expect(read.logStartOffset).toBe(0n);

  site.broker.kill('SIGTERM');
  await site.restart();
  expect(saidOfBefore()).toBe(0);
});

test('a topic from before gets a retention by an update, and new topics have one', async () => {
  const retention = { completion: { case: 'afterCompletion', value: { seconds: 3_600n } } } as const;
  const updateMask = { paths: ['retention.after_completion'] };
  await site.call(TopicService.method.updateTopic, { topic: { name, retention }, updateMask });
  expect((await retentionOf(name))?.retention?.completion).toMatchObject({ value: { seconds: 3_600n } });
  await site.createTopic('new', 1);
  expect((await retentionOf('new'))?.retention?.completion).toMatchObject({ value: { seconds: 604_800n } });
});
