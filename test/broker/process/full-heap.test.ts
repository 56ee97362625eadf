import { afterAll, beforeAll, expect, test } from 'vitest';
import { status, type ServiceError } from '@grpc/grpc-js';
import { BrokerService } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import type { Refusal } from '../refusal.ts';
import { Site } from '../site.ts';

/** A real broker with a heap that some 30,000 cursors fill. */

const { joinGroup } = GroupService.method;
const topic = 'wide';
/** Longer than filling the heap takes on a machine that is busy with other tests. */
const sessionTimeout = { seconds: 600n };
let site: Site;
beforeAll(async () => {
  site = await Site.open({ heapMib: 80 });
});
afterAll(async () => {
  await site.close();
});

/**
 * Groups join a topic of 1,000 partitions until one is refused. @returns the members that were not.
 */
async function fill(): Promise<
  { readonly group: string; readonly memberId: string; readonly generation?: bigint | undefined }[]
> {
  const members = [];
  for (let n = 0; n < 1_000; n++) {
    const group = `group-${n}`;
    try {
      const member = await site.call(joinGroup, { group, topics: [topic], sessionTimeout });
      members.push({ group, ...member });
    } catch (error) {
      expect(status[(error as ServiceError).code]).toBe('RESOURCE_EXHAUSTED');
      return members;
    }
  }
  throw new Error('a million cursors did not fill 80 MiB');
}

/** Fills what is left of the memory by topics. @returns the rejection of the last one. */
async function fillByTopics(): Promise<Refusal> {
  for (let n = 0; n < 100; n++) {
    try {
      await site.createTopic(`topic-${n}`, 100);
    } catch {
      return site.refusal(TopicService.method.createTopic, { topic: { name: 'more', partitions: 100 } });
    }
  }
  throw new Error('100 topics did not fill the memory');
}

test('a broker with a full heap rejects new cursors and goes on with the others', { timeout: 240_000 }, async () => {
  await site.createTopic(topic, 1_000);
  const members = await fill();
  expect(members.length).toBeGreaterThan(5);
  const noTopic = await fillByTopics();

  const newGroup = { group: 'another', topics: [topic] };
  const refusals = [
    await site.refusal(joinGroup, newGroup),
    await site.refusal(BrokerService.method.pull, newGroup),
    await site.refusal(SubscriptionService.method.createSubscription, { group: 'another', topic }),
    noTopic,
  ];
  expect(new Set(refusals.map(({ reason }) => reason))).toEqual(new Set(['BROKER_FULL']));
  expect(refusals[0]!.message).toContain('HEAP_MIB');

  // What is there goes on.
  const { group, memberId } = members[0]!;
  const { generation } = await site.call(BrokerService.method.heartbeat, { group, memberId });
  await site.call(joinGroup, { group, topics: [topic], memberId, sessionTimeout });
  await site.publish(topic, 7, ['still here']);
  await site.expectAllThere();
  expect(generation).toBe(members[0]!.generation);
  expect(await site.broker.ready()).toBe(true);
});
