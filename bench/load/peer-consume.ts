import type pg from 'pg';
import { Histogram } from '../support/histogram.ts';
import { runLoad } from '../support/load-process.ts';
import type { LoadProgram } from '../support/load-process.ts';
import { claimStatement, connectPeer } from '../support/bare/peer-queue.ts';
import { delay, monotonicUs } from '../support/timing.ts';
import type { ConsumeResult } from './consume.ts';

/**
 * A load process that consumes the peer queue: some groups with consumers, each with its own
 * connection.
 */
export interface PeerConsumeSpec {
  readonly databaseUrl: string;
  readonly groups: readonly number[];
  readonly consumersPerGroup: number;
  readonly batch: number;
}

const progressEveryMs = 5;
const emptyQueueWaitMs = 2;

class PeerConsumeLoad implements LoadProgram<ConsumeResult> {
  readonly #spec: PeerConsumeSpec;
  readonly #connections: readonly pg.Client[];
  readonly #progress: (messages: number) => void;
  readonly #doneOfGroup: number[];
  readonly #ackLatency = new Histogram();
  #delivered = 0;
  #acked = 0;
  #acks = 0;
  #markedAtMs = performance.now();
  #stopping = false;
  #working: Promise<void>[] = [];
  #ticking: NodeJS.Timeout | null = null;

  constructor(spec: PeerConsumeSpec, connections: readonly pg.Client[], progress: (messages: number) => void) {
    this.#spec = spec;
    this.#connections = connections;
    this.#progress = progress;
    this.#doneOfGroup = spec.groups.map(() => 0);
  }

  start(): void {
    this.#working = this.#connections.map((connection, i) => this.#work(connection, i % this.#spec.groups.length));
    this.#ticking = setInterval(() => {
      this.#progress(Math.min(...this.#doneOfGroup));
    }, progressEveryMs);
  }

  /** Claims in a loop. The commit of a claim is sent together with the next claim. */
  async #work(connection: pg.Client, index: number): Promise<void> {
    const values = [this.#spec.groups[index]!, this.#spec.batch];
    while (!this.#stopping) {
      void connection.query('BEGIN');
      const { rows } = await connection.query({ name: 'claim', text: claimStatement, values });
      this.#delivered += rows.length;
      const startUs = monotonicUs();
      const committed = connection.query('COMMIT').then(() => {
        this.#settle(index, rows.length, monotonicUs() - startUs);
      });
      if (rows.length === 0) {
        await committed;
        await delay(emptyQueueWaitMs);
      } else void committed;
    }
    await connection.query('SELECT 1');
  }

  #settle(index: number, messages: number, latencyUs: number): void {
    if (messages === 0) return;
    this.#acked += messages;
    this.#acks++;
    this.#doneOfGroup[index] = this.#doneOfGroup[index]! + messages;
    this.#ackLatency.record(latencyUs);
  }

  mark(): void {
    this.#ackLatency.reset();
    this.#delivered = 0;
    this.#acked = 0;
    this.#acks = 0;
    this.#markedAtMs = performance.now();
  }

  collect(): ConsumeResult {
    return {
      delivered: this.#delivered,
      acked: this.#acked,
      acks: this.#acks,
      elapsedMs: performance.now() - this.#markedAtMs,
      endToEnd: new Histogram().toData(),
      ackLatency: this.#ackLatency.toData(),
    };
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#working);
    if (this.#ticking !== null) clearInterval(this.#ticking);
    await Promise.all(this.#connections.map((connection) => connection.end()));
  }
}

runLoad<PeerConsumeSpec, ConsumeResult>(async (spec, progress) => {
  const count = spec.groups.length * spec.consumersPerGroup;
  const connections = await Promise.all(Array.from({ length: count }, () => connectPeer(spec.databaseUrl)));
  return new PeerConsumeLoad(spec, connections, progress);
});
