import { openRawStore } from '../support/bare/raw-store.ts';
import type { RawStore } from '../support/bare/raw-store.ts';
import { RawLog, recordSetOf } from '../support/bare/raw-log.ts';
import { Histogram } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import type { LoadProgram } from '../support/load-process.ts';
import { randomValues } from '../support/random.ts';
import { monotonicUs, startSchedule } from '../support/timing.ts';
import type { RecordSet } from '../../src/log/batch.ts';
import type { PublishResult } from './publish.ts';

/** A load process that appends directly to the storage layer, without gRPC and a broker. */
export interface RawAppendSpec {
  readonly databaseUrl: string;
  readonly partitions: number;
  /** Batches in flight (closed loop). */
  readonly inFlight: number;
  readonly batch: number;
  readonly valueBytes: number;
  /** Batches a second (open loop); null: closed loop. */
  readonly requestsPerSecond: number | null;
  readonly seed: number;
}

class RawAppendLoad implements LoadProgram<PublishResult> {
  readonly #spec: RawAppendSpec;
  readonly #store: RawStore;
  readonly #log: RawLog;
  readonly #sets: RecordSet[];
  readonly #latency = new Histogram();
  #next = 0;
  #messages = 0;
  #messagesInAll = 0;
  #errors = 0;
  #markedAtMs = performance.now();
  #inFlight = 0;
  #stopping = false;
  #endSchedule: (() => void) | null = null;
  #idle: (() => void) | null = null;

  constructor(spec: RawAppendSpec, store: RawStore) {
    this.#spec = spec;
    this.#store = store;
    this.#log = new RawLog(store.commits, store.topic);
    const values = randomValues(spec.seed, spec.batch * 4, spec.valueBytes);
    this.#sets = [0, 1, 2, 3].map((i) => recordSetOf(values.slice(i * spec.batch, (i + 1) * spec.batch)));
  }

  start(): void {
    const { requestsPerSecond, inFlight } = this.#spec;
    if (requestsPerSecond !== null) {
      this.#endSchedule = startSchedule(requestsPerSecond, (dueUs) => {
        this.#append(dueUs, null);
      });
      return;
    }
    const again = (): void => {
      if (!this.#stopping) this.#append(monotonicUs(), again);
    };
    for (let i = 0; i < inFlight; i++) again();
  }

  #append(startUs: number, then: (() => void) | null): void {
    this.#inFlight++;
    this.#next = (this.#next + 1) % this.#sets.length;
    this.#log.append(this.#sets[this.#next]!, (error) => {
      this.#inFlight--;
      if (error === null) {
        this.#messages += this.#spec.batch;
        this.#messagesInAll += this.#spec.batch;
        this.#latency.record(monotonicUs() - startUs);
      } else {
        this.#errors++;
        if (this.#errors > 100) throw error;
      }
      then?.();
      if (this.#inFlight === 0) this.#idle?.();
    });
  }

  mark(): void {
    this.#latency.reset();
    this.#messages = 0;
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

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#endSchedule?.();
    if (this.#inFlight > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    await this.#store.close();
  }
}

runLoad<RawAppendSpec, PublishResult>(async (spec) => {
  const store = await openRawStore(spec.databaseUrl, spec.partitions);
  return new RawAppendLoad(spec, store);
});
