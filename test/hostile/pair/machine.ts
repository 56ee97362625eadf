import { readFileSync } from 'node:fs';
import { Pool } from 'pg';

export interface MachineOptions {
  readonly brokerPid: number;
  readonly databaseUrl: string;
}

/**
 * What the machine takes of the time of a call, whatever the broker does: the time in which this
 * process or the main thread of the broker could run and got no processor, and a commit at the same
 * time. A machine with many other programs is slow in all three, and a broker that stands in none.
 */
export class Machine {
  readonly #runQueues: readonly string[];
  readonly #database: Pool;

  constructor({ brokerPid, databaseUrl }: MachineOptions) {
    this.#runQueues = [`/proc/${brokerPid}/schedstat`, '/proc/self/schedstat'];
    this.#database = new Pool({ connectionString: databaseUrl, max: 4 });
  }

  /** Begins a measurement. The result ends it, and resolves to milliseconds. */
  watch(): () => Promise<number> {
    const queuedBefore = this.#queuedMs();
    const committed = this.#commitMs();
    return async () => {
      const queuedMs = this.#queuedMs() - queuedBefore;
      return queuedMs + (await committed);
    };
  }

  async close(): Promise<void> {
    await this.#database.end();
  }

  /** A small record of WAL that goes to the disk, as that of a small call does. */
  async #commitMs(): Promise<number> {
    const startedMs = performance.now();
    await this.#database.query(`SELECT pg_logical_emit_message(true, 'pair', 'commit')`);
    return performance.now() - startedMs;
  }

  /** Nanoseconds that a thread has waited are the second number of its file. */
  #queuedMs(): number {
    const waited = this.#runQueues.map((path) => Number(readFileSync(path, 'utf8').split(' ')[1]));
    return waited.reduce((sum, ns) => sum + ns, 0) / 1_000_000;
  }
}
