import type { DescMethod, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { Client } from '@grpc/grpc-js';
import { Client as Postgres } from 'pg';
import { call } from '../../bench/client/service-client.ts';
import { startBroker, type BrokerProcess } from '../../bench/support/broker-process.ts';
import { freePort } from '../../bench/support/free-port.ts';
import { waitFor } from '../../bench/support/timing.ts';
import { CuttingProxy } from '../support/cutting-proxy.ts';
import { createMigratedDatabase, type TestDatabase } from '../support/database.ts';
import { whyNotReady } from './brokers.ts';
import { connectImpatiently, inTime } from './clients.ts';

/** What can happen to the broker that owns the database. */
export const faults = ['SIGKILL', 'SIGTERM', 'SIGSTOP', 'cut off'] as const;
export type Fault = (typeof faults)[number];

interface Ports {
  readonly grpcPort: number;
  readonly httpPort: number;
}

/**
 * One place where a broker runs: its ports and its way to the database stay the same, its processes
 * come and go.
 */
export class Seat {
  broker!: BrokerProcess;
  /** Of the process that is there now. */
  brokerId = '';
  readonly #client: Client;
  readonly #name: string;
  readonly #databaseUrl: string;
  readonly #ports: Ports;
  #proxy: CuttingProxy;
  #processes = 0;

  private constructor(name: string, databaseUrl: string, proxy: CuttingProxy, ports: Ports) {
    this.#name = name;
    this.#databaseUrl = databaseUrl;
    this.#proxy = proxy;
    this.#ports = ports;
    this.#client = connectImpatiently(this.address);
  }

  static async open(name: string, databaseUrl: string): Promise<Seat> {
    const ports = { grpcPort: await freePort(), httpPort: await freePort() };
    return new Seat(name, databaseUrl, await CuttingProxy.open(databaseUrl), ports);
  }

  get address(): string {
    return `127.0.0.1:${this.#ports.grpcPort}`;
  }

  /**
   * Starts a process under a name of its own, so that what it writes can be told from what others
   * do.
   */
  async start(until: 'ready' | 'alive', nodeFlags: readonly string[] = []): Promise<void> {
    this.brokerId = `${this.#name}-${++this.#processes}`;
    const flags = ['--broker-id', this.brokerId];
    this.broker = await startBroker({ databaseUrl: this.#proxy.url, ...this.#ports, flags, until, nodeFlags });
  }

  async standBy(nodeFlags: readonly string[] = []): Promise<void> {
    await this.start('alive', nodeFlags);
    const standsBy = async (): Promise<boolean> => (await whyNotReady(this.broker)).includes('standing by');
    await waitFor(`${this.brokerId} to stand by`, 20_000, 5, standsBy);
  }

  /** @returns what undoes it as far as it can be undone; the process ends then, if it has not. */
  async strike(fault: Fault): Promise<() => Promise<void>> {
    if (fault !== 'cut off') this.broker.kill(fault);
    else await this.#proxy.close();
    return async () => {
      if (fault === 'SIGSTOP') this.broker.kill('SIGCONT');
      if (fault === 'cut off') {
        this.#proxy = await CuttingProxy.open(this.#databaseUrl, Number(new URL(this.#proxy.url).port));
      }
    };
  }

  call<M extends DescMethod>(method: M, request: MessageInitShape<M['input']>): Promise<MessageShape<M['output']>> {
    return call(this.#client, method, request, inTime());
  }

  async close(): Promise<void> {
    this.#client.close();
    if (this.broker !== undefined) {
      this.broker.kill('SIGCONT');
      this.broker.kill('SIGKILL');
      await this.broker.exited;
    }
    await this.#proxy.close();
  }
}

/** Two seats on one database: one broker owns it, the other stands by. */
export class Fleet {
  readonly database: TestDatabase;
  readonly postgres: Postgres;
  readonly #seats: [Seat, Seat];

  private constructor(database: TestDatabase, postgres: Postgres, seats: [Seat, Seat]) {
    this.database = database;
    this.postgres = postgres;
    this.#seats = seats;
  }

  /** `nodeFlags`: of the first process of each seat. */
  static async open(nodeFlags: readonly [readonly string[], readonly string[]] = [[], []]): Promise<Fleet> {
    const database = await createMigratedDatabase();
    const postgres = new Postgres({ connectionString: database.url });
    await postgres.connect();
    const fleet = new Fleet(database, postgres, [
      await Seat.open('a', database.url),
      await Seat.open('b', database.url),
    ]);
    try {
      await fleet.active.start('ready', nodeFlags[0]);
      await fleet.standby.standBy(nodeFlags[1]);
      await fleet.#audit();
    } catch (error) {
      await fleet.close();
      throw error;
    }
    return fleet;
  }

  get active(): Seat {
    return this.#seats[0];
  }

  get standby(): Seat {
    return this.#seats[1];
  }

  get addresses(): string[] {
    return this.#seats.map(({ address }) => address);
  }

  /** The standby has taken over. */
  swap(): void {
    this.#seats.reverse();
  }

  /** How many rows the process has inserted, changed and deleted in committed transactions. */
  async rowsWrittenBy(brokerId: string): Promise<number> {
    const { rows } = await this.postgres.query<{ rows: number }>(
      'SELECT count(*)::int AS rows FROM public.audit WHERE starts_with(session, $1)',
      [`millrace/${brokerId}/`],
    );
    return rows[0]!.rows;
  }

  async close(): Promise<void> {
    await this.postgres.end();
    for (const seat of this.#seats) await seat.close();
    await this.database.drop();
  }

  /** From now on the database notes, in the transaction of each write, whose session it is. */
  async #audit(): Promise<void> {
    await this.postgres.query(`
      CREATE TABLE public.audit (session text NOT NULL, of text NOT NULL);
      CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO public.audit VALUES (current_setting('application_name'), TG_TABLE_NAME);
        RETURN NULL;
      END $$`);
    for (const table of auditedTables) {
      await this.postgres.query(
        `CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON millrace.${table}
           FOR EACH ROW EXECUTE FUNCTION public.audit()`,
      );
    }
  }
}

/** Everything that an owner writes but the fence, and the keys that go with record batches. */
const auditedTables = [
  'broker_lease',
  'topics',
  'partitions',
  'segments',
  'record_batches',
  'consumer_groups',
  'group_members',
  'group_assignments',
  'group_rebalances',
  'subscriptions',
  'cursors',
  'ack_log_0',
  'ack_log_1',
  'ack_log_2',
];
