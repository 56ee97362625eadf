import { expect } from 'vitest';
import type { Assignor } from '../../src/coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import { sticky } from '../../src/coordinator/assignors/sticky.ts';
import type {
  AssignmentRow,
  GroupEffect,
  GroupInput,
  GroupSnapshot,
  MemberId,
  MemberRow,
  PlannedPartition,
} from '../../src/coordinator/group.ts';
import { byPartition, key, Scene, partitionsOf } from './scene.ts';

/**
 * What was durable and told before a turn, which is what the invariants compare with what is after
 * it.
 */
interface Before {
  readonly snapshot: GroupSnapshot;
  readonly holders: ReadonlyMap<string, AssignmentRow>;
  readonly revoking: ReadonlySet<string>;
}

/**
 * What has come since the group last said anything but a refusal: one step, or all those that it
 * gathered.
 */
interface OpenTurn {
  readonly inputs: GroupInput[];
  readonly refused: Set<GroupInput>;
  /**
   * By number of joining: members that were asked what they do when they had done nothing for too
   * long.
   */
  readonly idle: Set<number>;
  /** A member was stalled, or resumed. */
  stallsChanged: boolean;
}

/**
 * What a member may ack: what it holds, by the generations in which it has held it without a break.
 */
interface Claim {
  memberId: MemberId;
  readonly generations: Set<number>;
}

/**
 * A scene whose every step is checked against the invariants of SPEC.md. The checks know nothing of
 * how the group works: they look at its snapshot, at what its effects told an onlooker and a
 * database, and at the inputs. A member that another process of its instance replaces is one member
 * to them: both have the same number of joining.
 */
export class CheckedScene extends Scene {
  readonly topics = new Map<number, number>();
  readonly withheld = new Set<number>();
  /** Each holding that ever was, as partition and generation. */
  readonly #holdings = new Set<string>();
  readonly #claims = new Map<string, Claim>();
  #turn = newTurn();
  #fresh = true;
  /** Generations that this broker began and has not reported on. */
  #running = new Set<number>();
  #assignedCount = 0;
  #reportedCount = 0;
  /** The last plan that was accepted, by the numbers of joining. */
  #plan: { readonly generation: number; readonly owners: ReadonlyMap<string, number | undefined> } | null = null;

  override takeOver(): void {
    super.takeOver();
    this.#fresh = true;
    this.#turn = newTurn();
    this.#running = new Set();
    this.#assignedCount = this.#reportedCount = 0;
    this.#plan = null;
    this.withheld.clear();
  }

  override step(...inputs: GroupInput[]): GroupEffect[] {
    const before: Before = {
      snapshot: this.durable.snapshot(),
      holders: byKey(this.durable.snapshot()),
      revoking: new Set(this.onlooker.revoking),
    };
    const [untouched, deadlines] = [this.#picture(), this.#deadlines()];
    const turnBegins = !this.group.preparing;
    const early = this.nowMs < (this.group.nextDeadlineMs() ?? Infinity) && !this.#fresh;
    const all = this.#fresh ? [...this.#topicInputs(), ...inputs] : inputs;
    const stalled = this.#stalled();
    const seqs = seqsOf(this.group.members());
    this.#noteInputs(all);
    const effects = super.step(...all);
    for (const effect of effects) if (effect.type === 'refused') this.#turn.refused.add(effect.input);
    if (this.#stalled() !== stalled) this.#turn.stallsChanged = true;
    this.#notePlan(all, seqs);
    // A deadline that does not pass would be looked at for ever.
    expect(this.group.nextDeadlineMs() ?? Infinity).toBeGreaterThan(this.nowMs);
    this.#singleHolder();
    this.#stalledHoldNothing();
    if (early && all.length > 0 && all.every((input) => this.#turn.refused.has(input))) {
      // A join that was refused because the assignor failed was heard: it is a sign of life and of
      // work.
      const heard = effects.some((effect) => effect.type === 'refused' && isUndoneJoin(effect));
      if (!heard) expect(this.#deadlines()).toEqual(deadlines);
      if (!heard || (turnBegins && !this.#turn.stallsChanged)) expect(this.#picture()).toEqual(untouched);
    }
    if (this.group.preparing) {
      expect(effects.filter(({ type }) => type !== 'refused')).toEqual([]);
      return effects;
    }
    this.#movesByRevocation(before, effects);
    this.#keepsWhatStays(before, effects);
    this.#complete();
    this.#generationOnce(before, effects);
    this.#replacesAlone(before, effects, early);
    this.#onceEachGeneration(before);
    this.#ownersAck(effects);
    this.#reported(before, effects);
    this.#toldAll();
    this.#turn = newTurn();
    this.#fresh = false;
    return effects;
  }

  /** The first step after a takeover begins with every topic. */
  #topicInputs(): GroupInput[] {
    return Array.from(this.topics, ([topicId, partitions]) => ({ type: 'topic' as const, topicId, partitions }));
  }

  #noteInputs(inputs: readonly GroupInput[]): void {
    this.#turn.inputs.push(...inputs);
    for (const memberId of this.group.overdue(this.nowMs)) {
      const row = this.group.member(memberId);
      const busySinceMs = this.busySinceMs.get(memberId) ?? Infinity;
      if (row !== undefined && busySinceMs + row.maxPollIntervalMs <= this.nowMs) this.#turn.idle.add(row.joinSeq);
    }
    if (this.group.state() === 'DEAD') return;
    for (const input of inputs) {
      if (input.type === 'topic') {
        this.topics.set(input.topicId, input.partitions);
        if (input.partitions === 0) this.withheld.delete(input.topicId);
      } else if (input.type === 'hold' && (this.topics.get(input.topicId) ?? 0) > 0) {
        if (input.held) this.withheld.add(input.topicId);
        else this.withheld.delete(input.topicId);
      }
    }
  }

  /**
   * `seqs` are those of before the step: who is named in the plan may be replaced by the end of it.
   */
  #notePlan(inputs: readonly GroupInput[], seqs: ReadonlyMap<MemberId, number>): void {
    const accepted = inputs.find((input) => input.type === 'assign' && !this.#turn.refused.has(input));
    if (accepted?.type !== 'assign' || this.group.state() === 'DEAD') return;
    const seq = (memberId: MemberId): number | undefined => seqs.get(memberId) ?? this.#seqOf(memberId);
    const owners = accepted.plan.map((one) => [key(one), seq(one.memberId)] as const);
    this.#plan = { generation: accepted.generation, owners: new Map(owners) };
  }

  /** What an input that is refused must leave as it is. */
  #picture(): unknown {
    const { group } = this;
    return {
      snapshot: group.snapshot(),
      state: group.state(),
      awaitsPlan: group.awaitsPlan,
      stalled: this.#stalled(),
      revoking: this.revoking(),
    };
  }

  #deadlines(): unknown {
    return [this.group.nextDeadlineMs(), this.group.overdue(this.nowMs)];
  }

  #stalled(): string {
    return this.group
      .members()
      .flatMap(({ memberId, joinSeq }) => (this.group.isStalled(memberId) ? [joinSeq] : []))
      .join();
  }

  #seqOf(memberId: MemberId | undefined): number | undefined {
    return memberId === undefined ? undefined : this.group.member(memberId)?.joinSeq;
  }

  /** 1 */
  #singleHolder(): void {
    const { assignments, members } = this.group.snapshot();
    expect(new Set(assignments.map(key)).size).toBe(assignments.length);
    const ids = members.map((member) => member.memberId);
    for (const row of assignments) expect(ids).toContain(row.memberId);
    expect(members.flatMap((member) => partitionsOf(this.group, member.memberId)).length).toBe(assignments.length);
  }

  /** 2 */
  #movesByRevocation(before: Before, effects: readonly GroupEffect[]): void {
    const seqs = seqsOf(before.snapshot.members);
    const here = new Set(this.group.members().map(({ joinSeq }) => joinSeq));
    const { inputs, idle } = this.#turn;
    const resized = new Set(inputs.flatMap((input) => (input.type === 'topic' ? [input.topicId] : [])));
    const stalled = new Set<string>();
    for (const effect of effects) {
      if (effect.type !== 'revoked' || !effect.stalled) continue;
      expect(idle, `${effect.memberId} was not asked what it does`).toContain(this.#seqOf(effect.memberId));
      for (const ref of effect.partitions) stalled.add(key(ref));
    }
    for (const row of before.snapshot.assignments) {
      const seq = seqs.get(row.memberId) ?? -1;
      const now = this.group.holder(row);
      const kept = this.#seqOf(now?.memberId) === seq && now?.sinceGeneration === row.sinceGeneration;
      if (kept || resized.has(row.topicId) || stalled.has(key(row)) || !here.has(seq)) continue;
      expect(before.revoking, `${key(row)} was taken from ${row.memberId} unasked`).toContain(key(row));
    }
  }

  /** 3 */
  #keepsWhatStays(before: Before, effects: readonly GroupEffect[]): void {
    for (const effect of effects) {
      if (effect.type !== 'assigned') continue;
      for (const ref of effect.added) {
        const was = before.holders.get(key(ref));
        const now = this.group.holder(ref);
        if (was === undefined || now?.sinceGeneration !== was.sinceGeneration) {
          expect(now?.sinceGeneration).toBe(this.group.generation);
          this.#assignedCount++;
        } else {
          expect(before.revoking, `${key(ref)} stays, and was announced`).toContain(key(ref));
        }
      }
    }
  }

  /** 4 */
  #complete(): void {
    const takers = this.#takers();
    const stable = this.group.state() === 'STABLE';
    for (const [topicId, partitions] of this.topics) {
      const readers = takers.filter((member) => member.topicIds.includes(topicId)).map(({ memberId }) => memberId);
      for (let partition = 0; partition < partitions; partition++) {
        const holder = this.group.holder({ topicId, partition })?.memberId;
        const name = `${topicId}/${partition} is with ${holder ?? 'nobody'}`;
        if (this.withheld.has(topicId)) {
          if (stable) expect(holder, name).toBeUndefined();
        } else if (readers.length > 0 && !this.group.awaitsPlan) {
          expect(holder, name).toBeDefined();
          if (stable) expect(readers, name).toContain(holder);
        } else if (stable) {
          expect(holder, name).toBeUndefined();
        }
      }
    }
    if (stable && this.group.leader === null) this.#asAssigned();
    if (stable && this.group.leader !== null) this.#asPlanned();
  }

  #takers(): MemberRow[] {
    return this.group.members().filter(({ memberId }) => !this.group.isStalled(memberId));
  }

  /** What the assignor would do with the group as it is: nothing. */
  #asAssigned(): void {
    const members = this.#takers();
    const topics = Array.from(this.topics, ([topicId, partitions]) => ({ topicId, partitions }))
      .filter(({ topicId, partitions }) => partitions > 0 && !this.withheld.has(topicId))
      .sort((a, b) => a.topicId - b.topicId);
    const held = new Map(
      topics.map(({ topicId, partitions }) => [
        topicId,
        Int32Array.from({ length: partitions }, (_, partition) => {
          const holder = this.group.holder({ topicId, partition });
          return members.findIndex((member) => member.memberId === holder?.memberId);
        }),
      ]),
    );
    const assignor = (this.options.assignors ?? builtInAssignors).get(this.group.assignor);
    expect(orSticky(assignor)({ members, topics, previous: held })).toEqual(held);
  }

  /** What the leader said last, unless it is from before the generation. */
  #asPlanned(): void {
    if (this.#plan?.generation !== this.group.generation) return;
    const held = this.group.snapshot().assignments.map((row) => [key(row), this.#seqOf(row.memberId)] as const);
    expect(new Map(held)).toEqual(this.#plan.owners);
  }

  /** 5 */
  #generationOnce(before: Before, effects: readonly GroupEffect[]): void {
    const rise = this.group.generation - before.snapshot.generation;
    expect([0, 1]).toContain(rise);
    if (optionsOf(this.group.members()) !== optionsOf(before.snapshot.members)) expect(rise).toBe(1);
    const { inputs, refused, stallsChanged } = this.#turn;
    const said = new Set(effects.map(({ type }) => type));
    const planned = inputs.some((input) => input.type === 'assign' && !refused.has(input));
    if (said.has('revoking') && !planned) expect(rise).toBe(1);
    const harmless = ['alive', 'progress', 'drained', 'assign', 'delete', 'tick', 'leave'];
    const calm = !this.#fresh && !stallsChanged && !said.has('removed') && this.group.leader === null;
    if (calm && inputs.every((input) => refused.has(input) || harmless.includes(input.type))) expect(rise).toBe(0);
  }

  /** 6 */
  #onceEachGeneration(before: Before): void {
    const seqs = seqsOf(before.snapshot.members);
    for (const row of this.group.snapshot().assignments) {
      const was = before.holders.get(key(row));
      const same = was !== undefined && seqs.get(was.memberId) === this.#seqOf(row.memberId);
      if (same && was.sinceGeneration === row.sinceGeneration) continue;
      const holding = `${key(row)} since ${row.sinceGeneration}`;
      expect(this.#holdings).not.toContain(holding);
      expect(row.sinceGeneration).toBe(this.group.generation);
      this.#holdings.add(holding);
    }
  }

  /**
   * 10: acks count by the rule of SPEC.md exactly where the effects have told a member that it
   * holds the partition.
   */
  #ownersAck(effects: readonly GroupEffect[]): void {
    for (const effect of effects) this.#follow(effect);
    for (const { generations } of this.#claims.values()) generations.add(this.group.generation);
    const counting = this.group.snapshot().assignments.map(({ sinceGeneration, memberId, ...ref }) => {
      const generations = Array.from({ length: this.group.generation - sinceGeneration + 1 }, (_, n) => n);
      return [key(ref), { memberId, generations: new Set(generations.map((n) => sinceGeneration + n)) }] as const;
    });
    expect(this.#claims).toEqual(new Map(counting));
  }

  #follow(effect: GroupEffect): void {
    if (effect.type === 'replaced') {
      for (const claim of this.#claims.values())
        if (claim.memberId === effect.oldMemberId) claim.memberId = effect.memberId;
    } else if (effect.type === 'removed') {
      for (const [ref, { memberId }] of this.#claims) if (memberId === effect.memberId) this.#claims.delete(ref);
    } else if (effect.type === 'revoked') {
      for (const ref of effect.partitions) this.#claims.delete(key(ref));
    } else if (effect.type === 'assigned') {
      for (const ref of effect.added) {
        if (this.#claims.has(key(ref))) continue;
        this.#claims.set(key(ref), { memberId: effect.memberId, generations: new Set() });
      }
    }
  }

  /** 7 and 8 */
  #toldAll(): void {
    const now = this.group.snapshot();
    expect(this.durable.snapshot()).toEqual(now);
    expect(this.onlooker.holders).toEqual(new Map(now.assignments.map((row) => [key(row), row.memberId])));
    const revoking = this.revoking().map(({ ref }) => key(ref));
    expect(this.onlooker.revoking).toEqual(new Set(revoking));
    const moving = revoking.length > 0 || this.group.awaitsPlan ? 'COMPLETING_REBALANCE' : 'STABLE';
    const empty = this.group.state() === 'DEAD' ? 'DEAD' : 'EMPTY';
    expect(this.group.state()).toBe(now.members.length === 0 ? empty : moving);
  }

  /** 12 */
  #replacesAlone(before: Before, effects: readonly GroupEffect[], early: boolean): void {
    const replaced = effects.find((effect) => effect.type === 'replaced');
    if (replaced === undefined || this.#turn.inputs.length !== 1 || !early || this.#turn.stallsChanged) return;
    if (optionsOf(before.snapshot.members) !== optionsOf(this.group.members())) return;
    const { oldMemberId, memberId } = replaced;
    const heir = <Row extends { memberId: MemberId }>(row: Row): Row =>
      row.memberId === oldMemberId ? { ...row, memberId } : row;
    expect(this.group.snapshot().assignments).toEqual(before.snapshot.assignments.map(heir));
    expect(this.onlooker.revoking).toEqual(before.revoking);
    expect(this.group.generation).toBe(before.snapshot.generation);
  }

  /** 13 */
  #stalledHoldNothing(): void {
    for (const { memberId } of this.group.members())
      if (this.group.isStalled(memberId)) expect(partitionsOf(this.group, memberId)).toEqual([]);
  }

  /** 15 */
  #reported(before: Before, effects: readonly GroupEffect[]): void {
    if (this.group.generation > before.snapshot.generation) this.#running.add(this.group.generation);
    for (const effect of effects) {
      if (effect.type !== 'rebalanced') continue;
      const { generation, causes, assignedCount } = effect.rebalance;
      expect(this.#running.delete(generation), `generation ${generation} is reported twice`).toBe(true);
      expect(causes.length).toBeGreaterThan(0);
      this.#reportedCount += assignedCount;
    }
    if (this.group.state() === 'COMPLETING_REBALANCE') return;
    expect(this.#running).toEqual(new Set());
    expect(this.#reportedCount).toBe(this.#assignedCount);
  }

  /** The plan that an honest leader would make, without regard to who has what. */
  honestPlan(): PlannedPartition[] {
    const takers = this.#takers();
    return Array.from(this.topics).flatMap(([topicId, partitions]) => {
      const readers = takers.filter((member) => member.topicIds.includes(topicId));
      if (readers.length === 0 || this.withheld.has(topicId)) return [];
      return Array.from({ length: partitions }, (_, partition) => {
        const reader = readers[(partition + this.group.generation) % readers.length] as MemberRow;
        return { topicId, partition, memberId: reader.memberId };
      });
    });
  }
}

function newTurn(): OpenTurn {
  return { inputs: [], refused: new Set(), idle: new Set(), stallsChanged: false };
}

function isUndoneJoin({ input, reason }: Extract<GroupEffect, { type: 'refused' }>): boolean {
  return input.type === 'join' && reason === 'ASSIGNOR_FAILED';
}

function orSticky(assignor: Assignor | undefined): Assignor {
  return (input) => {
    try {
      const assignment = assignor?.(input);
      if (assignment?.size === input.topics.length) return assignment;
    } catch {
      // Where nobody can be refused, sticky decides.
    }
    return sticky(input);
  };
}

/** What an assignor or a leader would see of the members. */
function optionsOf(members: readonly MemberRow[]): string {
  return JSON.stringify(members.map((m) => [m.joinSeq, m.topicIds, m.assignor, m.clientAssignors, [...m.metadata]]));
}

function seqsOf(members: readonly MemberRow[]): Map<MemberId, number> {
  return new Map(members.map(({ memberId, joinSeq }) => [memberId, joinSeq]));
}

function byKey({ assignments }: GroupSnapshot): Map<string, AssignmentRow> {
  return new Map([...assignments].sort(byPartition).map((row) => [key(row), row]));
}
