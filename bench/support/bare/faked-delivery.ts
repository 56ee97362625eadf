import { Account } from '../../../src/account/account.ts';
import { budgetOf } from '../../../src/account/budget.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import { AckRing } from '../../../src/commit/ack-ring.ts';
import { Delivery } from '../../../src/delivery/delivery.ts';
import { Reply } from '../../../src/delivery/ports/reply.ts';
import type { EventSink, MemberStream, StreamEvent } from '../../../src/delivery/ports/session.ts';
import type { CreatedSubscription, GroupStore, NewSubscription } from '../../../src/delivery/ports/store.ts';
import type { LogAddress } from '../../../src/log/batch.ts';
import type { PartitionLog } from '../../../src/log/partition-log.ts';
import type { TopicNumbers } from '../../../src/log/topic.ts';
import { systemClock, systemRandom } from '../../../src/time/system.ts';

/**
 * A database that answers at once and keeps nothing, so that only the broker's own work is
 * measured.
 */
class ForgetfulStore implements GroupStore {
  rowsWritten = 0;
  #groups = 0;
  #subscriptions = 0;

  listGroups = () => Promise.resolve([]);
  readAckLog = () => Promise.resolve({ cursors: 0, rounds: 0, sizes: [] });
  loadGroups = () => Promise.resolve([]);
  loadCursors = () => Promise.resolve();
  loadGaps = () => Promise.resolve([]);
  cursorsLoaded = () => undefined;
  loadRebalances = () => Promise.resolve([]);
  createGroup = () => Promise.resolve(++this.#groups);
  endGroup = () => Promise.resolve(true);
  touchGroups = () => Promise.resolve();
  noteHeard = () => Promise.resolve();
  resetCursors: GroupStore['resetCursors'] = (resets) => Promise.resolve(resets.map(({ offset }) => offset));
  changeSubscription: GroupStore['changeSubscription'] = () => Promise.resolve({ type: 'GONE' });
  saveGaps = () => Promise.resolve();
  tellGaps = () => Promise.resolve();
  markDead: GroupStore['markDead'] = () => Promise.resolve([]);
  appendAcks = () => Promise.resolve();
  fold = () => Promise.resolve('EMPTIED' as const);

  saveGroups: GroupStore['saveGroups'] = (changes) => {
    for (const { change } of changes) {
      this.rowsWritten += change.putMembers.length + change.putAssignments.length;
      this.rowsWritten += change.removedMembers.length + change.removedAssignments.length;
    }
    return Promise.resolve([]);
  };

  createSubscriptions(wanted: readonly NewSubscription[]): Promise<CreatedSubscription[]> {
    const made = wanted.map(({ groupId, topicId, deadAfterMs, offsets: starts }) => {
      const life = { state: 'ACTIVE', stateReason: 'CREATED', stateChangedAtMs: 0, deadAfterMs } as const;
      const attended = { unattendedSinceMs: null, unattendedForMs: null, claimSeq: 1 };
      const row = { id: ++this.#subscriptions, groupId, topicId, createdAtMs: 0, ...life, ...attended };
      return { row, starts };
    });
    return Promise.resolve(made);
  }
}

/** A partition without records. */
class EmptyLog implements PartitionLog {
  readonly address: LogAddress;
  readonly startOffset = 0;
  readonly endOffset = 0;
  readonly watermark = 0;

  constructor(address: LogAddress) {
    this.address = address;
  }

  cached = () => null;
  fetch = () => Promise.resolve(null);
  offsetAtTime = () => Promise.resolve(0);

  addListener = () => undefined;
  removeListener = () => undefined;
}

/** The delivery of a broker without a database, logs and a network. */
export class FakedDelivery {
  readonly delivery: Delivery;
  readonly topics: readonly string[];
  readonly #store = new ForgetfulStore();

  constructor(topicCount: number, partitionsPerTopic: number) {
    this.topics = Array.from({ length: topicCount }, (_, at) => `topic-${at}`);
    const ids = new Map(this.topics.map((name, at) => [name, at + 1]));
    const logs = this.topics.map((topicName, at) =>
      Array.from({ length: partitionsPerTopic }, (_, partition) => {
        return new EmptyLog({ topicId: at + 1, topicName, partition, lane: 0 });
      }),
    );
    const limits = {
      streamUnsentBytesMax: 1_048_576,
      slowReaderMs: 60_000,
      groupMembersMax: 100_000,
      offsetRetentionMs: 604_800_000,
    };
    const unused = (): never => {
      throw new Error('nothing is delivered here');
    };
    const account = new Account(budgetOf(4_294_967_296, { publishQueueBytesMax: 0, tailCacheBytesMax: 0 }));
    this.delivery = new Delivery({
      store: this.#store,
      commits: this.#store,
      settlements: { commit: unused },
      ring: new AckRing(),
      topics: {
        topic: (name) => {
          const id = ids.get(name);
          return id === undefined ? undefined : { id, name };
        },
        // Every group has lag, and no log has its record: a scrape then looks at all logs of a row.
        appendedRecords: () => 1_000,
        lanes: () => 1,
        gapReason: () => 'RETENTION',
        partitionLogs: (topicId) => logs[topicId - 1] ?? [],
        untilOpen: () => Promise.resolve(),
      },
      codec: { encode: unused, join: unused, cut: unused },
      clock: systemClock,
      random: systemRandom,
      account,
      owner: account.owner(),
      limits,
      mayDeliver: () => true,
      mayGrow: () => true,
      onFenced: () => undefined,
      log: { info: () => undefined, warn: (_, message) => process.stderr.write(`${message}\n`) },
    });
  }

  get rowsWritten(): number {
    return this.#store.rowsWritten;
  }

  /** The topics as a scrape shows them. */
  topicNumbers(): TopicNumbers[] {
    return this.topics.map((name, at) => {
      const records = { appendedRecords: 1_000, watermarkLag: 1_000 };
      return { id: at + 1, name, ...records, segments: 1, storedBytes: 0, drops: new Map() };
    });
  }

  /**
   * Subscribes a stream to all topics. Resolves when its member has joined. `onEvent` gets its
   * events.
   */
  async subscribe(group: string, onEvent: (event: StreamEvent) => void): Promise<Subscribed> {
    let memberId = '' as MemberId;
    let generation = 0;
    const send = (event: StreamEvent): void => {
      if (event.type === 'joined') ({ memberId, generation } = event);
      onEvent(event);
    };
    const sink: EventSink = {
      unsentBytes: 0,
      onDrain: null,
      end: () => undefined,
      hasProgress: () => true,
      cut: () => undefined,
      send,
    };
    const stream = await this.delivery.subscribe(
      '127.0.0.1',
      { ...subscribeOptions, group, topics: this.topics, reply: new Reply() },
      sink,
    );
    return { memberId, generation, stream };
  }
}

export interface Subscribed {
  readonly memberId: MemberId;
  readonly generation: number;
  readonly stream: MemberStream;
}

const subscribeOptions = {
  start: { type: 'earliest' },
  memberId: null,
  clientId: 'bench',
  instanceId: null,
  maxPollIntervalMs: 86_400_000,
  lanes: true,
  maxInFlightRecords: 1_000,
  maxInFlightBytes: 8_388_608,
  sessionTimeoutMs: 1_800_000,
  rebalanceTimeoutMs: 60_000,
  assignor: 'sticky',
  metadata: new Uint8Array(),
  autoAck: false,
  assignmentChanges: true,
} as const;
