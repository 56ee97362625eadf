import { AckAction, AckStatus, BrokerService, type SubscribeResponse } from '../../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../../gen/millrace/v1/topic_pb.js';
import { call, connect, openServerStream } from '../../../bench/client/service-client.ts';
import { Machine } from './machine.ts';
import { honest, type FromPair, type PairFindings, type ToPair } from './pair.ts';

/**
 * A publisher and a consumer that do nothing wrong, in a process of their own: an attack must not
 * block the clock that measures it. One record is published at a time, so the ledger is exact.
 */

const topic = honest;
const group = honest;
const pauseMs = 10;
/** A call that takes longer counts as unanswered. */
const answerMs = 30_000;
const faultsMax = 20;

class PairProcess {
  readonly #publisher;
  readonly #consumer;
  #faults: string[] = [];
  #confirmed = 0;
  #received = 0;
  #acksOpen = 0;
  readonly #machine: Machine | null;
  /** How long each call took since the mark, and how long without what the machine took. */
  #callMs: number[] = [];
  #slowestOwnMs = 0;
  /** Holds the publisher until it resolves. */
  #paused: (() => Promise<void>) | null = null;
  #changed: () => void = () => undefined;
  #stopped = false;

  constructor(address: string, machine: Machine | null) {
    this.#machine = machine;
    this.#publisher = connect(address);
    this.#consumer = connect(address);
  }

  async start(): Promise<void> {
    await call(this.#publisher, TopicService.method.createTopic, { topic: { name: topic, partitions: 1 } });
    const start = { position: { case: 'earliest', value: {} } } as const;
    const stream = openServerStream(this.#consumer, BrokerService.method.subscribe, { group, topics: [topic], start });
    let memberId = '';
    const assigned = Promise.withResolvers<void>();
    stream.on('data', ({ event, generation }: SubscribeResponse) => {
      if (event.case === 'joined') memberId = event.value.memberId;
      if (event.case === 'assigned' && event.value.partitions.length === 1) assigned.resolve();
      if (event.case === 'revoking' || event.case === 'draining') this.#fault(`the stream got ${event.case}`);
      if (event.case !== 'batch') return;
      for (const { record, offset, attempt } of event.value.records) this.#receive(record!.value, offset!, attempt);
      const upToOffset = event.value.records.at(-1)!.offset!;
      this.#ack(memberId, generation!, upToOffset).catch((error: unknown) => {
        this.#fault(`an ack failed: ${String(error)}`);
      });
    });
    stream.on('error', (error) => {
      this.#fault(`the stream ended: ${String(error)}`);
    });
    stream.on('end', () => {
      this.#fault('the stream ended');
    });
    await assigned.promise;
    void this.#publishForEver();
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Begins a new measurement. */
  mark(): void {
    this.#callMs = [];
    this.#slowestOwnMs = 0;
  }

  /** Resolves after so many calls. */
  async calls(count: number): Promise<void> {
    await this.#until(() => this.#callMs.length >= count || this.#faults.length > 0, Infinity);
  }

  /** Holds the publisher until every record has come and is acked. */
  async collect(): Promise<PairFindings> {
    const resume = Promise.withResolvers<void>();
    await new Promise<void>((resolve) => {
      this.#paused = () => {
        resolve();
        return resume.promise;
      };
    });
    const isComplete = () => this.#received === this.#confirmed && this.#acksOpen === 0;
    if (!(await this.#until(isComplete, answerMs))) {
      this.#fault(`of ${this.#confirmed} records ${this.#received} came, and ${this.#acksOpen} acks are unanswered`);
    }
    const sorted = this.#callMs.toSorted((a, b) => a - b);
    const slowestMs = sorted.at(-1) ?? 0;
    const p99Ms = sorted[Math.floor(sorted.length * 0.99)] ?? 0;
    const slowestOwnMs = this.#slowestOwnMs;
    const findings = { calls: sorted.length, slowestMs, slowestOwnMs, p99Ms, faults: this.#faults };
    this.#faults = [];
    this.#paused = null;
    resume.resolve();
    return findings;
  }

  async #publishForEver(): Promise<void> {
    while (!this.#stopped) {
      await this.#paused?.();
      await this.#publish().catch((error: unknown) => {
        this.#fault(`a publish failed: ${String(error)}`);
      });
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    this.#publisher.close();
    this.#consumer.close();
    await this.#machine?.close();
  }

  async #publish(): Promise<void> {
    const records = [{ value: Buffer.from(String(this.#confirmed)) }];
    const { results } = await this.#timed(() =>
      call(this.#publisher, BrokerService.method.publish, { topic, records }),
    );
    const offset = results[0]!.offset!;
    if (offset !== BigInt(this.#confirmed)) this.#fault(`record ${this.#confirmed} is at offset ${offset}`);
    this.#confirmed += 1;
    this.#changed();
  }

  #receive(value: Uint8Array, offset: bigint, attempt: number): void {
    const text = Buffer.from(value).toString();
    if (text !== String(this.#received) || offset !== BigInt(this.#received) || attempt !== 1) {
      this.#fault(`record ${this.#received} came as ${text} at offset ${offset} in attempt ${attempt}`);
    }
    this.#received += 1;
  }

  async #ack(memberId: string, generation: bigint, upToOffset: bigint): Promise<void> {
    this.#acksOpen += 1;
    const acks = [{ topic, partition: 0, lane: 0, action: AckAction.ACK, upToOffset }];
    const request = { group, memberId, generation, acks };
    const { results } = await this.#timed(() => call(this.#consumer, BrokerService.method.ack, request));
    const { status } = results[0]!;
    if (status !== AckStatus.OK) this.#fault(`an ack got status ${AckStatus[status]}`);
    this.#acksOpen -= 1;
    this.#changed();
  }

  async #timed<T>(ask: () => Promise<T>): Promise<T> {
    const tookBy = this.#machine?.watch();
    const startedMs = performance.now();
    try {
      return await ask();
    } finally {
      const tookMs = performance.now() - startedMs;
      const ownMs = tookMs - ((await tookBy?.()) ?? 0);
      this.#callMs.push(tookMs);
      this.#slowestOwnMs = Math.max(this.#slowestOwnMs, ownMs);
      this.#changed();
    }
  }

  #fault(text: string): void {
    if (this.#stopped) return;
    if (this.#faults.length < faultsMax) this.#faults.push(text);
    this.#changed();
  }

  /** @returns false after the time. */
  #until(condition: () => boolean, timeoutMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = timeoutMs === Infinity ? undefined : setTimeout(() => resolve(false), timeoutMs);
      const look = (): void => {
        if (!condition()) return;
        clearTimeout(timer);
        resolve(true);
      };
      this.#changed = look;
      look();
    });
  }
}

let pair: PairProcess | null = null;

async function handle(message: ToPair): Promise<FromPair> {
  if (message.type === 'start') {
    pair = new PairProcess(message.address, message.machine === null ? null : new Machine(message.machine));
    await pair.start();
    return { type: 'done' };
  }
  if (pair === null) throw new Error('the pair has not started');
  if (message.type === 'mark') {
    pair.mark();
    return { type: 'done' };
  }
  if (message.type === 'calls') {
    await pair.calls(message.count);
    return { type: 'done' };
  }
  return { type: 'findings', findings: await pair.collect() };
}

process.on('message', (message) => {
  handle(message as ToPair).then(
    (answer) => process.send?.(answer),
    (error: unknown) => process.send?.({ type: 'failed', error: String(error) } satisfies FromPair),
  );
});
// The parent has exited, or has disconnected this process.
process.on('disconnect', () => {
  pair?.stop();
  process.exit(0);
});
