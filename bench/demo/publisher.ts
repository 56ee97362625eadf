import type { Client, ClientDuplexStream } from '@grpc/grpc-js';
import { BrokerService } from '../../gen/millrace/v1/broker_pb.js';
import { openDuplexStream } from '../client/service-client.ts';
import { delay, monotonicUs } from '../support/timing.ts';
import type { Ledger } from './ledger.ts';
import type { SourceRecord } from './source.ts';

const batchRecords = 100;
const inFlightMax = 8;
/** Larger values are skipped, so that every record stays below its limit of 1 MiB. */
const valueCharsMax = 256 * 1024;

export interface PublishOptions {
  readonly client: Client;
  readonly topic: string;
  readonly ledger: Ledger;
  /** 0: as fast as possible. */
  readonly recordsPerSecond: number;
  readonly limit: number;
  readonly signal: AbortSignal;
  /** Called after each sent batch. */
  readonly onBatch: () => void;
}

/**
 * Publishes in the order of the source, over one PublishStream, whose requests keep their order.
 * @returns the number of confirmed records.
 */
export async function publishAll(records: AsyncIterable<SourceRecord>, options: PublishOptions): Promise<number> {
  const requests = new RequestStream(options.client, options.topic);
  const startedAt = performance.now();
  let batch: SourceRecord[] = [];
  let sent = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    await requests.ready();
    requests.send(batch.map((record) => toRecord(record, options.ledger)));
    sent += batch.length;
    batch = [];
    options.onBatch();
    if (options.recordsPerSecond === 0) return;
    const aheadMs = (sent / options.recordsPerSecond) * 1000 - (performance.now() - startedAt);
    if (aheadMs > 1) await delay(aheadMs);
  };
  for await (const record of records) {
    if (options.signal.aborted || sent + batch.length >= options.limit) break;
    if (record.value.length > valueCharsMax) continue;
    batch.push(record);
    if (batch.length === batchRecords) await flush();
  }
  await flush();
  return requests.finish();
}

function toRecord(
  { key, value }: SourceRecord,
  ledger: Ledger,
): { key: string; value: Uint8Array; headers: Record<string, string> } {
  const number = String(ledger.publish(key));
  return { key, value: Buffer.from(value), headers: { number, 'sent-us': monotonicUs().toFixed(0) } };
}

/** A publish stream with a bounded number of requests in flight. */
class RequestStream {
  readonly #topic: string;
  readonly #stream: ClientDuplexStream<object, { results: readonly unknown[] }>;
  #inFlight = 0;
  #confirmed = 0;
  #error: Error | null = null;
  #ended = false;
  #wake: (() => void) | null = null;

  constructor(client: Client, topic: string) {
    this.#topic = topic;
    this.#stream = openDuplexStream(client, BrokerService.method.publishStream);
    this.#stream.on('data', (response: { results: readonly unknown[] }) => {
      this.#inFlight--;
      this.#confirmed += response.results.length;
      this.#wake?.();
    });
    this.#stream.on('error', (error) => {
      this.#error = error;
      this.#wake?.();
    });
    this.#stream.on('end', () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  async ready(): Promise<void> {
    while (this.#inFlight >= inFlightMax && this.#error === null) await this.#change();
    if (this.#error !== null) throw this.#error;
  }

  send(records: readonly object[]): void {
    this.#inFlight++;
    this.#stream.write({ topic: this.#topic, records });
  }

  async finish(): Promise<number> {
    this.#stream.end();
    while (!this.#ended && this.#error === null) await this.#change();
    if (this.#error !== null) throw this.#error;
    return this.#confirmed;
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
