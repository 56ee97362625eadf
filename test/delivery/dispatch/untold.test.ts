import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Untold, type Fact } from '../../../src/delivery/dispatch/untold.ts';
import { property } from '../../coordinator/property.ts';

const partitions = [0, 1, 2, 3, 4, 5];
/** A partition has so many bytes, so that an event has room for two. */
const bytesEach = 10;

/** A member, and a client that applies each fact. Both check what must not happen. */
class Pair {
  readonly held = new Set([0, 1]);
  readonly asked = new Set([1]);
  /** Partitions whose gap is not told. */
  readonly gaps = new Set([0]);
  readonly untold: Untold<number>;
  readonly facts: Fact<number>[] = [];
  /** What the client has; null before the first assignment. */
  has: Set<number> | null = null;
  /** Told to be revoked, since the member has it. */
  readonly revoked = new Set<number>();

  constructor(changes: boolean, assignedBytesMax: number) {
    this.untold = new Untold({
      held: () => this.held,
      gaps: this.gaps,
      asked: this.asked,
      changes,
      bytesOf: () => bytesEach,
      assignedBytesMax,
      revokingBytesMax: 2 * bytesEach,
    });
  }

  /** Gives the partition to the member, or ends its revocation. */
  hold(partition: number): void {
    if (!this.held.has(partition)) this.untold.came(partition);
    else if (this.asked.has(partition)) this.untold.stays(partition);
    else return;
    this.held.add(partition);
    this.asked.delete(partition);
    this.revoked.delete(partition);
    this.untold.assigned();
  }

  ask(partition: number): void {
    if (!this.held.has(partition) || this.asked.has(partition)) return;
    this.asked.add(partition);
    this.untold.asked(partition);
  }

  lose(partition: number): void {
    if (!this.held.delete(partition)) return;
    this.untold.went(partition);
    this.untold.gapWent(partition);
    this.gaps.delete(partition);
    this.asked.delete(partition);
    this.revoked.delete(partition);
    this.untold.assigned();
  }

  gap(partition: number): void {
    if (!this.held.has(partition)) return;
    this.gaps.add(partition);
    this.untold.gapCame(partition);
  }

  /** Lets the client read one event. */
  read(): boolean {
    const fact = this.untold.next();
    if (fact === null) return false;
    this.facts.push(fact);
    if (fact.type === 'assigned') this.#assigned(fact);
    if (fact.type === 'revoking') this.#revoking(fact);
    if (fact.type === 'gap') this.#gap(fact.log);
    return true;
  }

  readAll(): void {
    while (this.read());
  }

  #assigned({ partitions: named, removed }: Extract<Fact<number>, { type: 'assigned' }>): void {
    if (removed === null) this.has = new Set();
    for (const partition of removed ?? []) {
      expect(this.has!.delete(partition), `${partition} is removed and was not there`).toBe(true);
      expect(named).not.toContain(partition);
    }
    for (const partition of named) this.has!.add(partition);
  }

  #gap(log: number): void {
    expect([...this.has!], 'a gap of a partition that the client does not have').toContain(log);
    expect(this.gaps.delete(log), 'the gap is told twice').toBe(true);
  }

  #revoking({ partitions: named }: Extract<Fact<number>, { type: 'revoking' }>): void {
    expect(named.length).toBeLessThanOrEqual(2);
    for (const partition of named) {
      expect([...this.has!]).toContain(partition);
      expect([...this.asked]).toContain(partition);
      expect([...this.revoked], 'the revocation is told twice').not.toContain(partition);
      this.revoked.add(partition);
    }
  }
}

const step = fc.oneof(
  ...(['hold', 'ask', 'lose', 'gap'] as const).map((type) => fc.record({ type: fc.constant(type), at: fc.nat(5) })),
  fc.record({ type: fc.constantFrom('read' as const, 'idle' as const, 'readAll' as const), at: fc.constant(0) }),
);

test('a client that stops and reads at any time has the assignment of its member in the end, every revocation and every gap', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), fc.boolean(), (steps, changes, small) => {
      const pair = new Pair(changes, (small ? 2 : 100) * bytesEach);
      for (const { type, at } of steps) {
        if (type === 'read' || type === 'readAll') pair[type]();
        else if (type === 'idle') pair.untold.idle();
        else pair[type](partitions[at]!);
      }
      pair.readAll();
      expect(pair.untold.isEmpty).toBe(true);
      expect([...pair.has!].sort()).toEqual([...pair.held].sort());
      expect([...pair.revoked].sort()).toEqual([...pair.asked].sort());
      expect([...pair.gaps]).toEqual([]);
      expect(pair.facts.filter(({ type }) => type === 'joined')).toEqual(pair.facts.slice(0, 1));
    }),
    property(2_000),
  );
});

test('a partition that was lost and came back unread is missing from one event in between', () => {
  for (const changes of [false, true]) {
    const pair = new Pair(changes, 1_000);
    pair.readAll();
    pair.lose(0);
    pair.hold(0);
    pair.read();
    expect(pair.has, `changes: ${changes}`).toEqual(new Set([1]));
    pair.read();
    expect(pair.has).toEqual(new Set([0, 1]));
    expect(pair.read()).toBe(false);
  }
});

test('what an unread stream keeps does not grow with the number of rebalances', () => {
  const pair = new Pair(true, 1_000);
  pair.readAll();
  for (let rebalance = 0; rebalance < 1_000; rebalance++) {
    for (const partition of partitions) pair.hold(partition);
    for (const partition of partitions) pair.ask(partition);
    for (const partition of partitions) pair.lose(partition);
    pair.untold.idle();
  }
  pair.facts.length = 0;
  pair.readAll();
  expect(pair.facts).toEqual([{ type: 'assigned', partitions: [], removed: [0, 1] }, { type: 'idle' }]);
});

test('an assignment that does not fit into one event goes on as changes, whatever the client asked for', () => {
  for (const changes of [false, true]) {
    const pair = new Pair(changes, 2 * bytesEach);
    for (const partition of partitions) pair.hold(partition);
    pair.readAll();
    const assigned = pair.facts.filter(({ type }) => type === 'assigned');
    expect(assigned).toEqual([
      { type: 'assigned', partitions: [0, 1], removed: null },
      { type: 'assigned', partitions: [2, 3], removed: [] },
      { type: 'assigned', partitions: [4, 5], removed: [] },
    ]);
  }
});

test('a stream tells Joined first, and an idle reason last', () => {
  const { untold, asked } = new Pair(false, 1_000);
  untold.idle();
  untold.draining();
  const types = Array.from({ length: 7 }, () => untold.next()?.type);
  expect(types).toEqual(['joined', 'assigned', 'gap', 'revoking', 'draining', 'idle', undefined]);
  expect(asked).toEqual(new Set([1]));
});
