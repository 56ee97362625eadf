import type { Account } from '../account/account.ts';
import type { Owner } from '../account/owner.ts';
import type { Assignors } from '../coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../coordinator/assignors/built-in.ts';
import { plugged, type PluggableAssignor } from '../coordinator/assignors/pluggable.ts';
import type { SettleCommand, SettleOutcome } from '../delivery/ports/settle.ts';
import { Delivery } from '../delivery/delivery.ts';
import type { WriteTrouble } from '../errors/write-trouble.ts';
import type { ConsumedTopic } from '../metrics/consumption.ts';
import type { GroupStore } from '../delivery/ports/store.ts';
import type { Cleaner } from '../lifecycle/cleaner.ts';
import { Retention } from '../lifecycle/retention.ts';
import type { RetentionStore } from '../lifecycle/store.ts';
import { limits, type TunableLimits } from '../limits/limits.ts';
import { AckRing } from '../commit/ack-ring.ts';
import { Publisher } from '../commit/publisher.ts';
import type { CommitStore } from '../commit/store.ts';
import type { BatchCodec } from '../log/batch.ts';
import { Attendance } from '../lifecycle/attendance.ts';
import { Log } from '../log/log.ts';
import type { SegmentLimits } from '../log/segment-keeper.ts';
import type { LogStore, TopicStore } from '../log/store.ts';
import type { TopicNumbers } from '../log/topic.ts';
import type { LatencyHistogram } from '../metrics/latency-histogram.ts';
import { jobStopMsMax } from '../time/background-job.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { Logger } from '../time/logger.ts';
import { within } from '../time/within.ts';
import { brokerService } from './broker-service.ts';
import { groupService } from './group-service.ts';
import { messageService } from './message-service.ts';
import type { Services } from './services.ts';
import { subscriptionService } from './subscription-service.ts';
import { topicService } from './topic-service.ts';
import type { StorageSource } from './pages/topic-storage.ts';
import { Topics } from './topics.ts';

interface BrokerOptions {
  readonly stores: {
    readonly log: LogStore;
    readonly commits: CommitStore;
    readonly topics: TopicStore;
    readonly groups: GroupStore;
    readonly retention: RetentionStore;
  };
  /** Whether the database takes writes. */
  readonly writes: WriteTrouble;
  readonly codec: BatchCodec;
  readonly clock: Clock;
  /** The clock of session timeouts. It stands still while this process is paused. */
  readonly awakeClock: Clock;
  readonly random: Random;
  /** The ring of ack-log tables. Default: it begins with the first one. */
  readonly ring?: AckRing;
  readonly limits: TunableLimits;
  /** The operator's assignors, beside the built-in ones. */
  readonly assignors?: readonly PluggableAssignor[];
  /** How many partitions of a group move in one turn of the event loop. Default: 10,000. */
  readonly movesAtOnce?: number;
  /** False while this process cannot be sure that it owns the database. */
  readonly mayDeliver: () => boolean;
  /** What clients make this process hold. */
  readonly account: Account;
  /** Called at least once when a write is fenced, because another broker has taken over. */
  readonly onFenced: () => void;
  readonly log: Logger;
  /** Limits of segments for tests and benchmarks. */
  readonly segmentLimits?: Partial<SegmentLimits>;
}

/** A broker that serves calls. */
export interface OpenBroker {
  readonly services: Services;
  /** Acks records together with what is published. No call of a client asks for that yet. */
  settle(command: SettleCommand): Promise<SettleOutcome>;
  /** Counters for /metrics. */
  counts(): ReturnType<Log['stats']> &
    ReturnType<Publisher['stats']> &
    ReturnType<Delivery['views']['counts']> &
    ReturnType<Retention['stats']>;
  /** How long publishes, acks and transactions take, since the start of this owner. */
  readonly times: Readonly<Record<'publish' | 'ack' | 'commit', LatencyHistogram>>;
  /** Single groups and topics in numbers. */
  readonly detail: {
    readonly topics: () => Iterable<TopicNumbers>;
    readonly subscriptions: () => Iterable<ConsumedTopic>;
    readonly appendAges: Log['appendAges'];
  };
  /**
   * Rejects new work, answers accepted calls, and waits up to `graceMs` for the acks of records in
   * flight. Afterwards the cursors are durable and the streams have ended.
   */
  drain(graceMs: number): Promise<void>;
  /** Ends all work at once: another broker owns the database now. */
  stop(): void;
}

/** Loads the durable state and starts. The caller owns the database. @throws Fault */
export async function openBroker(options: BrokerOptions): Promise<OpenBroker> {
  const { clock } = options;
  const owner = options.account.owner();
  const { log, publisher, delivery, attendance, retention, topics } = partsOf(options, owner);
  const stop = (): void => {
    for (const part of [attendance, publisher, log, delivery, topics, retention]) void part.stop();
    owner.close();
  };
  try {
    await topics.open();
    await retention.load();
    await delivery.open();
  } catch (error) {
    // Stop the parts that have started, because the caller may try again.
    stop();
    throw error;
  }
  log.start();
  publisher.start();
  attendance.start();
  retention.start();
  return {
    services: {
      broker: brokerService(publisher, delivery),
      group: groupService(delivery, log, clock),
      topic: topicService(topics, storageSource(retention, options.stores.retention)),
      subscription: subscriptionService(delivery, log, clock),
      message: messageService(topics, log, options.codec),
    },
    async settle(command) {
      await delivery.loaded(command.group);
      return delivery.settle(command);
    },
    counts: () => ({ ...log.stats(), ...publisher.stats(), ...delivery.views.counts(), ...retention.stats() }),
    times: { ...publisher.times, ack: delivery.ackTimes },
    detail: {
      topics: () => log.numbers(),
      subscriptions: () => delivery.views.consumed(),
      appendAges: (topicId, places) => log.appendAges(topicId, places),
    },
    async drain(graceMs) {
      const looks = attendance.stop();
      // Both at once, because a member may wait for a record of a publish under way.
      await Promise.all([publisher.drain(), delivery.drain(graceMs), topics.stop()]);
      await within(clock, jobStopMsMax, Promise.all([looks, log.stop(), retention.stop()]));
      owner.close();
    },
    stop,
  };
}

/** The parts of a broker, none of which has started. */
function partsOf(options: BrokerOptions, owner: Owner) {
  const { stores, writes, codec, clock, awakeClock, random, account, mayDeliver, onFenced } = options;
  const { ring = new AckRing() } = options;
  // The log opens after the retention exists.
  const log = logOf(options, owner, () => retention.cleaner);
  const warn = options.log.warn.bind(options.log);
  const publishing = { log, ring, clock, random, account, writes, onFenced, warn };
  const publisher = new Publisher({ store: stores.commits, ...publishing });
  const delivery = new Delivery({
    store: stores.groups,
    commits: stores.commits,
    settlements: publisher,
    ring,
    topics: log,
    codec,
    assignors: registry(options.assignors ?? [], log),
    clock: awakeClock,
    steadyClock: clock,
    random,
    account,
    owner,
    limits: options.limits,
    mayDeliver,
    mayGrow: () => account.mayKeep,
    onFenced,
    onCursorsWritten: (topicIds) => {
      for (const topicId of topicIds) retention.cleaner.changed(topicId);
    },
    log: options.log,
    ...(options.movesAtOnce !== undefined && { movesAtOnce: options.movesAtOnce }),
  });
  const retention = new Retention({
    store: stores.retention,
    logs: log,
    groups: delivery,
    clock,
    random,
    log: options.log,
    writes,
  });
  const attendance = new Attendance({ clock, log: options.log, look: () => delivery.lookForDead() });
  const topics = new Topics({
    store: stores.topics,
    log,
    clock,
    random,
    account: owner.kind('topics'),
    reserveCursors: (topicId, partitions) => delivery.reserveGrowth(topicId, partitions),
    onGrown: (topicId) => delivery.topicGrown(topicId),
    whileDeleted: (topicId, work) => delivery.deleteTopic(topicId, work),
    onDeleted: () => {
      retention.drops.soon();
    },
  });
  return { log, publisher, delivery, attendance, retention, topics };
}

function logOf(
  { stores, clock, codec, account, log, segmentLimits }: BrokerOptions,
  owner: Owner,
  cleaner: () => Cleaner,
): Log {
  return new Log({
    store: stores.log,
    clock,
    codec,
    account,
    owner,
    log,
    watch: {
      added: (topic) => {
        cleaner().added(topic);
      },
      changed: (topicId) => {
        cleaner().changed(topicId);
      },
      removed: (topicId) => {
        cleaner().removed(topicId);
      },
    },
    ...(segmentLimits !== undefined && { segmentLimits }),
  });
}

function storageSource({ cleaner, drops }: Retention, store: RetentionStore): StorageSource {
  return {
    look: (topicId) => cleaner.look(topicId),
    async firstOffsets(topicId, segments) {
      const found = await store.firstOffsets(topicId, segments, limits.listedPartitionsMax);
      const named = Array.from(found, ([segment, starts]) => {
        return [segment, starts.map(({ startOffset: offset, ...log }) => ({ ...log, offset }))] as const;
      });
      return new Map(named);
    },
    openDrops: (topicName) => drops.openDrops(topicName),
    audit: (topicName, limit) => store.audit(topicName, limit),
  };
}

function registry(added: readonly PluggableAssignor[], log: Log): Assignors {
  // A topic under deletion has no name. Brackets keep this one apart from real names.
  const topicName = (topicId: number): string =>
    log.partitionLogs(topicId)[0]?.address.topicName ?? `(deleted ${topicId})`;
  return new Map([...builtInAssignors, ...added.map((one) => [one.name, plugged(one, topicName)] as const)]);
}
