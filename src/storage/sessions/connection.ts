import type { Client } from 'pg';
import { Fault } from '../../errors/fault.ts';
import type { Trouble } from '../../errors/trouble.ts';
import { Mutex } from '../../time/mutex.ts';
import { answered, type AnswerLimit } from '../pg/answered.ts';
import { endsConnection, faultOf, faultOfConnecting } from '../pg/faults.ts';
import { hasUnreplicatedCommit, identityOf, openSession, type SessionOptions } from './session.ts';

export interface ConnectionOptions extends SessionOptions {
  /** Work that has no answer by then is given up, and the connection with it. */
  readonly answer?: AnswerLimit;
  /** Told what becomes of the work, for the log. */
  readonly trouble?: Trouble;
}

/** Writers must not wait for ever behind somebody's lock, nor hold one for ever when their broker hangs. */
export const writerSettings = { lock_timeout: '10s', idle_in_transaction_session_timeout: '10s' };

/**
 * For sessions that find all their rows by keys. A plan that was made while a table was small reads all of it for each row, and is kept when the table has
 * grown, until it is analyzed.
 */
export const keyedSettings = { ...writerSettings, enable_seqscan: 'off' };

/**
 * A broker that hangs while it sends an append leaves the server in a transaction that is not idle, but waits for the rest of it. Before
 * PostgreSQL 17 only a broker that takes over ends that.
 */
export const appendSettings = { ...writerSettings, transaction_timeout: '30s' };

/**
 * One connection to the database, for one purpose. It connects when it is first needed, and again when it was lost; work is done
 * one after the other.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  #client: Client | null = null;
  readonly #work = new Mutex();
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    options.server?.onMoved(() => {
      this.#leave();
    });
  }

  /** Work that is under way or waits for it. */
  get load(): number {
    return this.#work.load;
  }

  /** Runs `work` once the work before it is done. @throws Fault; or what is no fault, as it is. */
  run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    return this.#work.take(() => this.#run(work));
  }

  /** Ends the connection after the work that is under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#work.ended();
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => undefined);
  }

  /** Ends the connection now, in whatever it is doing. */
  destroy(): void {
    this.#closed = true;
    this.#abandon();
  }

  #abandon(): void {
    const client = this.#client;
    this.#client = null;
    void client?.end().catch(() => undefined);
  }

  /** The broker's sessions are on another server now. */
  #leave(): void {
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
      // The server says that it ends the connection before it does: the next work must not still find this one.
      if (endsConnection(error)) this.#abandon();
      const fault = faultOf(error, false);
      this.#tell(fault);
      throw fault;
    }
  }

  /** A commit that is on no replica yet is lost with its machine: nobody may be told that it is safe. */
  #unreplicated(): Fault {
    this.#abandon();
    return new Fault('OUTCOME_UNKNOWN', 'the wait of a commit for its synchronous replica was cancelled');
  }

  #tell(error: Error): void {
    // That another broker has taken over is no trouble with the database, and after the close nothing is.
    if (error instanceof Fault && error.kind !== 'FENCED' && !this.#closed) this.#options.trouble?.failed(error);
  }

  async #connected(): Promise<Client> {
    if (this.#closed) throw new Fault('DATABASE_UNAVAILABLE', 'the connection is closed');
    if (this.#client !== null) return this.#client;
    // Forgotten when it ends, so that the next work connects anew.
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
