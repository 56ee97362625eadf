import { expect, test } from 'vitest';
import type { DatabaseNumbers } from '../../src/metrics/database-numbers.ts';
import { LatencyHistogram } from '../../src/metrics/latency-histogram.ts';
import { textOf } from '../../src/metrics/text.ts';
import { BrokerNumbers } from '../../src/server/numbers.ts';
import { FakeClock } from '../support/fake-clock.ts';

const numbers = (walBytes: number): DatabaseNumbers => ({
  walBytes,
  bytes: 8_192,
  holder: { transactions: 7, seconds: null, pid: 12, application: 'psql' },
  tables: [{ table: 'cursors', deadTuples: 3, bytes: 16_384, bloatBytes: null }],
});

const detail = { topics: () => [], subscriptions: () => [], appendAges: () => Promise.resolve([]) };

/** A broker whose database answers when the test lets it. */
class NumbersScene {
  readonly clock = new FakeClock();
  readonly reads: PromiseWithResolvers<DatabaseNumbers>[] = [];
  isOpen = true;
  readonly #numbers: BrokerNumbers;

  constructor() {
    const times = { publish: new LatencyHistogram(), ack: new LatencyHistogram(), commit: new LatencyHistogram() };
    this.#numbers = new BrokerNumbers({
      open: () => (this.isOpen ? { times, detail } : null),
      store: () => ({ read: () => this.#read() }),
      freeBytes: (bytes) => Promise.resolve(1_000_000 - bytes),
      clock: this.clock,
    });
  }

  async scrape(): Promise<string> {
    return textOf(await this.#numbers.families());
  }

  #read(): Promise<DatabaseNumbers> {
    this.reads.push(Promise.withResolvers());
    return this.reads.at(-1)!.promise;
  }
}

test('scrapes within 15 s share one reading of the database', async () => {
  const scene = new NumbersScene();
  const first = scene.scrape();
  scene.reads[0]!.resolve(numbers(100));
  expect(await first).toContain('millrace_database_wal_bytes_total 100\n');
  await scene.clock.advance(14_000);
  expect(await scene.scrape()).toContain('millrace_database_wal_bytes_total 100\n');
  expect(scene.reads).toHaveLength(1);
  await scene.clock.advance(1_000);
  const later = scene.scrape();
  scene.reads[1]!.resolve(numbers(200));
  expect(await later).toContain('millrace_database_wal_bytes_total 200\n');
});

test('a scrape waits at most 1 s for the database, and then shows the last numbers until they are stale', async () => {
  const scene = new NumbersScene();
  const first = scene.scrape();
  scene.reads[0]!.resolve(numbers(100));
  await first;
  await scene.clock.advance(20_000);
  const slow = scene.scrape();
  await scene.clock.advance(1_000);
  expect(await slow).toContain('millrace_database_wal_bytes_total 100\n');
  await scene.clock.advance(60_000);
  const stale = scene.scrape();
  await scene.clock.advance(1_000);
  expect(await stale).not.toMatch(/^millrace_database_wal_bytes_total /m);
  expect(scene.reads).toHaveLength(2);
});

test('a failed reading is not repeated for 15 s', async () => {
  const scene = new NumbersScene();
  const first = scene.scrape();
  scene.reads[0]!.reject(new Error('the database is away'));
  expect(await first).not.toMatch(/^millrace_database_bytes /m);
  await scene.scrape();
  expect(scene.reads).toHaveLength(1);
});

test('a standby reads nothing, and shows histograms of zeros', async () => {
  const scene = new NumbersScene();
  scene.isOpen = false;
  const text = await scene.scrape();
  expect(text).toContain('millrace_publish_seconds_count 0\n');
  expect(text).not.toMatch(/^millrace_database_bytes /m);
  expect(scene.reads).toHaveLength(0);
});

test('the holder of the oldest snapshot is named, also if its age in seconds is not visible', async () => {
  const scene = new NumbersScene();
  const first = scene.scrape();
  scene.reads[0]!.resolve(numbers(100));
  const text = await first;
  expect(text).toContain('millrace_database_held_transactions 7\n');
  expect(text).toContain('millrace_database_held_seconds{pid="12",application="psql"} NaN\n');
  expect(text).toContain('millrace_database_disk_free_bytes 991808\n');
  expect(text).toContain('millrace_database_dead_tuples{table="cursors"} 3\n');
  expect(text).not.toMatch(/^millrace_database_bloat_bytes\{/m);
});
