import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { GroupChange, MemberId, MemberRow } from '../../../src/coordinator/group.ts';
import type { SubscriptionRow } from '../../../src/delivery/ports/store.ts';
import { createdLife, step, type LifeInput, type SubscriptionLife } from '../../../src/subscription/life.ts';
import { property } from '../../coordinator/property.ts';
import { cancelIn } from '../../support/groups/group-writes.ts';
import { startsAt } from '../../support/starts.ts';
import { cursorsOf, findGroup, newGroup, newTopic, type Stores, type StoreSite } from '../site.ts';

const dayMs = 86_400_000;

function member(memberId: string): MemberRow {
  return {
    memberId: memberId as MemberId,
    clientId: 'c',
    host: '',
    instanceId: null,
    kind: 'STREAM',
    maxPollIntervalMs: 300_000,
    clientAssignors: [],
    metadata: Buffer.alloc(0),
    sessionTimeoutMs: null,
    rebalanceTimeoutMs: 60_000,
    assignor: 'sticky',
    topicIds: [],
    joinSeq: 1,
  };
}

/** What happens to the two subscriptions of a group. */
type Happening =
  | {
      readonly type: 'SAVE';
      readonly put: readonly string[];
      readonly remove: readonly string[];
      readonly heardAgoMs: number;
    }
  | { readonly type: 'REPEAT' | 'LOOK' | 'RESET' | 'OWN' }
  | { readonly type: 'PAUSE'; readonly at: number }
  | { readonly type: 'RESUME'; readonly at: number }
  | { readonly type: 'CANCEL'; readonly at: number }
  | { readonly type: 'UPDATE'; readonly at: number; readonly deadAfterMs: number | null };

const names = ['a', 'b', 'c'];
const at = fc.integer({ min: 0, max: 1 });
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant('SAVE' as const),
      put: fc.subarray(names),
      remove: fc.subarray(names),
      heardAgoMs: fc.integer({ min: 0, max: 60_000 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constantFrom('REPEAT' as const, 'LOOK' as const, 'LOOK' as const, 'RESET' as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.oneof(
      fc.record({ type: fc.constant('PAUSE' as const), at }),
      fc.record({ type: fc.constant('RESUME' as const), at }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('UPDATE' as const),
      at,
      deadAfterMs: fc.option(fc.integer({ min: 30_000, max: 300_000 })),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('CANCEL' as const), at }) },
);
const history = fc.array(fc.record({ afterMs: fc.integer({ min: 0, max: 200_000 }), what: happening }), {
  maxLength: 25,
});

/** The lives of subscriptions, as every GroupStore keeps them. */
export function describeLives(open: () => Promise<StoreSite> | StoreSite): void {
  let site: StoreSite;
  let stores: Stores;

  beforeAll(async () => {
    site = await open();
    stores = await site.own();
  });

  afterAll(() => site.close());

  /** A group with subscriptions to two topics, and what the machine says of each. */
  class Lived {
    readonly group: { readonly name: string; readonly id: number };
    readonly rows: readonly SubscriptionRow[];
    readonly members = new Set<string>();
    lives: SubscriptionLife[];
    seqs: number[];
    #generation = 0;
    #last: (GroupChange & { heardAgoMs: number }) | null = null;

    private constructor(group: Lived['group'], rows: readonly SubscriptionRow[]) {
      this.group = group;
      this.rows = rows;
      this.lives = rows.map(({ deadAfterMs, createdAtMs }) => createdLife(deadAfterMs, createdAtMs));
      this.seqs = rows.map(({ claimSeq }) => claimSeq);
    }

    static async begin(deadAfterMs: readonly (number | null)[]): Promise<Lived> {
      const group = await newGroup(stores);
      const rows: SubscriptionRow[] = [];
      for (const one of deadAfterMs) {
        const topic = await newTopic(stores, 1);
        const wanted = { groupId: group.id, topicId: topic.id, deadAfterMs: one, offsets: startsAt([0]) };
        const [created] = await stores.groups.createSubscriptions([wanted]);
        rows.push(created!.row);
      }
      return new Lived(group, rows);
    }

    /** The time of the database, in whole milliseconds. */
    get #nowMs(): number {
      return Math.floor(site.nowMs);
    }

    async happen(what: Happening): Promise<void> {
      switch (what.type) {
        case 'SAVE':
          return this.#save(what.put, what.remove, what.heardAgoMs);
        case 'REPEAT':
          return this.#repeat();
        case 'LOOK':
          for (const index of this.lives.keys()) this.#feed(index, { type: 'LOOK' });
          return this.#told(await stores.groups.markDead(this.rows.map(({ id }) => id)), true);
        case 'RESET':
          return this.#reset();
        case 'OWN':
          stores = await site.own();
          return undefined;
        case 'PAUSE':
        case 'RESUME':
        case 'UPDATE':
        case 'CANCEL':
          return this.#change(what.at, what);
      }
    }

    async #save(put: readonly string[], remove: readonly string[], heardAgoMs: number): Promise<void> {
      const removed = remove.filter((name) => !put.includes(name));
      const left = removed.some((name) => this.members.has(name));
      for (const name of removed) this.members.delete(name);
      for (const name of put) this.members.add(name);
      const change = {
        generation: ++this.#generation,
        putMembers: put.map(member),
        removedMembers: removed as MemberId[],
        ...{ putAssignments: [], removedAssignments: [], rebalances: [] },
      };
      this.#last = { ...change, heardAgoMs };
      const before = this.lives;
      for (const index of this.lives.keys()) {
        if (put.length > 0) this.#feed(index, { type: 'ATTENDED' });
        if (this.members.size === 0 && left) this.#feed(index, { type: 'LEFT', heardAtMs: this.#nowMs - heardAgoMs });
      }
      const rows = await stores.groups.saveGroups(
        [{ groupId: this.group.id, change, heardAgoMs: () => heardAgoMs }],
        false,
      );
      const changed = this.rows.filter((_, index) => this.lives[index] !== before[index]).map(({ id }) => id);
      expect(rows.map(({ id }) => id).sort()).toEqual(changed.sort());
      this.#told(rows, false);
    }

    /** The answer of the last save was lost. */
    async #repeat(): Promise<void> {
      if (this.#last === null) return;
      const { heardAgoMs, ...change } = this.#last;
      // A repeat of an old save is not a repeat of the last one.
      const isPresent = change.putMembers.every(({ memberId }) => this.members.has(memberId));
      if (!isPresent || change.removedMembers.some((name) => this.members.has(name))) return;
      for (const index of this.lives.keys()) if (change.putMembers.length > 0) this.#feed(index, { type: 'ATTENDED' });
      const rows = await stores.groups.saveGroups(
        [{ groupId: this.group.id, change, heardAgoMs: () => heardAgoMs }],
        true,
      );
      this.#told(rows, true);
    }

    async #reset(): Promise<void> {
      for (const [index, { id }] of this.rows.entries()) {
        if (this.lives[index]!.state === 'CANCELLED') continue;
        const [cursor] = await cursorsOf(stores, id);
        const key = { subscriptionId: id, partition: 0, lane: 0 };
        await stores.groups.resetCursors([{ key, offset: 0, resets: cursor!.resets + 1 }]);
        this.seqs[index] = this.seqs[index]! + 1;
      }
    }

    async #change(index: number, what: Extract<Happening, { at: number }>): Promise<void> {
      const { id } = this.rows[index]!;
      const before = this.lives[index]!;
      const isAttended = this.members.size > 0;
      const { at: _, ...input } = what;
      const outcome = this.#feed(index, input.type === 'RESUME' ? { type: 'RESUME', isAttended } : input);
      const wanted = input.type === 'CANCEL' ? { ...input, ends: startsAt([7]), owedRecords: 3 } : input;
      const change = await stores.groups.changeSubscription(id, wanted);
      if (outcome === 'FORBIDDEN') expect(change).toEqual({ type: 'FORBIDDEN', state: before.state });
      else expect(change).toMatchObject({ type: 'STORED', row: this.#expected(index) });
    }

    #feed(index: number, input: LifeInput): 'CHANGED' | 'SAME' | 'FORBIDDEN' {
      const outcome = step(this.lives[index]!, input, this.#nowMs);
      if (outcome.type !== 'CHANGED') return outcome.type;
      this.lives = this.lives.with(index, outcome.life);
      if (outcome.claim === 'CHANGED') this.seqs[index] = this.seqs[index]! + 1;
      return 'CHANGED';
    }

    #expected(index: number) {
      const { state, reason: stateReason, changedAtMs: stateChangedAtMs, ...rest } = this.lives[index]!;
      const { unattendedSinceMs: since } = rest;
      const unattendedForMs = since === null ? null : (expect.closeTo(Math.max(0, site.nowMs - since), -1) as number);
      const { id } = this.rows[index]!;
      return { id, state, stateReason, stateChangedAtMs, ...rest, unattendedForMs, claimSeq: this.seqs[index] };
    }

    /** Checks the rows of an answer. @param isAll whether it has every one that goes on. */
    #told(rows: readonly SubscriptionRow[], isAll: boolean): void {
      for (const row of rows) expect(row).toMatchObject(this.#expected(this.rows.findIndex(({ id }) => id === row.id)));
      const living = this.rows.filter((_, index) => this.lives[index]!.state !== 'CANCELLED');
      if (isAll) expect(rows.map(({ id }) => id)).toEqual(expect.arrayContaining(living.map(({ id }) => id)));
    }

    async check(): Promise<void> {
      const found = (await findGroup(stores, this.group.name))!.subscriptions;
      const living = [...this.rows.keys()].filter((index) => this.lives[index]!.state !== 'CANCELLED');
      expect([...found].sort((a, b) => a.id - b.id)).toMatchObject(living.map((index) => this.#expected(index)));
    }
  }

  describe('the life of a subscription', () => {
    test('after any history of saves, looks and calls, the rows are those of the machine', async () => {
      await fc.assert(
        fc.asyncProperty(
          history,
          fc.array(fc.option(fc.integer({ min: 30_000, max: 300_000 })), { minLength: 2, maxLength: 2 }),
          async (happenings, deadAfterMs) => {
            const lived = await Lived.begin(deadAfterMs);
            for (const { afterMs, what } of happenings) {
              site.pass(afterMs);
              await lived.happen(what);
            }
            await lived.check();
          },
        ),
        property(25),
      );
    }, 120_000);

    const attended = async (deadAfterMs: number | null = 60_000) => {
      const lived = await Lived.begin([deadAfterMs, deadAfterMs]);
      await lived.happen({ type: 'SAVE', put: ['a'], remove: [], heardAgoMs: 0 });
      return lived;
    };

    test('without a renewal by an owner before, members that the broker never heard count from the write', async () => {
      const lived = await attended();
      site.pass(dayMs);
      await stores.groups.touchGroups([]);
      stores = await site.own();
      const save = {
        groupId: lived.group.id,
        change: {
          generation: 9,
          putMembers: [],
          removedMembers: ['a' as MemberId],
          putAssignments: [],
          removedAssignments: [],
          rebalances: [],
        },
      };
      const rows = await stores.groups.saveGroups([{ ...save, heardAgoMs: () => null }], false);
      expect(rows).toHaveLength(2);
      for (const row of rows) expect(row.unattendedForMs).toBeLessThan(10_000);
    });

    test('members that an owner never heard count from the last renewal of the owner that heard one last', async () => {
      const lived = await attended();
      await stores.groups.noteHeard([lived.group.id]);
      site.pass(dayMs);
      await site.renew();
      const renewedAtMs = Math.floor(site.nowMs);
      for (let times = 0; times < 3; times++) {
        site.pass(20_000);
        stores = await site.own();
        await site.renew();
      }
      const nothing = { putMembers: [], putAssignments: [], removedAssignments: [], rebalances: [] };
      const gone = { generation: 9, removedMembers: ['a' as MemberId], ...nothing };
      const saved = { groupId: lived.group.id, change: gone, heardAgoMs: () => null };
      const rows = await stores.groups.saveGroups([saved], false);
      expect(rows.map(({ unattendedSinceMs }) => unattendedSinceMs)).toEqual([renewedAtMs, renewedAtMs]);
    });

    test.each(['a note', 'a save'])('%s of a sign of life makes later owners count from its owner', async (by) => {
      const lived = await attended();
      await site.renew();
      site.pass(20_000);
      stores = await site.own();
      await site.renew();
      site.pass(20_000);
      stores = await site.own();
      const nothing = { putAssignments: [], removedAssignments: [], rebalances: [], removedMembers: [] };
      const change = { generation: 8, putMembers: [], ...nothing };
      if (by === 'a note') await stores.groups.noteHeard([lived.group.id]);
      else await stores.groups.saveGroups([{ groupId: lived.group.id, change, heardAgoMs: () => 5 }], false);
      await site.renew();
      const renewedAtMs = Math.floor(site.nowMs);
      site.pass(20_000);
      stores = await site.own();
      const gone = { ...change, generation: 9, removedMembers: ['a' as MemberId] };
      const saved = { groupId: lived.group.id, change: gone, heardAgoMs: () => null };
      const rows = await stores.groups.saveGroups([saved], false);
      expect(rows.map(({ unattendedSinceMs }) => unattendedSinceMs)).toEqual([renewedAtMs, renewedAtMs]);
    });

    test('a subscription that is created in an empty group beside a repeated removal never had a member', async () => {
      const lived = await attended();
      const removal = {
        generation: 2,
        putMembers: [],
        removedMembers: ['a' as MemberId],
        putAssignments: [],
        removedAssignments: [],
        rebalances: [],
      };
      const saved = [{ groupId: lived.group.id, change: removal, heardAgoMs: () => 0 }];
      await stores.groups.saveGroups(saved, false);
      const topic = await newTopic(stores, 1);
      const wanted = { groupId: lived.group.id, topicId: topic.id, deadAfterMs: 60_000, offsets: startsAt([0]) };
      const [late] = await stores.groups.createSubscriptions([wanted]);
      const rows = await stores.groups.saveGroups(saved, true);
      expect(rows.find(({ id }) => id === late!.row.id)).toMatchObject({ unattendedSinceMs: null });
      expect(rows).toHaveLength(3);
    });

    test('a member that joins and leaves in one save ends a death, and the time counts from that member', async () => {
      const lived = await attended();
      await lived.happen({ type: 'SAVE', put: [], remove: ['a'], heardAgoMs: 0 });
      site.pass(120_000);
      await lived.happen({ type: 'LOOK' });
      expect(lived.lives.map(({ state }) => state)).toEqual(['DEAD', 'DEAD']);
      const nothing = { putAssignments: [], removedAssignments: [], rebalances: [] };
      const join = { generation: 3, putMembers: [member('b')], removedMembers: [], ...nothing };
      const leave = { generation: 4, putMembers: [], removedMembers: ['b' as MemberId], ...nothing };
      const rows = await stores.groups.saveGroups(
        [join, leave].map((change) => ({ groupId: lived.group.id, change, heardAgoMs: () => 1_000 })),
        false,
      );
      expect(rows.map(({ state, stateReason }) => [state, stateReason])).toEqual([
        ['ACTIVE', 'RETURNED'],
        ['ACTIVE', 'RETURNED'],
      ]);
      for (const { unattendedForMs } of rows) expect(unattendedForMs).toBeGreaterThanOrEqual(1_000);
    });

    test('a call on a subscription that is gone says so, and changes nothing', async () => {
      expect(await stores.groups.changeSubscription(1_000_000, { type: 'PAUSE' })).toEqual({ type: 'GONE' });
      expect(await stores.groups.markDead([1_000_000])).toEqual([]);
    });

    test('the retention of offsets leaves a group with a member, or with a subscription that is not DEAD', async () => {
      const lived = await attended();
      const retire = () => stores.groups.endGroup(lived.group.id, 'OFFSET_RETENTION', []);
      expect(await retire()).toBe(false);
      await lived.happen({ type: 'SAVE', put: [], remove: ['a'], heardAgoMs: 0 });
      expect(await retire()).toBe(false);
      site.pass(120_000);
      await lived.happen({ type: 'LOOK' });
      await lived.check();
      expect(await retire()).toBe(true);
      expect(await findGroup(stores, lived.group.name)).toBeUndefined();
      expect(await retire()).toBe(true);
    });

    test('a fenced broker changes no life', async () => {
      const lived = await attended();
      await lived.happen({ type: 'SAVE', put: [], remove: ['a'], heardAgoMs: 0 });
      const old = stores;
      stores = await site.own();
      site.pass(120_000);
      const ids = lived.rows.map(({ id }) => id);
      for (const write of [
        () => old.groups.markDead(ids),
        () => old.groups.changeSubscription(ids[0]!, { type: 'PAUSE' }),
        () => old.groups.changeSubscription(ids[0]!, { type: 'CANCEL', ends: [], owedRecords: 0 }),
        () => old.groups.endGroup(lived.group.id, 'OFFSET_RETENTION', []),
      ]) {
        await expect(write()).rejects.toMatchObject({ kind: 'FENCED' });
      }
      await lived.check();
    });
  });

  describe('a claim', () => {
    test('a subscription starts where it is stored, and a second call learns the same starts', async () => {
      const topic = await newTopic(stores, 3);
      const { id: groupId } = await newGroup(stores);
      const wanted = { groupId, topicId: topic.id, deadAfterMs: null };
      const [made] = await stores.groups.createSubscriptions([{ ...wanted, offsets: startsAt([7, 9]) }]);
      expect(made!.starts).toEqual(startsAt([7, 9, 0]));
      const [again] = await stores.groups.createSubscriptions([{ ...wanted, offsets: startsAt([1, 1, 1]) }]);
      expect(again).toEqual(made);
    });

    test('a reset answers with what is stored, also when it is repeated, and begins the claim anew', async () => {
      const topic = await newTopic(stores, 2);
      const { id: groupId } = await newGroup(stores);
      const wanted = { groupId, topicId: topic.id, deadAfterMs: null, offsets: startsAt([7, 9]) };
      const [made] = await stores.groups.createSubscriptions([wanted]);
      const keys = [1, 0].map((partition) => ({ subscriptionId: made!.row.id, partition, lane: 0 }));
      const resets = keys.map((key, index) => ({ key, offset: 3 + index, resets: 1 }));
      for (const _ of ['once', 'again']) expect(await stores.groups.resetCursors(resets)).toEqual([3, 4]);
      const [found] = await stores.groups.createSubscriptions([wanted]);
      expect(found!.starts).toEqual(startsAt([4, 3]));
      expect(found!.row.claimSeq).toBe(made!.row.claimSeq + 1);
    });

    test('a reset that comes after a cancel leaves the ended claim as it is', async () => {
      const topic = await newTopic(stores, 1);
      const { id: groupId } = await newGroup(stores);
      const wanted = { groupId, topicId: topic.id, deadAfterMs: null, offsets: startsAt([7]) };
      const [made] = await stores.groups.createSubscriptions([wanted]);
      const key = { subscriptionId: made!.row.id, partition: 0, lane: 0 };
      await cancelIn(stores.groups, key.subscriptionId);
      expect(await stores.groups.resetCursors([{ key, offset: 3, resets: 1 }])).toEqual([7]);
    });
  });
}
