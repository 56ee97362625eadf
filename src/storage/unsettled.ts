import type { Client } from 'pg';
import { Fault } from '../errors/fault.ts';

/** Longer together than any commit takes in a database that works. */
const triesMax = 500;
const pauseSeconds = 0.01;

/**
 * Sessions of the server that were given an append and whose answer was lost. Such an append may still be on its way: carried out
 * later it would stand beside its repetition with the same idempotency key, and behind the end of the log that was read
 * meanwhile. So the sessions are ended before that is read; then what they did is done, and what they did not is not.
 */
export class UnsettledSessions {
  readonly #applicationName: string;
  readonly #pids = new Set<number>();

  /** `applicationName`: what the names of the append sessions begin with. Ids are used again, and not only by us. */
  constructor(applicationName: string) {
    this.#applicationName = applicationName;
  }

  add(client: Client): void {
    const { processID } = client as unknown as { processID: number | null };
    if (processID !== null) this.#pids.add(processID);
  }

  /** Resolves when they are gone. Not in a transaction, which would see the sessions as they were at first. @throws Fault */
  async end(client: Client): Promise<void> {
    if (this.#pids.size === 0) return;
    const pids = [...this.#pids];
    for (let tries = 0; await this.#terminate(client, pids); tries++) {
      if (tries === triesMax) {
        throw new Fault('DATABASE_UNAVAILABLE', 'a session of the database that was given an append does not end');
      }
    }
    for (const pid of pids) this.#pids.delete(pid);
  }

  /** @returns whether one was still there. Only the list says so: to end one that is going already fails like one that stays. */
  async #terminate(client: Client, pids: readonly number[]): Promise<boolean> {
    const { rowCount } = await client.query(
      `SELECT pg_terminate_backend(pid), pg_sleep($3) FROM pg_stat_activity
        WHERE pid = ANY ($1) AND starts_with(application_name, $2) AND datname = current_database()`,
      [pids, this.#applicationName, pauseSeconds],
    );
    return rowCount !== 0;
  }
}
