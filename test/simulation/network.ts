import { fromBinary } from '@bufbuild/protobuf';
import { SubscribeResponseSchema } from '../../gen/millrace/v1/broker_pb.js';
import type { SubscribeCommand } from '../../src/broker/commands.ts';
import type { Services } from '../../src/broker/services.ts';
import type { MemberId } from '../../src/coordinator/group.ts';
import type {
  EventSink,
  MemberStream,
  StreamEnd,
  StreamEvent,
  TopicPartition,
} from '../../src/delivery/ports/session.ts';
import { Reply } from '../../src/delivery/ports/reply.ts';
import { Fault } from '../../src/errors/fault.ts';
import { Rejection } from '../../src/errors/rejections/rejection.ts';
import { streamUnsentBytesMax, type SimulatedBroker } from './brokers/broker.ts';
import type { Recipient } from './ledgers/group-ledger.ts';
import type { Ledger, SentBatch } from './ledgers/ledger.ts';
import { StreamOrder } from './ledgers/order.ts';
import type { World } from './world.ts';

export const caller = { principal: 'anonymous', host: 'host' } as const;

/** The call has no answer, so its outcome is unknown. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** The errors that a client may get. */
export type CallError = Unavailable | Rejection | Fault;

/** The events that a client gets from a stream, with decoded batches. */
export type ClientEvent =
  | Exclude<StreamEvent, { type: 'batch' }>
  | { readonly type: 'batch'; readonly generation: number; readonly batch: SentBatch };

export interface StreamListener {
  event(event: ClientEvent): void;
  closed(error: CallError | null): void;
}

/** The client's side of a stream. */
export interface ClientStream {
  /** Ends the stream. The broker notices now or later. */
  close(): void;
  /** Lets the connection die. Each side notices within `noticeMsMax`. */
  break(noticeMsMax: number): void;
}

/** Messages that are delayed for longer are lost. */
export const networkDelayMsMax = 15_000;
/** A dead connection is noticed after a ping interval and its timeout. */
export const keepaliveMs = 20_000;
/** A member with a shorter interval may count an attempt of its own when it takes nothing. */
const patientPollMs = 300_000;

/** The work of a broker for a call. */
export type Work<T> = (broker: Services, serving: SimulatedBroker, reply: Reply) => Promise<T>;

/** Calls that reach one broker in order, or not at all. */
export interface OrderedCalls {
  /** @throws CallError */
  call<T>(work: (broker: Services) => Promise<T>): Promise<T>;
}

/**
 * The network between clients and brokers. It delays, loses and repeats messages, and lets
 * connections die silently.
 */
export class Network {
  faulty = true;
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #brokers: () => readonly SimulatedBroker[];
  readonly #streams = new Set<Stream>();

  constructor(world: World, ledger: Ledger, brokers: () => readonly SimulatedBroker[]) {
    this.#world = world;
    this.#ledger = ledger;
    this.#brokers = brokers;
  }

  /** Calls any broker that serves. @throws CallError */
  async call<T>(work: Work<T>, deadlineMs = 8_000): Promise<T> {
    const world = this.#world;
    const broker = this.#pick();
    if (broker === null) {
      await world.pause(world.between(1, 50));
      throw new Unavailable('nobody serves');
    }
    const answer = Promise.withResolvers<T>();
    const replies = [new Reply()];
    // The request is sent twice. The first answer counts, and the second request arrives at any
    // time.
    if (this.#happens(0.03)) replies.push(new Reply());
    const cancelDeadline = world.after(deadlineMs, () => {
      answer.reject(new Unavailable('the deadline is over'));
      for (const reply of replies) this.#giveUp(broker, reply);
    });
    for (const reply of replies) this.#arrive(broker, work, answer, reply);
    try {
      return await answer.promise;
    } finally {
      cancelDeadline();
    }
  }

  /** A stream of calls to any broker. After a lost call all later ones are lost too. */
  ordered(deadlineMs = 8_000): OrderedCalls {
    const world = this.#world;
    const broker = this.#pick();
    let arrivalMs = world.nowMs;
    let isLost = broker === null;
    return {
      call: <T>(work: (broker: Services) => Promise<T>): Promise<T> => {
        const answer = Promise.withResolvers<T>();
        isLost ||= this.#happens(0.02);
        arrivalMs = Math.max(arrivalMs, world.nowMs + this.delayMs());
        if (!isLost) {
          world.after(arrivalMs - world.nowMs, () => {
            broker!.process.enter(() => void this.#handle(broker!, work, answer, new Reply()));
          });
        }
        world.after(isLost ? world.between(1, 500) : deadlineMs, () => {
          answer.reject(new Unavailable('the stream is lost'));
        });
        return answer.promise;
      },
    };
  }

  /** `eventsMax`: the client takes so many events, and then it reads no more. */
  open(command: Omit<SubscribeCommand, 'reply'>, listener: StreamListener, eventsMax = Infinity): ClientStream {
    const broker = this.#pick();
    const client = { listener, eventsMax };
    const stream = new Stream(this.#world, this.#ledger, command, broker, client, () => this.delayMs());
    this.#streams.add(stream);
    this.#world.after(this.delayMs(), () => {
      void stream.open(command);
    });
    return stream;
  }

  /** Breaks some of the open streams, at once or so that neither side notices for long. */
  breakStreams(probability: number): void {
    for (const stream of this.#streams) {
      if (stream.isOver) this.#streams.delete(stream);
      else if (this.#world.chance(probability)) stream.break(this.#world.chance(0.4) ? keepaliveMs : 0);
    }
  }

  delayMs(): number {
    const world = this.#world;
    if (!this.faulty) return world.between(0.1, 1);
    const fraction = world.fraction();
    if (fraction < 0.01) return world.between(1_000, networkDelayMsMax);
    return fraction < 0.1 ? world.between(5, 300) : world.between(0.1, 3);
  }

  #happens(probability: number): boolean {
    return this.faulty && this.#world.chance(probability);
  }

  #pick(): SimulatedBroker | null {
    return this.#world.pick(this.#brokers().filter(({ calls }) => calls !== null)) ?? null;
  }

  #arrive<T>(broker: SimulatedBroker, work: Work<T>, answer: PromiseWithResolvers<T>, reply: Reply): void {
    if (this.#happens(0.02)) return;
    this.#world.after(this.delayMs(), () => {
      if (broker.calls === null) {
        answer.reject(new Unavailable('the connection was refused'));
        return;
      }
      broker.process.enter(() => {
        void this.#handle(broker, work, answer, reply);
      });
    });
  }

  /** The client gives up the call. The broker notices before the answer, after it, or never. */
  #giveUp(broker: SimulatedBroker, reply: Reply): void {
    if (this.#happens(0.1)) return;
    this.#world.after(this.delayMs(), () => {
      broker.process.enter(() => {
        if (!reply.isHandedOver) this.#world.count('a call is given up before its answer');
        reply.lose();
      });
    });
  }

  async #handle<T>(
    broker: SimulatedBroker,
    work: Work<T>,
    answer: PromiseWithResolvers<T>,
    reply: Reply,
  ): Promise<void> {
    const { calls } = broker;
    if (calls === null) return;
    let send: () => void;
    try {
      const value = await work(calls, broker, reply);
      if (reply.isLost) return;
      reply.handOver();
      send = () => {
        answer.resolve(value);
      };
    } catch (error) {
      if (!(error instanceof Rejection || error instanceof Fault)) this.#world.violated(error as Error);
      this.#world.count(`a call ends with ${error instanceof Rejection ? error.reason : (error as Fault).kind}`);
      if (error instanceof Rejection) this.#ledger.groups.refusalTold(error);
      reply.lose();
      send = () => {
        answer.reject(error);
      };
    }
    if (!broker.ended && !this.#happens(0.02)) this.#world.after(this.delayMs(), send);
  }
}

/** A stream of events from the broker's sink to the client's listener, in order. */
class Stream implements EventSink, ClientStream {
  unsentBytes = 0;
  onDrain: (() => void) | null = null;
  #hasTaken = false;
  readonly #world: World;
  readonly #ledger: Ledger;
  readonly #group: string;
  /** Whether no attempt may be counted after a SLOW_READER, whatever else the member does. */
  readonly #keepsAttempts: boolean;
  readonly #broker: SimulatedBroker | null;
  readonly #listener: StreamListener;
  readonly #delayMs: () => number;
  readonly #reply = new Reply();
  readonly #order: StreamOrder;
  #memberId = '' as MemberId;
  /** The assignment that the client has got; null before the first one. */
  #assigned: Map<string, TopicPartition> | null = null;
  #held: MemberStream | null = null;
  #end: StreamEnd = 'ENDED';
  #lastArrivalMs = 0;
  /** Whether the connection is dead, so that no message passes. */
  #silent = false;
  #brokerSideOver = false;
  #clientSideOver = false;
  /** How many more events the client takes. */
  #eventsLeft: number;
  /** Whether events wait that the client never takes. */
  #stuck = false;

  constructor(
    world: World,
    ledger: Ledger,
    command: Pick<SubscribeCommand, 'group' | 'sessionTimeoutMs' | 'maxPollIntervalMs'>,
    broker: SimulatedBroker | null,
    client: { readonly listener: StreamListener; readonly eventsMax: number },
    delayMs: () => number,
  ) {
    this.#world = world;
    this.#ledger = ledger;
    const { group, sessionTimeoutMs, maxPollIntervalMs } = command;
    this.#group = group;
    this.#keepsAttempts = sessionTimeoutMs === null && maxPollIntervalMs >= patientPollMs;
    this.#order = new StreamOrder(ledger, group);
    this.#broker = broker;
    this.#listener = client.listener;
    this.#eventsLeft = client.eventsMax;
    this.#delayMs = delayMs;
  }

  get isOver(): boolean {
    return this.#brokerSideOver && this.#clientSideOver;
  }

  get #recipient(): Recipient {
    return { epoch: this.#broker!.epoch, group: this.#group, memberId: this.#memberId };
  }

  async open(command: Omit<SubscribeCommand, 'reply'>): Promise<void> {
    const broker = this.#broker;
    if (broker === null || broker.calls === null || this.#clientSideOver) {
      this.#brokerSideOver = true;
      this.#closeClient(new Unavailable('nobody serves'));
      return;
    }
    this.#watch(broker);
    broker.process.enter(() => {
      void this.#subscribe(broker, command);
    });
  }

  send(event: StreamEvent): void {
    if (this.#brokerSideOver) return;
    this.#reply.handOver();
    const { epoch } = this.#broker!;
    if (event.type === 'joined') this.#memberId = event.memberId;
    const recipient = this.#recipient;
    this.#ledger.groups.generationTold(recipient, event.generation);
    let told: ClientEvent;
    let bytes = 50;
    if (event.type === 'batch') {
      const batch = decode(event.field);
      this.#ledger.sent(recipient, batch);
      this.#order.sent(this.#memberId, batch, epoch);
      told = { type: 'batch', generation: event.generation, batch };
      bytes += event.field.length;
    } else {
      if (event.type === 'assigned') {
        const assignment = this.#assignment(event);
        const isBehind = (): boolean => this.unsentBytes >= streamUnsentBytesMax;
        this.#ledger.groups.assignmentTold(recipient, assignment, event.generation, isBehind);
        this.#order.assigned(assignment);
      }
      if (event.type === 'gap') {
        this.#order.gap(event);
        this.#ledger.gaps.named(recipient.group, event);
      }
      if (event.type === 'idle') this.#ledger.inFlightTold(recipient, event);
      told = event;
      this.#world.count(`${event.type} is told`);
    }
    this.unsentBytes += bytes;
    this.#travel(() => {
      this.#stuck = this.#eventsLeft === 0;
      if (this.#stuck) return;
      this.#eventsLeft--;
      this.#broker!.process.enter(() => {
        this.unsentBytes -= bytes;
        this.#hasTaken = true;
        this.onDrain?.();
      });
      if (!this.#clientSideOver) this.#listener.event(told);
    });
  }

  /** The whole assignment, as a client combines it from the changes. */
  #assignment({ partitions, removed }: Extract<StreamEvent, { readonly type: 'assigned' }>): readonly TopicPartition[] {
    const byName = (of: readonly TopicPartition[]) => of.map((one) => [`${one.topic}/${one.partition}`, one] as const);
    if (removed === undefined) this.#assigned = new Map(byName(partitions));
    else {
      this.#world.count('changes are told');
      const group = this.#group;
      const assigned = this.#assigned;
      this.#world.demand(assigned !== null, () => `${group}: a stream is told changes of what it has not been told`);
      for (const [name] of byName(removed)) {
        this.#world.demand(
          assigned?.delete(name) === true,
          () => `${group}: ${name} is told to be gone and was not there`,
        );
      }
      for (const [name, one] of byName(partitions)) assigned?.set(name, one);
    }
    return [...(this.#assigned?.values() ?? [])];
  }

  end(error: Rejection | null): void {
    if (this.#brokerSideOver) return;
    if (error?.reason === 'SLOW_READER' && this.#keepsAttempts) this.#ledger.slowReaderEnded(this.#recipient);
    this.#endBrokerSide();
    this.#refused(error);
    this.#travel(() => {
      // The end waits behind the events.
      if (this.#stuck) return;
      this.#closeClient(error);
      this.#tellBroker(0, 'ENDED');
    });
  }

  hasProgress(): boolean {
    const progress = this.#hasTaken || this.unsentBytes === 0;
    this.#hasTaken = false;
    return progress;
  }

  /** The broker gives up the connection of a client that does not read. */
  cut(): void {
    this.#world.count('a stream is cut off');
    this.break(0);
  }

  close(): void {
    if (this.#clientSideOver) return;
    this.#clientSideOver = true;
    if (this.#silent) this.#tellBroker(keepaliveMs, 'CONNECTION_LOST');
    else this.#tellBroker(this.#delayMs(), 'CANCELLED');
  }

  /** Lets the connection die. Each side notices within `noticeMsMax`. */
  break(noticeMsMax: number): void {
    this.#silent = true;
    this.#tellBroker(this.#world.between(0, noticeMsMax), 'CONNECTION_LOST');
    this.#world.after(this.#world.between(0, noticeMsMax), () => {
      this.#closeClient(new Unavailable('the connection is lost'));
    });
  }

  async #subscribe(broker: SimulatedBroker, command: Omit<SubscribeCommand, 'reply'>): Promise<void> {
    const { calls } = broker;
    if (calls === null) return;
    try {
      this.#held = await calls.broker.subscribe(caller, { ...command, reply: this.#reply }, this);
      if (this.#brokerSideOver) this.#held.closed(this.#end);
    } catch (error) {
      if (!(error instanceof Rejection || error instanceof Fault)) this.#world.violated(error as Error);
      this.#brokerSideOver = true;
      this.#reply.lose();
      this.#refused(error as CallError);
      this.#travel(() => {
        this.#closeClient(error as CallError);
      });
    }
  }

  #refused(error: CallError | null): void {
    if (!(error instanceof Rejection)) return;
    this.#world.count(`a stream ends with ${error.reason}`);
    this.#ledger.groups.refusalTold(error);
  }

  /** Delivers messages in order. */
  #travel(arrive: () => void): void {
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, this.#world.nowMs + this.#delayMs());
    this.#world.after(this.#lastArrivalMs - this.#world.nowMs, () => {
      if (!this.#silent) arrive();
    });
  }

  #closeClient(error: CallError | null): void {
    if (this.#clientSideOver) return;
    this.#clientSideOver = true;
    this.#listener.closed(error);
  }

  #tellBroker(delayMs: number, reason: StreamEnd): void {
    this.#world.after(delayMs, () => {
      this.#broker?.process.enter(() => {
        if (!this.#brokerSideOver) {
          this.#end = reason;
          this.#endBrokerSide();
        }
        this.#held?.closed(reason);
      });
    });
  }

  #endBrokerSide(): void {
    this.#brokerSideOver = true;
    this.#reply.lose();
    this.#ledger.groups.streamEnded(this.#recipient);
  }

  /**
   * Ends the stream when the broker's process ends. The client notices soon, or only when its pings
   * have no answer.
   */
  #watch(broker: SimulatedBroker): void {
    const noticeMs = this.#world.chance(0.8) ? this.#world.between(0, 100) : this.#world.between(0, keepaliveMs);
    broker.atEnd(() => {
      this.#brokerSideOver = true;
      this.#world.after(noticeMs, () => {
        this.#closeClient(new Unavailable('the broker has gone'));
      });
    });
  }
}

/** Decodes a batch as a client does. */
export function decode(field: Buffer): SentBatch {
  const { event } = fromBinary(SubscribeResponseSchema, field);
  if (event.case !== 'batch') throw new Error('this is not a batch');
  const { topic, partition, records } = event.value;
  return {
    topic,
    partition: partition ?? -1,
    records: records.map(({ offset, attempt, record }) => ({
      offset: Number(offset),
      attempt,
      key: record!.key,
      value: Buffer.from(record!.value).toString(),
    })),
  };
}
