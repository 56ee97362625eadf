import type { Assignors } from '../coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../coordinator/assignors/built-in.ts';
import { plugged, type PluggableAssignor } from '../coordinator/assignors/pluggable.ts';
import type { SettleCommand, SettleOutcome } from '../delivery/ports/settle.ts';
import { Delivery } from '../delivery/delivery.ts';
import type { MayGrow } from '../delivery/dispatch/growth.ts';
import type { GroupStore } from '../delivery/ports/store.ts';
import type { TunableLimits } from '../limits/limits.ts';
import { AckRing } from '../commit/ack-ring.ts';
import { Publisher } from '../commit/publisher.ts';
import type { CommitStore } from '../commit/store.ts';
import type { BatchCodec } from '../log/batch.ts';
import { Log } from '../log/log.ts';
import type { LogStore, TopicStore } from '../log/store.ts';
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
import { Topics } from './topics.ts';

interface BrokerOptions {
  readonly stores: {
    readonly log: LogStore;
    readonly commits: CommitStore;
    readonly topics: TopicStore;
    readonly groups: GroupStore;
  };
  readonly codec: BatchCodec;
  readonly clock: Clock;
  /** By which members are judged: it stands while this process does. */
  readonly awakeClock: Clock;
  readonly random: Random;
  /** The ring of ack-log tables. Default: it begins with the first one. */
  readonly ring?: AckRing;
  readonly limits: TunableLimits;
  /** Beside the built-in ones. */
  readonly assignors?: readonly PluggableAssignor[];
  /** False while this process cannot be sure that it owns the database. */
  readonly mayDeliver: () => boolean;
  /** Whether there is memory for more that stays. Default: always. */
  readonly mayGrow?: MayGrow;
  /** A write was refused because another broker has taken over. Called at least once then. */
  readonly onFenced: () => void;
  readonly log: Logger;
}

/** A broker at work, and how it ends. */
export interface OpenBroker {
  readonly services: Services;
  /** Acks records together with what is published. No call of a client asks for that yet. */
  settle(command: SettleCommand): Promise<SettleOutcome>;
  /** What it is doing, for /metrics. */
  counts(): ReturnType<Log['stats']> & ReturnType<Publisher['stats']> & ReturnType<Delivery['counts']>;
  /**
   * Refuses new work, answers what was accepted, tells members to go elsewhere and waits up to `graceMs` for what they have
   * in flight; then the cursors are durable and the streams have ended.
   */
  drain(graceMs: number): Promise<void>;
  /** Ends all work at once: another broker owns the database now. */
  stop(): void;
}

/** Loads everything that is durable and goes to work. The caller owns the database. @throws Fault */
export async function openBroker(options: BrokerOptions): Promise<OpenBroker> {
  const { stores, codec, clock, awakeClock, random, limits, mayDeliver, mayGrow = () => true, onFenced } = options;
  const { ring = new AckRing() } = options;
  const log = new Log({ store: stores.log, clock, codec, limits, log: options.log });
  const warn = (fields: object, message: string): void => {
    options.log.warn(fields, message);
  };
  const publisher = new Publisher({ store: stores.commits, log, ring, clock, random, limits, onFenced, warn });
  const delivery = new Delivery({
    store: stores.groups,
    commits: stores.commits,
    settlements: publisher,
    ring,
    topics: log,
    codec,
    assignors: registry(options.assignors ?? [], log),
    clock: awakeClock,
    random,
    limits,
    mayDeliver,
    mayGrow,
    onFenced,
    log: options.log,
  });
  const topics = new Topics({
    store: stores.topics,
    log,
    clock,
    random,
    mayGrow,
    onGrown: (topicId) => delivery.topicGrown(topicId),
    whileDeleted: (topicId, work) => delivery.deleteTopic(topicId, work),
    warn,
  });
  const stop = (): void => {
    void publisher.stop();
    void log.stop();
    void delivery.stop();
    void topics.stop();
  };
  try {
    await topics.open();
    await delivery.open();
  } catch (error) {
    // What has begun must not go on: the caller may try again.
    stop();
    throw error;
  }
  log.start();
  publisher.start();
  return {
    services: {
      broker: brokerService(publisher, delivery),
      group: groupService(delivery, log, clock),
      topic: topicService(topics),
      subscription: subscriptionService(delivery, log, clock),
      message: messageService(topics, log, codec),
    },
    settle: (command) => delivery.settle(command),
    counts: () => ({ ...log.stats(), ...publisher.stats(), ...delivery.counts() }),
    async drain(graceMs) {
      // Publishes and members at once: a member may be waiting for what is being published.
      await Promise.all([publisher.drain(), delivery.drain(graceMs), topics.stop()]);
      await within(clock, jobStopMsMax, log.stop());
    },
    stop,
  };
}

function registry(added: readonly PluggableAssignor[], log: Log): Assignors {
  // A topic that is being deleted has no name any more, but may be asked about once again; no other has one in brackets.
  const topicName = (topicId: number): string =>
    log.partitionLogs(topicId)[0]?.address.topicName ?? `(deleted ${topicId})`;
  return new Map([...builtInAssignors, ...added.map((one) => [one.name, plugged(one, topicName)] as const)]);
}
