import { create } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { BrokerService, PublishRequestSchema } from '../../gen/millrace/v1/broker_pb.js';
import { connect, decodeResponse, encodeRequest, methodPath } from '../client/service-client.ts';
import { Histogram } from '../support/histogram.ts';
import type { HistogramData } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import type { LoadProgram } from '../support/load-process.ts';
import { randomValues } from '../support/random.ts';
import { monotonicUs, startSchedule } from '../support/timing.ts';

/** A load process that publishes. */
export interface PublishSpec {
  readonly address: string;
  readonly topic: string;
  /**
   * 'ordinary' encodes each request and decodes each answer; 'lean' encodes once and decodes
   * nothing.
   */
  readonly client: 'ordinary' | 'lean';
  readonly call: 'unary' | 'stream';
  /** The number of independent publishers. With 'stream' each has its own stream. */
  readonly publishers: number;
  /** Requests in flight for each publisher (closed loop). */
  readonly inFlight: number;
  readonly batch: number;
  readonly valueBytes: number;
  /** Requests a second of all publishers together (open loop); null: closed loop. */
  readonly requestsPerSecond: number | null;
  /** Whether to publish no more than the parent allows. */
  readonly limited: boolean;
  readonly seed: number;
}

export interface PublishResult {
  readonly messages: number;
  /** Messages confirmed since the start, not since the mark. */
  readonly messagesInAll: number;
  readonly elapsedMs: number;
  readonly errors: number;
  /** The latency of each request, from the call (open loop: from its due time) to the answer. */
  readonly latency: HistogramData;
}

type Done = (error: Error | null) => void;
/** Sends one request whose records are stamped with `stampUs`. */
type Send = (stampUs: number, done: Done) => void;

const publish = BrokerService.method.publish;
const publishStream = BrokerService.method.publishStream;
/** The time of sending, at the start of every value. */
const stampBytes = 8;

/** A fixed stock of random values, from which requests are made in turn. */
class Payloads {
  readonly #values: Buffer[];
  readonly #spec: PublishSpec;
  #next = 0;

  constructor(spec: PublishSpec) {
    this.#spec = spec;
    this.#values = randomValues(spec.seed, Math.max(512, spec.batch), spec.valueBytes);
  }

  /** Stamps values in place for a unary call, which encodes at once. A stream gets copies. */
  request(stampUs: number): { topic: string; records: { value: Uint8Array }[] } {
    const records = new Array<{ value: Uint8Array }>(this.#spec.batch);
    for (let i = 0; i < records.length; i++) records[i] = { value: this.#value(stampUs) };
    return { topic: this.#spec.topic, records };
  }

  #value(stampUs: number): Buffer {
    let value = this.#values[this.#next]!;
    this.#next = (this.#next + 1) % this.#values.length;
    if (this.#spec.call === 'stream') value = Buffer.from(value);
    if (value.length >= stampBytes) value.writeDoubleLE(stampUs, 0);
    return value;
  }
}

/** Encoded requests that the lean client sends unchanged. */
function encodedRequests(payloads: Payloads): Buffer[] {
  const encode = encodeRequest(publish);
  return Array.from({ length: 4 }, () => encode(create(PublishRequestSchema, payloads.request(0))));
}

const identity = (bytes: Buffer): Buffer => bytes;
const drop = (): undefined => undefined;

function unarySender(client: Client, spec: PublishSpec, payloads: Payloads): Send {
  const path = methodPath(publish);
  if (spec.client === 'lean') {
    const stock = encodedRequests(payloads);
    let next = 0;
    return (_stampUs, done) => {
      next = (next + 1) % stock.length;
      client.makeUnaryRequest<Buffer, undefined>(path, identity, drop, stock[next]!, done);
    };
  }
  const encode = encodeRequest(publish);
  const decode = decodeResponse(publish);
  return (stampUs, done) => {
    client.makeUnaryRequest(path, encode, decode, payloads.request(stampUs), done);
  };
}

/** Keeps the requests in flight in a queue, because answers come in the order of the requests. */
function streamSender(
  client: Client,
  spec: PublishSpec,
  payloads: Payloads,
  fail: (error: Error) => void,
): Send & { end(): void } {
  const stock = spec.client === 'lean' ? encodedRequests(payloads) : null;
  const encode = stock === null ? encodeRequest(publishStream) : identity;
  const decode = stock === null ? decodeResponse(publishStream) : drop;
  const stream = client.makeBidiStreamRequest<unknown, unknown>(
    methodPath(publishStream),
    encode as (request: unknown) => Buffer,
    // A stream in object mode ends at null and undefined, so a dropped answer becomes `true`.
    (bytes) => decode(bytes) ?? true,
  );
  const inFlight: Done[] = [];
  stream.on('data', () => inFlight.shift()?.(null));
  stream.on('error', fail);
  let next = 0;
  const send: Send = (stampUs, done) => {
    inFlight.push(done);
    if (stock === null) stream.write(payloads.request(stampUs));
    else stream.write(stock[(next = (next + 1) % stock.length)]);
  };
  return Object.assign(send, {
    end: () => {
      stream.end();
    },
  });
}

class PublishLoad implements LoadProgram<PublishResult> {
  readonly #spec: PublishSpec;
  readonly #client: Client;
  readonly #senders: (Send & { end?: () => void })[];
  readonly #latency = new Histogram();
  #messages = 0;
  #messagesInAll = 0;
  #errors = 0;
  #markedAtMs = performance.now();
  #allowed: number;
  #sent = 0;
  #parked: (() => void)[] = [];
  #inFlight = 0;
  #stopping = false;
  #endSchedule: (() => void) | null = null;
  #idle: (() => void) | null = null;

  constructor(spec: PublishSpec) {
    this.#spec = spec;
    this.#client = connect(spec.address);
    this.#allowed = spec.limited ? 0 : Infinity;
    const payloads = new Payloads(spec);
    this.#senders = Array.from({ length: spec.publishers }, () =>
      spec.call === 'unary'
        ? unarySender(this.#client, spec, payloads)
        : streamSender(this.#client, spec, payloads, (error) => {
            if (!this.#stopping) throw error;
          }),
    );
  }

  connected(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + 10_000, (error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  start(): void {
    const { requestsPerSecond, inFlight } = this.#spec;
    if (requestsPerSecond !== null) {
      let turn = 0;
      this.#endSchedule = startSchedule(requestsPerSecond, (dueUs) => {
        turn = (turn + 1) % this.#senders.length;
        this.#publish(this.#senders[turn]!, dueUs, null);
      });
      return;
    }
    for (const send of this.#senders) {
      const again = (): void => {
        if (this.#stopping) return;
        if (this.#sent + this.#spec.batch > this.#allowed) this.#parked.push(again);
        else this.#publish(send, monotonicUs(), again);
      };
      for (let i = 0; i < inFlight; i++) again();
    }
  }

  #publish(send: Send, startUs: number, then: (() => void) | null): void {
    this.#inFlight++;
    this.#sent += this.#spec.batch;
    send(startUs, (error) => {
      this.#inFlight--;
      if (error === null) {
        this.#messages += this.#spec.batch;
        this.#messagesInAll += this.#spec.batch;
        this.#latency.record(monotonicUs() - startUs);
        then?.();
      } else {
        this.#errors++;
        if (!this.#stopping && then !== null) setTimeout(then, 10);
      }
      if (this.#inFlight === 0) this.#idle?.();
    });
  }

  mark(): void {
    this.#latency.reset();
    this.#messages = 0;
    this.#errors = 0;
    this.#markedAtMs = performance.now();
  }

  collect(): PublishResult {
    return {
      messages: this.#messages,
      messagesInAll: this.#messagesInAll,
      errors: this.#errors,
      elapsedMs: performance.now() - this.#markedAtMs,
      latency: this.#latency.toData(),
    };
  }

  allow(messages: number): void {
    this.#allowed = messages;
    const parked = this.#parked;
    this.#parked = [];
    for (const again of parked) again();
  }

  /** Resolves when all requests in flight are answered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#endSchedule?.();
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    for (const send of this.#senders) send.end?.();
  }
}

runLoad<PublishSpec, PublishResult>(async (spec) => {
  const load = new PublishLoad(spec);
  await load.connected();
  return load;
});
