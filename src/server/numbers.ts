import type { OpenBroker } from '../broker/opening.ts';
import { databaseFamilies, type DatabaseNumbers, type NumbersStore } from '../metrics/database-numbers.ts';
import type { DetailRequest } from '../metrics/detail.ts';
import { single, type Family } from '../metrics/family.ts';
import { LatencyHistogram } from '../metrics/latency-histogram.ts';
import type { Clock } from '../time/clock.ts';
import { Mutex } from '../time/mutex.ts';
import { Once } from '../time/once.ts';
import { within } from '../time/within.ts';
import { detail } from './detail.ts';

interface BrokerNumbersDeps {
  /** Null while this process stands by. */
  readonly open: () => Pick<OpenBroker, 'times' | 'detail'> | null;
  readonly store: () => NumbersStore | null;
  /** How many bytes the database may grow; null if that is not known. */
  readonly freeBytes: (databaseBytes: number) => Promise<number | null>;
  readonly clock: Clock;
}

/** The numbers of the database are read this often at most, however often anybody asks. */
const readIntervalMs = 15_000;
/** A scrape waits this long for them, and then shows the last ones. */
const waitMsMax = 1_000;
/** Older numbers are not shown. */
const staleMs = 60_000;

/** What /metrics shows beside the sums: durations, and the numbers of the database. */
export class BrokerNumbers {
  readonly #d: BrokerNumbersDeps;
  /** One scrape visits the groups at a time. */
  readonly #details = new Mutex();
  readonly #lookups = new Once<'ages', void>();
  readonly #reading = new Once<'database', void>();
  #last: { readonly atMs: number; readonly numbers: DatabaseNumbers; readonly freeBytes: number | null } | null = null;
  #triedAtMs = -Infinity;

  constructor(deps: BrokerNumbersDeps) {
    this.#d = deps;
  }

  async families(): Promise<Family[]> {
    const open = this.#d.open();
    if (open !== null) await this.#refresh();
    const isFresh = this.#last !== null && this.#d.clock.nowMs() - this.#last.atMs < staleMs;
    const last = open !== null && isFresh ? this.#last : null;
    return [
      ...timeFamilies(open?.times ?? null),
      ...databaseFamilies(last?.numbers ?? null),
      single(
        'gauge',
        'millrace_database_disk_free_bytes',
        'How many bytes the database may grow.',
        last?.freeBytes ?? null,
      ),
    ];
  }

  detail(request: DetailRequest): Promise<Family[]> {
    return this.#details.take(async () => {
      const broker = this.#d.open();
      return broker === null ? [] : detail(request, { broker, lookups: this.#lookups, clock: this.#d.clock });
    });
  }

  async #refresh(): Promise<void> {
    const { clock } = this.#d;
    const store = this.#d.store();
    if (store === null) return;
    if (!this.#reading.has('database') && clock.nowMs() - this.#triedAtMs < readIntervalMs) return;
    await within(
      clock,
      waitMsMax,
      this.#reading.run('database', () => this.#read(store)),
    );
  }

  async #read(store: NumbersStore): Promise<void> {
    this.#triedAtMs = this.#d.clock.nowMs();
    try {
      const numbers = await store.read();
      const freeBytes = await this.#d.freeBytes(numbers.bytes).catch(() => null);
      this.#last = { atMs: this.#d.clock.nowMs(), numbers, freeBytes };
    } catch {
      // The log has trouble with the database already, and the last numbers become stale.
    }
  }
}

function timeFamilies(times: OpenBroker['times'] | null): Family[] {
  const family = (name: string, help: string, of: keyof OpenBroker['times']): Family =>
    LatencyHistogram.family(name, help, times?.[of] ?? null);
  return [
    family('millrace_publish_seconds', 'Publishes, from their arrival until they are durable.', 'publish'),
    family('millrace_ack_seconds', 'Acks, from their arrival until they are durable.', 'ack'),
    family('millrace_commit_seconds', 'Append transactions, until the answer of the database.', 'commit'),
  ];
}
