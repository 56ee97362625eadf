import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import type { Trouble } from '../../errors/trouble.ts';
import type { WriteTrouble } from '../../errors/write-trouble.ts';
import { Mutex } from '../../time/mutex.ts';
import { answered, type AnswerLimit } from '../pg/answered.ts';
import { endsConnection, faultOf, faultOfConnecting } from '../pg/faults.ts';
import { hasUnreplicatedCommit, identityOf, openSession, type SessionOptions } from './session.ts';

export interface ConnectionOptions extends SessionOptions {
  /** The connection cuts itself when work has no answer within this limit. */
  readonly answer?: AnswerLimit;
  /** Logs when work begins to fail, and when it succeeds again. */
  readonly trouble?: Trouble;
  /** Notes that the database takes no writes. */
  readonly writes?: WriteTrouble;
}

/** A writer must not wait for ever for a lock, or hold one for ever when its broker hangs. */
export const writerSettings = { lock_timeout: '10s', idle_in_transaction_session_timeout: '10s' };

/**
 * For sessions that find all their rows by key. A plan from the time when a table was small scans
 * the table for each row, and stays in use after the table has grown, until the next ANALYZE.
 */
export const keyedSettings = { ...writerSettings, enable_seqscan: 'off' };

/**
 * When a broker hangs while it sends an append, the server waits in a transaction that is not idle.
 * Before PostgreSQL 17, which has `transaction_timeout`, only the takeover by another broker ends
 * it.
 */
export const appendSettings = { ...writerSettings, transaction_timeout: '30s' };

/**
 * One connection to the database, for one purpose. It connects for its first work, and again after
 * a loss. It runs one piece of work at a time.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  #client: Client | null = null;
  readonly #work = new Mutex();
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    options.server?.onMoved(() => {
      this.#leaveOther();
    });
  }

  /** How much work runs or waits. */
  get load(): number {
    return this.#work.load;
  }

  /** Runs `work` after the work before it. @throws Fault; a bug is thrown unchanged. */
  run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    return this.#work.take(() => this.#run(work));
  }

  /** Ends the connection after all work that runs or waits. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#work.ended();
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => undefined);
    this.#options.trouble?.drop();
  }

  /** Ends an idle session. The next work opens another one. */
  rest(): void {
    if (this.load === 0) this.#abandon();
  }

  /** Ends the session at once, even while work runs. The next work opens another one. */
  leave(): void {
    this.#abandon();
  }

  /** Ends the connection at once, even while work runs. */
  destroy(): void {
    this.#closed = true;
    this.#abandon();
  }

  #abandon(): void {
    const client = this.#client;
    this.#client = null;
    void client?.end().catch(() => undefined);
  }

  /** Ends the session if the session of the lease has moved to another server. */
  #leaveOther(): void {
    const client = this.#client;
    if (client !== null && !(this.#options.server?.admits(identityOf(client).server) ?? true)) this.#abandon();
  }

  async #run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    try {
      const client = await this.#connected();
      const { answer } = this.#options;
      const result = await (answer === undefined ? work(client) : answered(client, answer, work));
      if (hasUnreplicatedCommit(client)) throw this.#unreplicated();
      this.#options.trouble?.worked();
      return result;
    } catch (error) {
      // The server sends this error before it ends the connection, so the next work must not reuse
      // it.
      if (endsConnection(error)) this.#abandon();
      const fault = faultOf(error, false);
      this.#tell(fault);
      throw fault;
    }
  }

  /** A commit without its replica is lost with its machine, so no answer may call it durable. */
  #unreplicated(): Fault {
    this.#abandon();
    return new Fault('OUTCOME_UNKNOWN', 'the wait of a commit for its synchronous replica was cancelled');
  }

  #tell(error: Error): void {
    this.#options.writes?.noticed(error);
    // The log reports trouble with the database, and neither a takeover nor a close is trouble.
    if (error instanceof Fault && error.kind !== 'FENCED' && !this.#closed) this.#options.trouble?.failed(error);
  }

  async #connected(): Promise<Client> {
    if (this.#closed) throw new Fault('DATABASE_UNAVAILABLE', 'the connection is closed');
    if (this.#client !== null) return this.#client;
    // The callback drops an ended session, so that the next work connects again.
    try {
      this.#client = await openSession(this.#options, (ended) => {
        if (this.#client === ended) this.#client = null;
      });
      return this.#client;
    } catch (error) {
      throw faultOfConnecting(error);
    }
  }
}
