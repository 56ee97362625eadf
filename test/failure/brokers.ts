import { startBroker, type BrokerOptions, type BrokerProcess } from '../../bench/support/broker-process.ts';
import { waitFor } from '../../bench/support/timing.ts';
import { createMigratedDatabase, type TestDatabase } from '../support/database.ts';

/** Real broker processes on one database, all ended with it. */
export class Brokers {
  readonly database: TestDatabase;
  readonly #started: BrokerProcess[] = [];

  private constructor(database: TestDatabase) {
    this.database = database;
  }

  static async open(makeDatabase = createMigratedDatabase): Promise<Brokers> {
    return new Brokers(await makeDatabase());
  }

  /** One that serves. */
  async active(options: Partial<BrokerOptions> = {}): Promise<BrokerProcess> {
    return this.start({ ...options, until: 'ready' });
  }

  /** One that stands by. */
  async standby(options: Partial<BrokerOptions> = {}): Promise<BrokerProcess> {
    const broker = await this.start({ ...options, until: 'alive' });
    await waitFor('the broker to stand by', 20_000, 5, async () => (await whyNotReady(broker)).includes('standing by'));
    return broker;
  }

  async close(): Promise<void> {
    for (const broker of this.#started) {
      broker.kill('SIGCONT');
      broker.kill('SIGKILL');
      await broker.exited;
    }
    await this.database.drop();
  }

  async start(options: Partial<BrokerOptions>): Promise<BrokerProcess> {
    const broker = await startBroker({ databaseUrl: this.database.url, ...options });
    this.#started.push(broker);
    return broker;
  }
}

/** What /readyz says. */
export async function whyNotReady(broker: BrokerProcess): Promise<string> {
  const answer = await fetch(`${broker.httpUrl}/readyz`);
  return answer.text();
}

/** @returns how long it took until the broker served, in milliseconds. */
export async function untilReady(broker: BrokerProcess, timeoutMs = 20_000): Promise<number> {
  const startedMs = performance.now();
  await waitFor('the standby to serve', timeoutMs, 5, () => broker.ready());
  return performance.now() - startedMs;
}
