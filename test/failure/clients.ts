import { status, type ChannelOptions, type Client, type ClientReadableStream, type ServiceError } from '@grpc/grpc-js';
import { call, connect, openServerStream } from '../../bench/client/service-client.ts';
import { delay, waitFor } from '../../bench/support/timing.ts';
import { BrokerService, type SubscribeResponse } from '../../gen/millrace/v1/broker_pb.js';
import { TopicService } from '../../gen/millrace/v1/topic_pb.js';

/**
 * Clients as users write them: they keep going when a broker dies, and note what they were
 * promised.
 */

export const partitions = 6;

/** A broker that is gone is soon tried again: it may be back, or its successor be there. */
const impatient: ChannelOptions = {
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 200,
  'grpc.use_local_subchannel_pool': 1,
};

export function connectImpatiently(address: string): Client {
  return connect(address, impatient);
}

/** For a call: a frozen broker answers nothing, and its machine still takes connections. */
export const inTime = (patienceMs = 3_000) => ({ deadline: Date.now() + patienceMs });

export async function createTopic(address: string, name: string): Promise<void> {
  const client = connect(address);
  try {
    await call(client, TopicService.method.createTopic, { topic: { name, partitions } });
  } finally {
    client.close();
  }
}

export function isTemporary(error: unknown): boolean {
  const { code } = error as ServiceError;
  return [status.UNAVAILABLE, status.CANCELLED, status.UNKNOWN, status.DEADLINE_EXCEEDED].includes(code);
}

/**
 * Publishes numbered records, each with an idempotency key, and repeats what was not confirmed, at
 * whichever broker answers. Number n has key n % 50.
 */
export class Publisher {
  readonly confirmed = new Map<number, { readonly partition: number; readonly offset: bigint }>();
  readonly #clients: readonly Client[];
  readonly #topic: string;
  #next = 0;
  #stopped = false;
  #running: Promise<void>[] = [];

  constructor(addresses: readonly string[], topic: string) {
    this.#clients = addresses.map((address) => connectImpatiently(address));
    this.#topic = topic;
  }

  /** `restMs`: between two publishes of each that is in flight. */
  start(inFlight: number, batch: number, restMs = 0): void {
    this.#running = Array.from({ length: inFlight }, () => this.#run(batch, restMs));
  }

  /** Resolves when everything that was begun is confirmed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
    for (const client of this.#clients) client.close();
  }

  async #run(batch: number, restMs: number): Promise<void> {
    while (!this.#stopped) {
      const numbers = Array.from({ length: batch }, () => this.#next++);
      await this.#publish(numbers);
      if (restMs > 0) await delay(restMs);
    }
  }

  async #publish(numbers: readonly number[]): Promise<void> {
    const records = numbers.map((n) => ({
      key: `k${n % 50}`,
      value: Buffer.from(String(n)),
      idempotencyKey: `n${n}`,
    }));
    for (let attempt = 0; ; attempt++) {
      const client = this.#clients[attempt % this.#clients.length]!;
      try {
        const request = { topic: this.#topic, records };
        const { results } = await call(client, BrokerService.method.publish, request, inTime());
        results.forEach((result, index) => {
          this.confirmed.set(numbers[index]!, { partition: result.partition!, offset: result.offset! });
        });
        return;
      } catch (error) {
        if (!isTemporary(error)) throw error;
        await new Promise((resume) => setTimeout(resume, 20));
      }
    }
  }
}

export interface Delivery {
  readonly n: number;
  readonly partition: number;
  readonly offset: bigint;
  readonly attempt: number;
}

/**
 * One member that resumes at whichever broker answers, acks what it gets, and notes which acks were
 * confirmed.
 */
export class Consumer {
  readonly deliveries: Delivery[] = [];
  readonly received = new Set<number>();
  /**
   * Deliveries of records whose ack had been confirmed to this consumer before: there must be none.
   */
  readonly afterAck: Delivery[] = [];
  readonly #acked = new Map<number, bigint>();
  readonly #clients: readonly Client[];
  readonly #group: string;
  readonly #topic: string;
  readonly #acks: boolean;
  #turn = 0;
  #stopped = false;
  #stream: ClientReadableStream<SubscribeResponse> | null = null;
  #running: Promise<void> | null = null;

  constructor(addresses: readonly string[], group: string, topic: string, acks = true) {
    this.#clients = addresses.map((address) => connectImpatiently(address));
    this.#group = group;
    this.#topic = topic;
    this.#acks = acks;
  }

  start(): this {
    this.#running = this.#run();
    return this;
  }

  /** Records whose ack was confirmed to this consumer. */
  get ackedRecords(): number {
    return this.#ackedDeliveries().length;
  }

  /** The numbers of those. */
  get acked(): Set<number> {
    return new Set(this.#ackedDeliveries().map(({ n }) => n));
  }

  async until(what: string, condition: () => boolean, timeoutMs = 30_000): Promise<void> {
    await waitFor(`${this.#group}: ${what}`, timeoutMs, 5, condition);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stream?.cancel();
    await this.#running;
    for (const client of this.#clients) client.close();
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const client = this.#clients[this.#turn++ % this.#clients.length]!;
      try {
        await this.#consume(client);
      } catch (error) {
        if (!this.#stopped && !isTemporary(error) && (error as ServiceError).code !== status.ABORTED) throw error;
      }
      if (!this.#stopped) await new Promise((resume) => setTimeout(resume, 20));
    }
  }

  async #consume(client: Client): Promise<void> {
    const stream = openServerStream(client, BrokerService.method.subscribe, {
      group: this.#group,
      topics: [this.#topic],
      start: { position: { case: 'earliest', value: {} } },
    });
    this.#stream = stream;
    let memberId = '';
    for await (const message of stream as AsyncIterable<SubscribeResponse>) {
      const { event, generation } = message;
      if (event.case === 'joined') memberId = event.value.memberId;
      if (event.case !== 'batch') continue;
      const partition = event.value.partition!;
      for (const { record, offset, attempt } of event.value.records) {
        this.#note({ n: Number(Buffer.from(record!.value).toString()), partition, offset: offset!, attempt });
      }
      const upToOffset = event.value.records.at(-1)!.offset!;
      if (this.#acks) void this.#ack(client, { memberId, generation: generation!, partition, upToOffset });
    }
  }

  #ackedDeliveries(): Delivery[] {
    return this.deliveries.filter(({ partition, offset }) => offset <= (this.#acked.get(partition) ?? -1n));
  }

  #note(delivery: Delivery): void {
    this.deliveries.push(delivery);
    this.received.add(delivery.n);
    if (delivery.offset <= (this.#acked.get(delivery.partition) ?? -1n)) this.afterAck.push(delivery);
  }

  async #ack(
    client: Client,
    ack: { memberId: string; generation: bigint; partition: number; upToOffset: bigint },
  ): Promise<void> {
    const { memberId, generation, partition, upToOffset } = ack;
    try {
      const { results } = await call(client, BrokerService.method.ack, {
        group: this.#group,
        memberId,
        generation,
        acks: [{ topic: this.#topic, partition, upToOffset }],
      });
      const committed = results[0]?.committedOffset ?? 0n;
      if (committed - 1n > (this.#acked.get(partition) ?? -1n)) this.#acked.set(partition, committed - 1n);
    } catch {
      // Not confirmed: the records come again, which is what the test is about.
    }
  }
}

/** Numbers of one key that came in another order than they were published in, repeats aside. */
export function inversions(deliveries: readonly Delivery[], published: Publisher['confirmed']): number {
  const seen = new Map<number, bigint>();
  let wrong = 0;
  for (const { n, partition, offset } of deliveries) {
    if (published.get(n)?.offset !== offset) wrong++;
    const last = seen.get(partition) ?? -1n;
    if (offset > last + 1n) wrong++;
    if (offset > last) seen.set(partition, offset);
  }
  return wrong;
}
