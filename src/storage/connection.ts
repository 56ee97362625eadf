import { Client, type Connection as Wire } from 'pg';
import { Fault } from '../errors/fault.ts';
import type { Clock } from '../time/clock.ts';
import type { Trouble } from '../errors/trouble.ts';
import { endsConnection, faultOf, faultOfConnecting } from './faults.ts';

const connectTimeoutMs = 5_000;

type Settings = Readonly<Record<string, string>>;

export interface AnswerLimit {
  readonly withinMs: number;
  readonly clock: Clock;
}

export interface ConnectionOptions {
  readonly connectionString: string;
  /** `millrace/<broker id>/<purpose>`: a successor ends its predecessor's backends by this name. */
  readonly applicationName: string;
  /** More settings of the session. */
  readonly settings?: Settings;
  /** Work that has no answer by then is given up, and the connection with it. */
  readonly answer?: AnswerLimit;
  /** Told what becomes of the work, for the log. */
  readonly trouble?: Trouble;
}

/** What every session relies on, whatever the server's defaults are. */
const sessionSettings = {
  default_transaction_isolation: 'read committed',
  search_path: 'pg_catalog',
  jit: 'off',
  // Every query here is a look-up by a whole key or a prefix of one: one plan serves all parameters.
  plan_cache_mode: 'force_generic_plan',
  TimeZone: 'UTC',
};

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

/** Settings that older servers do not know, and do without. */
const newerSettings = ['transaction_timeout'];

/**
 * One connection to the database, for one purpose. It connects when it is first needed, and again when it was lost; work is done
 * one after the other.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  #client: Client | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  /** Work that is under way or waits for it. */
  get load(): number {
    return this.#waiting;
  }

  /** Runs `work` once the work before it is done. @throws Fault; or what is no fault, as it is. */
  run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    this.#waiting++;
    const result = this.#last.then(() => this.#run(work));
    this.#last = result.then(
      () => undefined,
      () => undefined,
    );
    return result.finally(() => {
      this.#waiting--;
    });
  }

  /** Ends the connection after the work that is under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#last;
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

  async #run<T>(work: (client: Client) => Promise<T>): Promise<T> {
    try {
      const client = await this.#connected();
      const { answer } = this.#options;
      const result = await (answer === undefined ? work(client) : answered(client, answer, work));
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

  #tell(error: Error): void {
    // That another broker has taken over is no trouble with the database, and after the close nothing is.
    if (error instanceof Fault && error.kind !== 'FENCED' && !this.#closed) this.#options.trouble?.failed(error);
  }

  async #connected(): Promise<Client> {
    if (this.#closed) throw new Fault('DATABASE_UNAVAILABLE', 'the connection is closed');
    if (this.#client !== null) return this.#client;
    // Forgotten when it ends, so that the next work connects anew.
    try {
      this.#client = await connect(this.#options, (ended) => {
        if (this.#client === ended) this.#client = null;
      });
      return this.#client;
    } catch (error) {
      throw faultOfConnecting(error);
    }
  }
}

/**
 * Does `work`, and cuts the connection if that takes longer: for a database that is silent and not gone, because its machine hangs or
 * the network loses everything. TCP alone notices that after a quarter of an hour.
 */
export async function answered<T>(
  client: Client,
  limit: AnswerLimit,
  work: (client: Client) => Promise<T>,
): Promise<T> {
  const { connection } = client as unknown as { readonly connection: Wire };
  const cancel = limit.clock.after(limit.withinMs, () => {
    connection.stream.destroy(new Error(`Connection terminated: no answer for ${limit.withinMs} ms`));
  });
  try {
    return await work(client);
  } finally {
    cancel();
  }
}

/** Opens one session with all its settings. `onEnd` is called, maybe more than once, when it has ended for whatever reason. */
export async function connect(options: ConnectionOptions, onEnd: (client: Client) => void): Promise<Client> {
  const { connectionString, applicationName, settings = {} } = options;
  const client = new Client({
    connectionString,
    application_name: applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    keepAlive: true,
    options: asOptions({ ...sessionSettings, ...only(settings, (name) => !newerSettings.includes(name)) }),
  });
  // An idle client whose server goes away emits `error`; without a listener that would end the process.
  const ended = (): void => {
    onEnd(client);
  };
  client.on('error', ended);
  client.on('end', ended);
  await client.connect();
  await adjust(
    client,
    only(settings, (name) => newerSettings.includes(name)),
  );
  return client;
}

/** Settings that depend on the server. A commit that is confirmed must be on disk; stronger ones (remote_apply, say) stay. */
async function adjust(client: Client, ifKnown: Settings): Promise<void> {
  await client.query(
    `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')
     UNION ALL
     SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS newer (name, value)
      WHERE current_setting(name, true) IS NOT NULL`,
    [Object.keys(ifKnown), Object.values(ifKnown)],
  );
}

function only(settings: Settings, wanted: (name: string) => boolean): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([name]) => wanted(name)));
}

function asOptions(settings: Settings): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replaceAll(/([\\ ])/g, '\\$1')}`)
    .join(' ');
}
