import { expect } from 'vitest';
import { connect, openServerStream } from '../../../bench/client/service-client.ts';
import { AckAction, BrokerService, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../../gen/millrace/v1/group_pb.js';
import { SubscriptionService } from '../../../gen/millrace/v1/subscription_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import type { KindName } from '../../../src/account/kinds.ts';
import { limits } from '../../../src/limits/limits.ts';
import { Relay } from '../../broker/relay.ts';
import { sessionTimeout, type FillSite } from './fill-site.ts';

const earliest = { position: { case: 'earliest', value: {} } } as const;
/** A cursor keeps at most 1,000 holes, and a member has at most 10,000 records in flight. */
const [partitions, records] = [5, 2_000];

/** One way to fill a broker, and what it needs before. `n` is the number of the step. */
export interface Fill {
  readonly prepare?: (site: FillSite) => Promise<unknown>;
  readonly step: (site: FillSite, n: number) => Promise<unknown>;
  /** How many steps go together: some 2 MiB. */
  readonly together: number;
  /** What is never rejected: after so many steps the account has no room for more of the kind. */
  readonly unrejected?: { readonly steps: number; readonly kind: KindName };
  /** After the fill, and after the restart: what was accepted first is still there. */
  readonly check?: (site: FillSite) => Promise<void>;
}

const topic = (name: string, count: number) => (site: FillSite) => site.demandTopic(name, count);
const subscribe = (site: FillSite, group: string, name: string): Promise<unknown> =>
  site.call(SubscriptionService.method.createSubscription, { group, topic: name, start: earliest });
const join = (site: FillSite, group: string, name: string, metadata = Buffer.alloc(0)): Promise<unknown> =>
  site.call(GroupService.method.joinGroup, { group, topics: [name], sessionTimeout, metadata });

async function withRecords(site: FillSite): Promise<void> {
  if (!(await site.demandTopic('records', partitions))) return;
  const values = Array.from({ length: records }, () => ({ value: Buffer.from('v') }));
  for (let partition = 0; partition < partitions; partition++) {
    await site.call(BrokerService.method.publish, { topic: 'records', partition, records: values });
  }
}

interface Holder {
  readonly group: string;
  readonly memberId: string;
  readonly generation: bigint;
}

/** A member that has every record of the topic in flight. */
async function holder(site: FillSite, group: string): Promise<Holder> {
  const pull = {
    group,
    topics: ['records'],
    start: earliest,
    sessionTimeout,
    maxRecords: 10_000,
    maxBytes: 3_000_000n,
  };
  let memberId = '';
  let generation = 0n;
  for (let got = 0; got < partitions * records;) {
    const answer = await site.call(BrokerService.method.pull, { ...pull, memberId, wait: { seconds: 30n } });
    memberId = answer.memberId;
    generation = answer.generation ?? 0n;
    got += answer.batches.reduce((sum, batch) => sum + batch.records.length, 0);
    if (answer.batches.length === 0) throw new Error(`a member got only ${got} records`);
  }
  return { group, memberId, generation };
}

/** Acks, or refuses, every second record. The others stay in flight. */
function everySecond(site: FillSite, member: Holder, action: AckAction): Promise<unknown> {
  const ranges = Array.from({ length: records / 2 }, (_, n) => ({ first: BigInt(2 * n + 1), last: BigInt(2 * n + 1) }));
  const acks = Array.from({ length: partitions }, (_, partition) => {
    return { topic: 'records', partition, lane: 0, action, ranges };
  });
  return site.call(BrokerService.method.ack, { ...member, acks });
}

/** A member acks, or refuses, every second record, and leaves, so that none is in flight. */
async function answered(site: FillSite, group: string, action: AckAction): Promise<void> {
  const member = await holder(site, group);
  const { memberId } = member;
  await everySecond(site, member, action).finally(() => site.call(GroupService.method.leaveGroup, { group, memberId }));
}

/** A stream gets everything, acks every second record, and its connection breaks. */
async function lose(site: FillSite, n: number): Promise<void> {
  const relay = await Relay.open(Number(site.address.split(':')[1]));
  const client = connect(relay.address);
  const subscription = { group: `lost-${n}`, topics: ['records'], start: earliest, maxInFlightRecords: 10_000 };
  const stream = openServerStream(client, BrokerService.method.subscribe, subscription);
  let memberId = '';
  let got = 0;
  let generation = 0n;
  stream.on('error', () => undefined);
  for await (const { event, generation: now } of stream as AsyncIterable<SubscribeResponse>) {
    generation = now ?? generation;
    if (event.case === 'joined') memberId = event.value.memberId;
    if (event.case === 'batch') got += event.value.records.length;
    if (got === partitions * records) break;
  }
  await everySecond(site, { group: subscription.group, memberId, generation }, AckAction.ACK);
  // The stream is still open, so a close of the client would wait for its end.
  relay.cut();
  client.close();
  await relay.close();
}

const keyedTopics = 10;
const keysTogether = limits.publishRecordsMax;

/** Publishes one record for each key to a topic of one partition. @returns its first result. */
async function publishKeys(site: FillSite, topic: number, keys: readonly string[]) {
  const records = keys.map((idempotencyKey) => ({ idempotencyKey }));
  const { results } = await site.call(BrokerService.method.publish, { topic: `keyed-${topic}`, records });
  return results[0]!;
}

/** The first record of each topic, with a key of its own. */
async function withKeys(site: FillSite): Promise<void> {
  for (let topic = 0; topic < keyedTopics; topic++) {
    const name = `keyed-${topic}`;
    // Longer than any fill takes.
    const idempotencyWindow = { seconds: 3_600n };
    await site.call(TopicService.method.createTopic, { topic: { name, partitions: 1, idempotencyWindow } });
    await publishKeys(site, topic, ['first']);
  }
}

/** The keys of the first records have left the memory, and are known all the same. */
async function knowsFirstKeys(site: FillSite): Promise<void> {
  for (let topic = 0; topic < keyedTopics; topic++) {
    expect(await publishKeys(site, topic, ['first'])).toMatchObject({ offset: 0n, duplicate: true });
  }
}

/** A name that is as long as it may be. */
const named = (start: string): string => `${start}-`.padEnd(limits.nameCharsMax, 'n');

export const fills = {
  topics: {
    step: (site, n) => {
      // Most are wide, because each topic is a table.
      const partitions = [1_000, 1, 1_000, 60][n % 4]!;
      const description = 'd'.repeat(limits.descriptionCharsMax);
      return site.call(TopicService.method.createTopic, {
        topic: { name: named(`topic-${n}`), partitions, description },
      });
    },
    together: 4,
  },
  narrow: {
    step: (site, n) => {
      // One character above U+00FF makes the whole text two bytes wide.
      const description = '\u0101'.padEnd(limits.descriptionCharsMax, 'd');
      return site.call(TopicService.method.createTopic, {
        topic: { name: named(`narrow-${n}`), partitions: 1, description },
      });
    },
    together: 16,
  },
  partitions: {
    step: async (site, n) => {
      const [name, step] = [`grown-${Math.floor(n / 10)}`, n % 10];
      if (step === 0) {
        await site.createTopic(name, 1);
        for (let group = 0; group < 10; group++) await join(site, `group-${group}`, name);
      }
      await site.call(TopicService.method.addPartitions, { name, partitions: 100 * (step + 1) });
    },
    together: 1,
  },
  groups: { prepare: topic('one', 1), step: (site, n) => subscribe(site, named(`group-${n}`), 'one'), together: 256 },
  members: { prepare: topic('one', 1), step: (site, n) => join(site, `members-${n % 50}`, 'one'), together: 400 },
  metadata: {
    prepare: topic('one', 1),
    step: (site, n) => join(site, `metadata-${n}`, 'one', Buffer.alloc(65_536, n)),
    together: 24,
  },
  cursors: { prepare: topic('wide', 1_000), step: (site, n) => subscribe(site, `cursors-${n}`, 'wide'), together: 2 },
  held: { prepare: topic('wide', 1_000), step: (site, n) => join(site, `held-${n}`, 'wide'), together: 2 },
  notes: {
    prepare: topic('noted', 500),
    step: async (site, n) => {
      const group = `noted-${n}`;
      await subscribe(site, group, 'noted');
      const offsets = Array.from({ length: 500 }, (_, partition) => {
        return { topic: 'noted', partition, lane: 0, offset: 0n, metadata: `${n} ${partition} `.padEnd(4_096, 'note') };
      });
      await site.call(GroupService.method.commitOffsets, { group, offsets });
    },
    together: 2,
  },
  holes: {
    prepare: withRecords,
    step: (site, n) => answered(site, `holes-${n}`, AckAction.ACK),
    together: 4,
  },
  attempts: {
    prepare: withRecords,
    step: (site, n) => answered(site, `nacks-${n}`, AckAction.NACK),
    together: 4,
  },
  losses: { prepare: withRecords, step: lose, together: 2, unrejected: { steps: 16, kind: 'attempts' } },
  keys: {
    prepare: withKeys,
    step: (site, n) => {
      const key = (_: unknown, at: number): string => `${n}-${at}`.padEnd(limits.idempotencyKeyBytesMax, 'k');
      return publishKeys(site, n % keyedTopics, Array.from({ length: keysTogether }, key));
    },
    together: 2,
    unrejected: { steps: 66, kind: 'keys' },
    check: knowsFirstKeys,
  },
} as const satisfies Readonly<Record<string, Fill>>;

export type FillName = keyof typeof fills;
