import { timestampMs } from '@bufbuild/protobuf/wkt';
import { status, type Client, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js';
import { call, openServerStream } from '../../bench/client/service-client.ts';
import {
  AckStatus,
  BrokerService,
  type AckEntry,
  type Revoking,
  type SubscribeResponse,
} from '../../gen/millrace/v1/broker_pb.js';
import { GroupService } from '../../gen/millrace/v1/group_pb.js';
import type { Batch, TopicPartition } from '../../gen/millrace/v1/record_pb.js';
import { grpcDetails } from '../rpc/grpc-client.ts';
import { connectImpatiently, inTime, isTemporary, type Delivery } from './clients.ts';

/**
 * Members with a session, as users write them: they heartbeat, and come back with their id at
 * whichever broker answers.
 */

const heartbeatMs = 1_000;

/** The records that the members of one group got, and the acks that the broker confirmed. */
export class GroupLedger {
  readonly received = new Set<number>();
  deliveries = 0;
  /** Deliveries of records whose ack had been confirmed: there must be none. */
  readonly afterAck: Delivery[] = [];
  /** Deliveries that left out a record before them: there must be none. */
  readonly outOfOrder: Delivery[] = [];
  /** Acks that were refused, entry by entry. */
  readonly refusedAcks: string[] = [];
  readonly #seen = new Map<number, bigint>();
  /** The offset after the last confirmed one, by partition. */
  readonly acked = new Map<number, bigint>();

  note(delivery: Delivery): void {
    const { n, partition, offset } = delivery;
    this.deliveries++;
    this.received.add(n);
    const next = (this.#seen.get(partition) ?? -1n) + 1n;
    if (offset > next) this.outOfOrder.push(delivery);
    if (offset >= next) this.#seen.set(partition, offset);
    if (offset < (this.acked.get(partition) ?? 0n)) this.afterAck.push(delivery);
  }

  confirm(partition: number, next: bigint): void {
    if (next > (this.acked.get(partition) ?? 0n)) this.acked.set(partition, next);
  }

  get ackedRecords(): number {
    return [...this.acked.values()].reduce((sum, next) => sum + Number(next), 0);
  }
}

/** What a member could tell of itself. */
export type MemberReport =
  | { readonly type: 'joined'; readonly memberId: string }
  | { readonly type: 'assigned'; readonly partitions: readonly number[] }
  | { readonly type: 'revoking'; readonly partitions: readonly number[]; readonly deadlineMs: number }
  | {
      readonly type: 'delivered';
      readonly n: number;
      readonly partition: number;
      readonly offset: number;
      readonly attempt: number;
    }
  | { readonly type: 'acked'; readonly partition: number; readonly next: number }
  | { readonly type: 'fenced'; readonly reason: string };

export interface MemberOptions {
  readonly addresses: readonly string[];
  readonly group: string;
  readonly topic: string;
  readonly ledger: GroupLedger;
  /** A static member returns by this name alone, as a restarted process does. */
  readonly instanceId?: string;
  /** Default: 30. null: it lives as long as its stream. */
  readonly sessionTimeoutS?: number | null;
  /** How long it waits for the answer of a call. Default: 3,000. */
  readonly patienceMs?: number;
  readonly maxPollIntervalS?: number;
  readonly rebalanceTimeoutS?: number;
  /** Default: true. Otherwise it keeps what it gets. */
  readonly acks?: boolean;
  /** Told at once, so that what is acked has been reported before. */
  readonly report?: (report: MemberReport) => void;
}

/** What both kinds of member do: find the broker, keep the session, ack what they get. */
abstract class SessionMember {
  memberId = '';
  /** The broker that answered last, and when that was. */
  heardFrom = '';
  heardMs = -Infinity;
  /** Heartbeats that were answered. */
  beats = 0;
  /** Reasons of the errors that ended its membership. */
  readonly fenced: string[] = [];
  protected readonly o: MemberOptions;
  readonly #clients: readonly { readonly address: string; readonly client: Client }[];
  readonly #stopping = new AbortController();
  #turn = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(options: MemberOptions) {
    this.o = options;
    this.#clients = options.addresses.map((address) => ({ address, client: connectImpatiently(address) }));
  }

  start(): this {
    this.#running = this.#run();
    // `stop` reports the failure; until then the member only makes no progress.
    this.#running.catch(() => undefined);
    return this;
  }

  /** Ends its calls. It stays a member for as long as its session lasts. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    for (const { client } of this.#clients) client.close();
  }

  /** Serves at one broker until that fails or `signal` aborts. */
  protected abstract serve(client: Client, signal: AbortSignal): Promise<void>;

  protected inTime(): { deadline: number } {
    return inTime(this.o.patienceMs);
  }

  protected heard(): void {
    this.heardFrom = this.#clients[this.#turn % this.#clients.length]!.address;
    this.heardMs = performance.now();
  }

  protected note({ partition, records }: Batch): void {
    for (const { record, offset, attempt } of records) {
      const n = Number(Buffer.from(record!.value).toString());
      this.o.ledger.note({ n, partition: partition!, offset: offset!, attempt });
      this.o.report?.({ type: 'delivered', n, partition: partition!, offset: Number(offset), attempt });
    }
  }

  /** Acks all of the batches; what is not confirmed comes again. */
  protected async ack(client: Client, generation: bigint, batches: readonly Batch[]): Promise<void> {
    const { group, topic, ledger } = this.o;
    const acks = batches.map(({ partition, records }) => ({ topic, partition, upToOffset: records.at(-1)!.offset }));
    const request = { group, memberId: this.memberId, generation, acks: acks as AckEntry[] };
    const { results } = await call(client, BrokerService.method.ack, request, this.inTime());
    this.heard();
    results.forEach((result, index) => {
      const { partition, upToOffset } = acks[index]!;
      if (result.status === AckStatus.OK || result.status === AckStatus.ALREADY_ACKED) {
        ledger.confirm(partition!, upToOffset! + 1n);
        this.o.report?.({ type: 'acked', partition: partition!, next: Number(upToOffset) + 1 });
      } else {
        ledger.refusedAcks.push(`${AckStatus[result.status]} ${partition}/${upToOffset} for ${this.memberId}`);
      }
    });
  }

  /** Heartbeats until one fails, or `signal` aborts. @throws what the broker answered. */
  protected async beat(client: Client, signal: AbortSignal): Promise<void> {
    const { group } = this.o;
    while (!signal.aborted) {
      await pause(heartbeatMs, signal);
      if (signal.aborted) return;
      if (this.memberId === '') throw unanswered;
      if (this.o.sessionTimeoutS === null) continue;
      await call(client, BrokerService.method.heartbeat, { group, memberId: this.memberId }, this.inTime());
      this.beats++;
      this.heard();
    }
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    for (; !signal.aborted; this.#turn++) {
      const { client } = this.#clients[this.#turn % this.#clients.length]!;
      try {
        await this.#serveAndBeat(client, signal);
      } catch (error) {
        if (!signal.aborted) this.#failed(error as ServiceError);
      }
      await pause(20, signal);
    }
  }

  /** What fails first ends the other. */
  async #serveAndBeat(client: Client, stopping: AbortSignal): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([stopping, over.signal]);
    const part = async (run: Promise<void>): Promise<unknown> => {
      const failure: unknown = await run.then(
        () => null,
        (error: unknown) => error,
      );
      over.abort();
      return failure;
    };
    const failures = await Promise.all([part(this.serve(client, signal)), part(this.beat(client, signal))]);
    const errors = failures.filter((failure) => failure !== null) as ServiceError[];
    const verdict = errors.find(({ code }) => code === status.ABORTED) ?? errors[0];
    if (verdict !== undefined) throw verdict;
  }

  #failed(error: ServiceError): void {
    if (error.code === status.ABORTED) {
      const { reason } = grpcDetails(error)['ErrorInfo'] as { reason: string };
      this.fenced.push(reason);
      this.o.report?.({ type: 'fenced', reason });
      this.memberId = '';
      // Another process has its place: coming back would drive that one away.
      if (reason === 'INSTANCE_FENCED') this.#stopping.abort();
    } else if (error !== unanswered && !isTemporary(error)) throw error;
  }
}

const unanswered = Object.assign(new Error('the broker let no call through'), {
  code: status.UNAVAILABLE,
}) as ServiceError;

/** Resolves after this time, or when the signal aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end);
  });
}

/** Reads by Subscribe. */
export class StreamMember extends SessionMember {
  assigned: readonly number[] = [];
  generation = 0n;
  /** All changes of its partitions in events, since its start. */
  readonly changes: string[] = [];

  protected async serve(client: Client, signal: AbortSignal): Promise<void> {
    const { group, topic, instanceId, sessionTimeoutS = 30, maxPollIntervalS, rebalanceTimeoutS } = this.o;
    if (instanceId !== undefined) this.memberId = '';
    const stream = openServerStream(client, BrokerService.method.subscribe, {
      group,
      topics: [topic],
      memberId: this.memberId,
      start: { position: { case: 'earliest', value: {} } },
      ...(sessionTimeoutS === null ? {} : { sessionTimeout: seconds(sessionTimeoutS) }),
      ...(maxPollIntervalS === undefined ? {} : { maxPollInterval: seconds(maxPollIntervalS) }),
      ...(rebalanceTimeoutS === undefined ? {} : { rebalanceTimeout: seconds(rebalanceTimeoutS) }),
      ...(instanceId === undefined ? {} : { groupInstanceId: instanceId }),
    });
    signal.addEventListener('abort', () => stream.cancel(), { once: true });
    if (signal.aborted) stream.cancel();
    const acks = new Set<Promise<void>>();
    try {
      await this.#read(client, stream, acks);
    } finally {
      // An answer that is still on its way belongs before what the next stream brings.
      await Promise.all(acks);
    }
  }

  async #read(
    client: Client,
    stream: ClientReadableStream<SubscribeResponse>,
    acks: Set<Promise<void>>,
  ): Promise<void> {
    for await (const { event, generation } of stream as AsyncIterable<SubscribeResponse>) {
      this.heard();
      this.generation = generation!;
      if (event.case === 'joined') this.#joined(event.value.memberId);
      if (event.case === 'assigned') this.#assigned(event.value.partitions);
      if (event.case === 'revoking') this.#revoking(event.value);
      if (event.case !== 'batch') continue;
      this.note(event.value);
      if (this.o.acks === false) continue;
      // What an ack that failed was about is sent again to the next stream only.
      const acked = this.ack(client, generation!, [event.value]).catch(() => stream.cancel());
      acks.add(acked);
      void acked.then(() => acks.delete(acked));
    }
  }

  #joined(memberId: string): void {
    this.memberId = memberId;
    this.changes.push('joined');
    this.o.report?.({ type: 'joined', memberId });
  }

  #assigned(named: readonly TopicPartition[]): void {
    this.assigned = named.map(({ partition }) => partition!);
    this.changes.push(`assigned ${this.assigned.join()}`);
    this.o.report?.({ type: 'assigned', partitions: this.assigned });
  }

  #revoking({ partitions: named, deadline }: Revoking): void {
    const partitions = named.map(({ partition }) => partition!);
    this.changes.push(`revoking ${partitions.join()}`);
    this.o.report?.({ type: 'revoking', partitions, deadlineMs: timestampMs(deadline!) });
  }
}

function seconds(count: number): { seconds: bigint; nanos: number } {
  return { seconds: BigInt(count), nanos: 0 };
}

/** Joins by JoinGroup, asks for its assignment by SyncGroup, and reads by Pull. */
export class ClassicMember extends SessionMember {
  #generation = -1n;

  protected async serve(client: Client, signal: AbortSignal): Promise<void> {
    const { group, topic, sessionTimeoutS = 30 } = this.o;
    if (this.memberId === '') {
      const joined = await call(
        client,
        GroupService.method.joinGroup,
        {
          group,
          topics: [topic],
          start: { position: { case: 'earliest', value: {} } },
          sessionTimeout: seconds(sessionTimeoutS ?? 30),
        },
        this.inTime(),
      );
      this.memberId = joined.memberId;
    }
    const { memberId } = this;
    while (!signal.aborted) {
      const pulled = await call(
        client,
        BrokerService.method.pull,
        { group, memberId, wait: seconds(1) },
        this.inTime(),
      );
      this.heard();
      if (pulled.generation! !== this.#generation) {
        const synced = await call(client, GroupService.method.syncGroup, { group, memberId }, this.inTime());
        this.#generation = synced.generation!;
      }
      for (const batch of pulled.batches) this.note(batch);
      if (pulled.batches.length > 0) await this.ack(client, pulled.generation!, pulled.batches);
    }
  }
}
