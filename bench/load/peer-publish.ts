import type pg from 'pg';
import { Histogram } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import type { LoadProgram } from '../support/load-process.ts';
import { connectPeer, publishStatement } from '../support/bare/peer-queue.ts';
import { randomValues } from '../support/random.ts';
import { monotonicUs } from '../support/timing.ts';
import type { PublishResult } from './publish.ts';

/**
 * A load process that inserts into the peer queue: one statement a batch, one connection a batch in
 * flight.
 */
export interface PeerPublishSpec {
  readonly databaseUrl: string;
  readonly inFlight: number;
  readonly batch: number;
  readonly valueBytes: number;
  readonly groups: number;
  readonly seed: number;
}

class PeerPublishLoad implements LoadProgram<PublishResult> {
  readonly #spec: PeerPublishSpec;
  readonly #connections: readonly pg.Client[];
  readonly #payloads: string[];
  readonly #latency = new Histogram();
  #next = 0;
  #messages = 0;
  #messagesInAll = 0;
  #sent = 0;
  #allowed = 0;
  #parked: (() => void)[] = [];
  #markedAtMs = performance.now();
  #stopping = false;
  #working: Promise<void>[] = [];

  constructor(spec: PeerPublishSpec, connections: readonly pg.Client[]) {
    this.#spec = spec;
    this.#connections = connections;
    // Payloads are text, in favour of the peer, because pg reads bytea as hex at half the speed.
    this.#payloads = randomValues(spec.seed, 512, spec.valueBytes).map((value) =>
      value.toString('base64url').slice(0, spec.valueBytes),
    );
  }

  start(): void {
    this.#working = this.#connections.map((connection) => this.#work(connection));
  }

  async #work(connection: pg.Client): Promise<void> {
    while (!this.#stopping) {
      if (this.#sent + this.#spec.batch > this.#allowed) {
        await new Promise<void>((resolve) => this.#parked.push(resolve));
        continue;
      }
      this.#sent += this.#spec.batch;
      const startUs = monotonicUs();
      await connection.query({ name: 'publish', text: publishStatement, values: [this.#take(), this.#spec.groups] });
      this.#latency.record(monotonicUs() - startUs);
      this.#messages += this.#spec.batch;
      this.#messagesInAll += this.#spec.batch;
    }
  }

  #take(): string[] {
    return Array.from({ length: this.#spec.batch }, () => {
      this.#next = (this.#next + 1) % this.#payloads.length;
      return this.#payloads[this.#next]!;
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
      errors: 0,
      elapsedMs: performance.now() - this.#markedAtMs,
      latency: this.#latency.toData(),
    };
  }

  allow(messages: number): void {
    this.#allowed = messages;
    const parked = this.#parked;
    this.#parked = [];
    for (const resume of parked) resume();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.allow(this.#allowed);
    await Promise.all(this.#working);
    await Promise.all(this.#connections.map((connection) => connection.end()));
  }
}

runLoad<PeerPublishSpec, PublishResult>(async (spec) => {
  const connections = await Promise.all(Array.from({ length: spec.inFlight }, () => connectPeer(spec.databaseUrl)));
  return new PeerPublishLoad(spec, connections);
});
