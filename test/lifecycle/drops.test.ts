import { afterEach, beforeEach, expect, test } from 'vitest';
import { Fault } from '../../src/errors/fault.ts';
import { Drops } from '../../src/lifecycle/drops.ts';
import type { BlockingSession, PlannedDrop, StoredDrop, TableFacts } from '../../src/lifecycle/store.ts';
import { FakeClock } from '../support/fake-clock.ts';

const lookMs = 5_000;
const reader: BlockingSession = { pid: 7, transactionAgeMs: 60_000, applicationName: 'psql', state: 'active' };

interface Table {
  readonly drop: PlannedDrop;
  attached: TableFacts['attached'];
  exists: boolean;
  /** Sessions that use the table itself, and those that use its parent. */
  readers: BlockingSession[];
  parentReaders: BlockingSession[];
  detaching: { waitsFor: 'PARENT' | 'TABLE' | null; sinceMs: number; end: () => void } | null;
}

/** A catalog in memory. A detach waits for readers of the parent, then for those of the table. */
class Catalog {
  readonly clock = new FakeClock();
  readonly tables: Table[] = [];
  readonly calls: string[] = [];
  readonly wants = new Set<number>();
  ended = false;
  fails: (call: string) => boolean = () => false;
  readonly drops = new Drops({
    clock: this.clock,
    log: { info: () => undefined, warn: () => undefined },
    wantsSegment: (topicId) => this.wants.has(topicId),
    store: {
      pendingDrops: () => this.#call('pendingDrops', () => this.tables.map(({ drop }) => drop)),
      table: (drop) => this.#call(`table ${drop.topicId}/${drop.segment}`, () => this.#facts(this.of(drop))),
      detach: (drop) => this.#detach(drop),
      cancelDetach: (pid) => this.#call(`cancel ${pid}`, () => this.#cancel(pid)),
      finalize: (drop, ms) =>
        this.#call(`finalize ${drop.topicId}/${drop.segment} ${ms}`, () => {
          const table = this.of(drop);
          if (table.readers.length + table.parentReaders.length === 0) table.attached = 'NO';
        }),
      drop: (drop, ms) =>
        this.#call(`drop ${drop.topicId}/${drop.segment} ${ms}`, () => {
          const table = this.of(drop);
          const blockers = table.attached === 'PENDING' ? table.parentReaders.length : 0;
          if (table.readers.length + blockers === 0) table.exists = false;
        }),
      done: (drop) =>
        this.#call(`done ${drop.topicId}/${drop.segment}`, () => {
          this.tables.splice(this.tables.indexOf(this.of(drop)), 1);
        }),
      audit: (topicName) =>
        Promise.resolve(
          this.tables
            .filter(({ drop }) => drop.topicName === topicName)
            .map(({ drop }): StoredDrop => {
              const { segment } = drop;
              return { segment, reason: 'COMPLETED', bytes: 60, plannedAtMs: 0, doneAtMs: null, ranges: [] };
            }),
        ),
      stop: () => {
        this.ended = true;
      },
    },
  });

  table(topicId: number, segment = 1, changes: Partial<Table> = {}): Table {
    const table: Table = {
      drop: { topicId, topicName: `topic-${topicId}`, segment },
      attached: 'YES',
      exists: true,
      readers: [],
      parentReaders: [],
      detaching: null,
      ...changes,
    };
    this.tables.push(table);
    return table;
  }

  of({ topicId, segment }: PlannedDrop): Table {
    return this.tables.find(({ drop }) => drop.topicId === topicId && drop.segment === segment)!;
  }

  /** The calls that change something. */
  get steps(): string[] {
    return this.calls.filter((call) => !/^(table|pendingDrops)/.test(call));
  }

  count(call: RegExp): number {
    return this.calls.filter((one) => call.test(one)).length;
  }

  async look(): Promise<void> {
    await this.clock.advance(lookMs);
  }

  #facts({ attached, exists, readers, parentReaders, detaching }: Table): TableFacts {
    const waitsFor = detaching === null ? null : readers.length > 0 ? 'TABLE' : 'PARENT';
    return {
      exists,
      attached,
      tableLockers: readers.length,
      parentLockers: parentReaders.length,
      detaching: detaching === null ? null : { waitsFor, waitedMs: this.clock.nowMs() - detaching.sinceMs },
      detachingPid: detaching === null ? null : 100,
      blockers: [...readers, ...parentReaders],
    };
  }

  #detach(drop: PlannedDrop): Promise<void> {
    const { topicId, segment } = drop;
    return this.#call(`detach ${topicId}/${segment}`, async () => {
      const table = this.of(drop);
      if (table.readers.length + table.parentReaders.length > 0) {
        const { promise, resolve } = Promise.withResolvers<void>();
        table.detaching = { waitsFor: 'PARENT', sinceMs: this.clock.nowMs(), end: resolve };
        await promise;
      }
      if (table.attached === 'YES') table.attached = 'NO';
    });
  }

  #cancel(_pid: number): void {
    const table = this.tables.find(({ detaching }) => detaching !== null)!;
    table.attached = 'PENDING';
    table.detaching?.end();
    table.detaching = null;
  }

  async #call<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    this.calls.push(name);
    if (this.fails(name)) throw new Fault('DATABASE_UNAVAILABLE', 'down');
    return work();
  }
}

let catalog: Catalog;
beforeEach(() => {
  catalog = new Catalog();
});
afterEach(async () => {
  for (const { detaching } of catalog.tables) detaching?.end();
  await catalog.drops.stop();
});

test('a table is detached, dropped and noted, and then nothing is asked any more', async () => {
  catalog.table(1);
  catalog.drops.start();
  await catalog.look();
  expect(catalog.steps).toEqual(['detach 1/1', 'drop 1/1 2000', 'done 1/1']);
  await catalog.look();
  const { length } = catalog.calls;
  for (let i = 0; i < 100; i += 1) await catalog.look();
  expect(catalog.calls).toHaveLength(length);
  expect(catalog.drops.stats()).toEqual({ dropsOpen: 0, dropsBlockedSeconds: 0 });
});

test('a broker without drops asks once at its start', async () => {
  catalog.drops.start();
  for (let i = 0; i < 10; i += 1) await catalog.look();
  expect(catalog.calls).toEqual(['pendingDrops']);
  catalog.table(1);
  catalog.drops.soon();
  await catalog.look();
  expect(catalog.tables).toEqual([]);
});

test('whoever reads a table keeps it, and is named with its age, until it ends', async () => {
  const table = catalog.table(1);
  table.readers.push(reader);
  catalog.drops.start();
  for (let i = 0; i < 4; i += 1) await catalog.look();
  expect(catalog.steps).toEqual([]);
  expect(await catalog.drops.openDrops('topic-1')).toEqual([{ segment: 1, bytes: 60, blockers: [reader] }]);
  expect(catalog.drops.stats().dropsBlockedSeconds).toBeGreaterThanOrEqual(15);
  table.readers.pop();
  await catalog.look();
  await catalog.look();
  expect(catalog.tables).toEqual([]);
  expect(await catalog.drops.openDrops('topic-1')).toEqual([]);
});

test('a detach that waits for a reader of the parent does not keep the drops of other topics', async () => {
  catalog.table(1).parentReaders.push(reader);
  catalog.table(2);
  catalog.drops.start();
  await catalog.look();
  expect(catalog.tables.map(({ drop }) => drop.topicId)).toEqual([1]);
  expect(catalog.count(/^detach 1/)).toBe(1);
});

test('a topic that finds no free session gets that of a detach that waits for a minute', async () => {
  for (const topicId of [1, 2, 3]) catalog.table(topicId).parentReaders.push(reader);
  catalog.table(4);
  catalog.drops.start();
  for (let i = 0; i < 11; i += 1) await catalog.look();
  expect(catalog.steps).toEqual(['detach 1/1', 'detach 2/1', 'detach 3/1']);
  for (let i = 0; i < 4; i += 1) await catalog.look();
  expect(catalog.steps).toContain('cancel 100');
  expect(catalog.tables.map(({ drop }) => drop.topicId)).not.toContain(4);
});

test('a detach that keeps a topic from its next segment is given up after ten seconds', async () => {
  const table = catalog.table(1);
  table.parentReaders.push(reader);
  catalog.drops.start();
  await catalog.look();
  table.readers.push(reader);
  catalog.wants.add(1);
  await catalog.look();
  await catalog.look();
  expect(catalog.steps).toEqual(['detach 1/1', 'cancel 100']);
  expect(table.attached).toBe('PENDING');
});

test('a pending table is dropped as soon as nobody uses it, and finished only after five minutes', async () => {
  const table = catalog.table(1, 1, { attached: 'PENDING', parentReaders: [reader] });
  catalog.drops.start();
  for (let i = 0; i < 59; i += 1) await catalog.look();
  expect(catalog.steps).toEqual([]);
  for (let i = 0; i < 3; i += 1) await catalog.look();
  expect(catalog.steps).toEqual(['finalize 1/1 10000']);
  for (let i = 0; i < 50; i += 1) await catalog.look();
  // The time begins again, because a finish blocks the attach of the next segment while it waits.
  expect(catalog.steps).toEqual(['finalize 1/1 10000']);
  table.parentReaders.pop();
  await catalog.look();
  expect(catalog.steps.slice(1)).toEqual(['drop 1/1 200', 'done 1/1']);
});

test('one look reads fifty tables, and the others have their turn', async () => {
  for (let topicId = 1; topicId <= 120; topicId += 1) catalog.table(topicId, 1, { readers: [reader] });
  catalog.drops.start();
  await catalog.clock.advance(1);
  expect(catalog.count(/^table/)).toBe(50);
  await catalog.look();
  await catalog.look();
  const read = new Set(catalog.calls.filter((call) => call.startsWith('table')));
  expect([read.size, catalog.count(/^table/)]).toEqual([120, 150]);
});

test('the oldest table of each topic comes before the second of any', async () => {
  for (let segment = 1; segment <= 60; segment += 1) catalog.table(1, segment, { readers: [reader] });
  catalog.table(2, 1, { readers: [reader] });
  catalog.drops.start();
  await catalog.clock.advance(1);
  expect(catalog.calls.slice(1, 4)).toEqual(['table 1/1', 'table 2/1', 'table 1/2']);
});

test('a table whose steps fail does not keep the others, and is tried again', async () => {
  catalog.table(1);
  catalog.table(2);
  catalog.fails = (call) => call.endsWith(' 1/1') || call.startsWith('drop 1/1');
  catalog.drops.start();
  await catalog.look();
  await catalog.look();
  expect(catalog.tables.map(({ drop }) => drop.topicId)).toEqual([1]);
  catalog.fails = () => false;
  await catalog.look();
  await catalog.look();
  expect(catalog.tables).toEqual([]);
});

test('a stop does not wait for a detach, which the next owner finds', async () => {
  const table = catalog.table(1);
  table.parentReaders.push(reader);
  catalog.drops.start();
  await catalog.look();
  const stopped = catalog.drops.stop();
  expect(catalog.ended).toBe(true);
  // The store ends the session, and so the call.
  table.detaching?.end();
  await stopped;
  await catalog.look();
  expect(catalog.steps).toEqual(['detach 1/1']);
});
