import type { Account } from '../../src/account/account.ts';
import type { Owner } from '../../src/account/owner.ts';
import type { Assignors } from '../../src/coordinator/assignors/assignor.ts';
import type { MemberId } from '../../src/coordinator/group.ts';
import type { AckEntry, AckOutcome } from '../../src/delivery/ports/acks.ts';
import type {
  JoinGroupCommand,
  JoinGroupOutcome,
  PullCommand,
  PullOutcome,
  SubscribeCommand,
} from '../../src/delivery/ports/membership.ts';
import type { FetchedOffset, NamedLog } from '../../src/delivery/ports/offsets.ts';
import type { StartPosition } from '../../src/delivery/ports/subscriptions.ts';
import { AckRing } from '../../src/commit/ack-ring.ts';
import type { PublishedRecords } from '../../src/commit/publish.ts';
import type { Commits, WantedCommit } from '../../src/commit/unit.ts';
import { Delivery } from '../../src/delivery/delivery.ts';
import { Reply } from '../../src/delivery/ports/reply.ts';
import type { EventSink, MemberStream, StreamEvent } from '../../src/delivery/ports/session.ts';
import { Fault, type FaultKind } from '../../src/errors/fault.ts';
import type { Rejection } from '../../src/errors/rejections/rejection.ts';
import { Attendance } from '../../src/lifecycle/attendance.ts';
import { limits } from '../../src/limits/limits.ts';
import type { BatchCodec, EncodedBatch, LogAddress } from '../../src/log/batch.ts';
import type { AppendListener, PartitionLog } from '../../src/log/partition-log.ts';
import { BelowLogStart } from '../../src/log/store.ts';
import { Consumption } from '../../src/metrics/consumption.ts';
import type { Clock } from '../../src/time/clock.ts';
import { roomyAccount } from '../account/accounts.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { MemoryGroupStore } from '../support/memory-group-store.ts';

export const recordSize = 10;
const unsentBytesMax = 1_000;

/** A batch as it reaches a client. */
export interface Delivered {
  readonly partition: number;
  readonly offsets: readonly number[];
  readonly attempts: readonly number[];
}

const asBytes = (delivered: Delivered): Buffer => Buffer.from(JSON.stringify(delivered));

const codec: BatchCodec = {
  encode: () => {
    throw new Error('delivery encodes nothing itself');
  },
  join: () => {
    throw new Error('delivery joins nothing itself');
  },
  cut: (batch, offsets, attempts) => {
    const { partition } = JSON.parse(batch.bytes.toString()) as Delivered;
    return asBytes({ partition, offsets, attempts });
  },
};

/** A log in memory with records of `recordSize` bytes. */
export class FakeLog implements PartitionLog {
  readonly address: LogAddress;
  startOffset = 0;
  endOffset = 0;
  readonly watermark = 0;
  /** Batches below this offset are not in memory and must be fetched. */
  cachedFrom = 0;
  fetches = 0;
  /** A fetch waits for this. */
  gate: Promise<void> = Promise.resolve();
  readonly #batches: EncodedBatch[] = [];
  readonly #listeners = new Set<AppendListener>();

  constructor(topicId: number, topicName: string, partition: number, lane = 0) {
    this.address = { topicId, topicName, partition, lane };
  }

  append(count: number): void {
    const baseOffset = this.endOffset;
    const offsets = Array.from({ length: count }, (_, i) => baseOffset + i);
    const bytes = asBytes({ partition: this.address.partition, offsets, attempts: offsets.map(() => 1) });
    const recordEnds = Uint32Array.from(offsets, (_, i) => (i + 1) * recordSize);
    this.#batches.push({ baseOffset, count, bytes, recordsStart: 0, recordEnds });
    this.endOffset += count;
    for (const listener of this.#listeners) listener.appended();
  }

  /** Retention drops all records below the offset. */
  trim(startOffset: number): void {
    this.startOffset = startOffset;
    for (const listener of this.#listeners) listener.trimmed();
  }

  cached(offset: number): EncodedBatch | null {
    return offset < this.cachedFrom ? null : this.#find(offset);
  }

  async fetch(offset: number): Promise<EncodedBatch | null> {
    this.fetches++;
    await this.gate;
    if (offset < this.startOffset) throw new BelowLogStart('the records are gone');
    return this.#find(offset);
  }

  offsetAtTime(): Promise<number> {
    return Promise.resolve(0);
  }

  addListener(listener: AppendListener): void {
    this.#listeners.add(listener);
  }

  removeListener(listener: AppendListener): void {
    this.#listeners.delete(listener);
  }

  /** Keeps no batch any more. */
  forgetAll(): void {
    this.#batches.length = 0;
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  #find(offset: number): EncodedBatch | null {
    if (offset < this.startOffset) return null;
    return this.#batches.find((batch) => offset >= batch.baseOffset && offset < batch.baseOffset + batch.count) ?? null;
  }
}

/** The client's end of a stream. */
export class FakeStream implements EventSink {
  readonly events: StreamEvent[] = [];
  unsentBytes = 0;
  onDrain: (() => void) | null = null;
  ended: { readonly error: Rejection | null } | null = null;
  stream: MemberStream | null = null;

  send(event: StreamEvent): void {
    if (this.ended !== null) throw new Error('an event after the end');
    this.events.push(event);
  }

  isCut = false;
  #seenBytes = 0;

  hasProgress(): boolean {
    const progress = this.unsentBytes === 0 || this.unsentBytes < this.#seenBytes;
    this.#seenBytes = this.unsentBytes;
    return progress;
  }

  end(error: Rejection | null): void {
    this.ended = { error };
  }

  cut(): void {
    this.isCut = true;
  }

  /** Stops reading, with as many bytes under way as a stream may have. */
  stall(): void {
    this.unsentBytes = unsentBytesMax;
  }

  /** Reads everything. */
  readOn(): void {
    this.unsentBytes = 0;
    this.onDrain?.();
  }

  get memberId(): MemberId {
    const [first] = this.events;
    if (first?.type !== 'joined') throw new Error('the first event must be Joined');
    return first.memberId;
  }

  of<T extends StreamEvent['type']>(type: T): Extract<StreamEvent, { type: T }>[] {
    return this.events.filter((event): event is Extract<StreamEvent, { type: T }> => event.type === type);
  }

  get batches(): Delivered[] {
    return this.of('batch').map(({ field }) => JSON.parse(field.toString()) as Delivered);
  }

  /** The delivered offsets of all partitions, in the order of their delivery. */
  get offsets(): number[] {
    return this.batches.flatMap(({ offsets }) => offsets);
  }

  /** The assignment according to the events. */
  get assigned(): number[] {
    let assigned: number[] = [];
    for (const { partitions, removed } of this.of('assigned')) {
      const named = partitions.map(({ partition }) => partition);
      const lost = new Set(removed?.map(({ partition }) => partition));
      assigned = removed === undefined ? named : [...new Set([...assigned, ...named])].filter((one) => !lost.has(one));
    }
    return assigned;
  }

  get generation(): number {
    return this.of('assigned').at(-1)?.generation ?? 0;
  }
}

/** Commits whose outcome the test decides. */
export class FakeCommits implements Commits {
  readonly wanted: WantedCommit[] = [];
  #answers: PromiseWithResolvers<readonly PublishedRecords[]>[] = [];

  commit(wanted: WantedCommit): Promise<readonly PublishedRecords[]> {
    this.wanted.push(wanted);
    const answer = Promise.withResolvers<readonly PublishedRecords[]>();
    this.#answers.push(answer);
    return answer.promise;
  }

  /** Makes the oldest commit without an outcome durable. */
  committed(): void {
    const [{ settlements }, answer] = this.#take();
    for (const { records } of settlements) records.moved();
    answer.resolve([]);
  }

  /** Fails the oldest commit without an outcome: nothing was written, or the outcome is unknown. */
  failed(kind: FaultKind): void {
    const [{ settlements }, answer] = this.#take();
    if (kind === 'DATABASE_UNAVAILABLE') for (const { records } of settlements) records.stays();
    answer.reject(new Fault(kind, 'the database was lost'));
  }

  #take(): [WantedCommit, PromiseWithResolvers<readonly PublishedRecords[]>] {
    const wanted = this.wanted[this.wanted.length - this.#answers.length];
    const answer = this.#answers.shift();
    if (wanted === undefined || answer === undefined) throw new Error('nothing is being committed');
    return [wanted, answer];
  }
}

/** The delivery of a broker, with topics and a store in memory, and a clock that the test moves. */
export class Scene {
  /** The topics whose cursors were written, once for each time. */
  readonly written: number[] = [];
  readonly clock: FakeClock;
  readonly store: MemoryGroupStore;
  readonly topics = new Map<string, FakeLog[]>();
  readonly ring = new AckRing();
  readonly commits = new FakeCommits();
  readonly delivery: Delivery;
  /** Looks for dead subscriptions, once it is started. */
  readonly attendance: Attendance;
  /** The change of the number of living subscriptions, by topic id. */
  readonly live = new Map<number, number>();
  /** The fields of the lines of the log, without warnings. */
  readonly said: object[] = [];
  readonly warned: object[] = [];
  readonly account: Account;
  readonly owner: Owner;
  mayDeliver = true;
  mayGrow = true;
  fenced = 0;
  readonly logged: string[] = [];
  #ids = 0;

  constructor(
    options: {
      store?: MemoryGroupStore;
      clock?: FakeClock;
      topics?: Map<string, FakeLog[]>;
      seed?: string;
      assignors?: Assignors;
      offsetRetentionMs?: number;
      /** Default: the clock itself. */
      awakeClock?: Clock;
      loadedTogetherMax?: number;
      /** Default: 1, so that each effect of a step takes a turn of its own. */
      movesAtOnce?: number;
      account?: Account;
    } = {},
  ) {
    this.account = options.account ?? roomyAccount();
    this.owner = this.account.owner();
    this.clock = options.clock ?? new FakeClock();
    this.store = options.store ?? new MemoryGroupStore();
    this.store.shared.nowMs = () => this.clock.nowMs();
    this.topics = options.topics ?? new Map<string, FakeLog[]>();
    const seed = options.seed ?? 'id';
    const log = {
      info: (fields: object, message: string) => {
        this.said.push({ ...fields, message });
        this.logged.push(`${message} ${JSON.stringify(fields)}`);
      },
      warn: (fields: object, message: string) => {
        this.warned.push({ ...fields, message });
      },
    };
    this.delivery = new Delivery({
      store: this.store,
      commits: this.store,
      settlements: { commit: (wanted) => this.commits.commit(wanted) },
      ring: this.ring,
      topics: {
        topic: (name) => this.#topicOf(name),
        lanes: (topicId) => this.#logsOf(topicId).at(-1)!.address.lane + 1,
        appendedRecords: (topicId) => this.#logsOf(topicId).reduce((sum, { endOffset }) => sum + endOffset, 0),
        partitionLogs: (topicId) => this.#logsOf(topicId),
        gapReason: () => 'RETENTION',
        untilOpen: () => Promise.resolve(),
        liveSubscriptions: (topicId, change) => {
          this.live.set(topicId, (this.live.get(topicId) ?? 0) + change);
        },
      },
      codec,
      clock: options.awakeClock ?? this.clock,
      steadyClock: this.clock,
      random: { uuid: () => `${seed}${this.#ids++}`, fraction: () => 0.5 },
      ...(options.assignors !== undefined && { assignors: options.assignors }),
      ...(options.loadedTogetherMax !== undefined && { loadedTogetherMax: options.loadedTogetherMax }),
      movesAtOnce: options.movesAtOnce ?? 1,
      account: this.account,
      owner: this.owner,
      limits: {
        streamUnsentBytesMax: unsentBytesMax,
        slowReaderMs: limits.slowReaderMs,
        groupMembersMax: 5,
        offsetRetentionMs: options.offsetRetentionMs ?? 3_600_000,
      },
      mayDeliver: () => this.mayDeliver,
      mayGrow: () => this.mayGrow,
      onCursorsWritten: (topicIds) => {
        for (const topicId of topicIds) this.written.push(topicId);
      },
      onFenced: () => {
        this.fenced++;
      },
      log,
    });
    this.attendance = new Attendance({ clock: this.clock, log, look: () => this.delivery.lookForDead() });
  }

  #logsOf(topicId: number): FakeLog[] {
    return [...this.topics.values()].find((logs) => logs[0]?.address.topicId === topicId) ?? [];
  }

  #topicOf(name: string): { id: number; name: string } | undefined {
    const logs = this.topics.get(name);
    return logs === undefined ? undefined : { id: logs[0]!.address.topicId, name };
  }

  static async open(options: ConstructorParameters<typeof Scene>[0] = {}): Promise<Scene> {
    const scene = new Scene(options);
    await scene.delivery.open();
    await scene.wait(scene.delivery.allLoaded());
    return scene;
  }

  /** @returns the logs by partition and lane. */
  addTopic(name: string, partitions: number, lanes = 1): FakeLog[] {
    const topicId = this.topics.size + 1;
    const logs = Array.from({ length: partitions * lanes }, (_, at) => {
      return new FakeLog(topicId, name, Math.floor(at / lanes), at % lanes);
    });
    this.topics.set(name, logs);
    return logs;
  }

  /** Adds partitions in the database and the log, but not in the groups. @returns all logs. */
  growTopic(name: string, partitions: number): FakeLog[] {
    const logs = [...this.topics.get(name)!];
    const { topicId } = logs[0]!.address;
    while (logs.length < partitions) logs.push(new FakeLog(topicId, name, logs.length));
    this.store.shared.addPartitions(topicId, partitions);
    this.topics.set(name, logs);
    return logs;
  }

  async subscribe(group: string, changes: Partial<SubscribeCommand> = {}): Promise<FakeStream> {
    const sink = new FakeStream();
    const command: SubscribeCommand = {
      group,
      topics: ['orders'],
      start: { type: 'earliest' },
      maxInFlightRecords: 100,
      maxInFlightBytes: 100_000,
      clientId: 'client',
      memberId: null,
      instanceId: null,
      maxPollIntervalMs: 300_000,
      lanes: false,
      metadata: new Uint8Array(),
      sessionTimeoutMs: null,
      rebalanceTimeoutMs: 10_000,
      assignor: 'sticky',
      autoAck: false,
      assignmentChanges: false,
      reply: handedOver(),
      ...changes,
    };
    sink.stream = await this.wait(this.delivery.subscribe('host', command, sink));
    await this.clock.settle();
    return sink;
  }

  /** Joins a classic member, which manages its membership by calls. */
  join(group: string, changes: Partial<JoinGroupCommand> = {}): Promise<JoinGroupOutcome> {
    const command: JoinGroupCommand = {
      group,
      topics: ['orders'],
      start: { type: 'earliest' },
      clientId: 'classic',
      memberId: null,
      instanceId: null,
      sessionTimeoutMs: 30_000,
      rebalanceTimeoutMs: 10_000,
      maxPollIntervalMs: 300_000,
      lanes: false,
      assignor: 'sticky',
      clientAssignors: [],
      metadata: new Uint8Array(),
      reply: handedOver(),
      ...changes,
    };
    return this.wait(this.delivery.join('host', command));
  }

  /** Lets the time pass in which joins after a rebalance are gathered. */
  async gathered(): Promise<void> {
    await this.clock.advance(limits.rebalanceGatherMs);
  }

  pull(group: string, changes: Partial<PullCommand> = {}): Promise<PullOutcome> {
    const start: StartPosition = { type: 'earliest' };
    return this.delivery.pull('host', {
      group,
      topics: ['orders'],
      start,
      maxRecords: 100,
      maxBytes: 100_000,
      waitMs: 0,
      memberId: null,
      clientId: 'client',
      instanceId: null,
      maxPollIntervalMs: 300_000,
      lanes: false,
      sessionTimeoutMs: 30_000,
      autoAck: false,
      reply: handedOver(),
      ...changes,
    });
  }

  /** A group with all of its members and partitions. */
  describe(name: string) {
    const view = this.delivery.views.describe(name);
    const members = view.memberIds().map((memberId) => view.member(memberId));
    const partitions = view.logs().map((log) => log.status());
    return { generation: view.generation, group: view.summary(), members, partitions };
  }

  /** A subscription with all of its partitions. */
  subscription(group: string, topic: string) {
    const { subscription, logs } = this.delivery.subscriptions.get(group, topic);
    return { subscription, partitions: logs.map((log) => log.status()) };
  }

  /** The committed offsets of the named partitions, or of all. */
  async fetchOffsets(group: string, named: readonly NamedLog[]): Promise<FetchedOffset[]> {
    const all = this.delivery.views.describe(group).logs();
    const names = named.length > 0 ? named : all.map(({ topic, key }) => ({ topic, ...key }));
    const fetched = names.map(this.delivery.offsets.reader(group));
    await this.delivery.offsets.durable();
    return fetched;
  }

  /** Acks one entry as the member. */
  async ack(
    group: string,
    member: { readonly memberId: MemberId; readonly generation: number },
    entry: Partial<AckEntry>,
  ): Promise<AckOutcome> {
    const [outcome] = await this.wait(
      this.delivery.ack({
        group,
        memberId: member.memberId,
        generation: member.generation,
        entries: [
          {
            topic: 'orders',
            partition: 0,
            lane: 0,
            action: 'ACK',
            upToOffset: null,
            runs: null,
            delayMs: null,
            error: '',
            ...entry,
          },
        ],
      }),
    );
    await this.clock.settle();
    return outcome!;
  }

  /** Advances the clock in small steps until the promise is settled. */
  async wait<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    for (let steps = 0; !settled; steps++) {
      await this.clock.settle();
      if (!settled) await this.clock.advance(1);
      if (steps > 20_000) throw new Error('it never came');
    }
    return promise;
  }
}

/** What a log of its own needs of its subscription. */
export const ownSubscription = { groupName: 'billing', isPaused: false, consumption: new Consumption() };

/** For a log that keeps its beginning. */
export const noJumps = { begin: () => undefined, told: () => undefined };

/** The reply of a call whose answer reaches its client. */
export function handedOver(): Reply {
  const reply = new Reply();
  reply.handOver();
  return reply;
}

export function offsetsOf(outcome: PullOutcome): number[] {
  return outcome.fields.flatMap((field) => (JSON.parse(field.toString()) as Delivered).offsets);
}
