import { expect } from 'vitest';
import { builtInAssignors } from '../../src/coordinator/assignors/built-in.ts';
import type { AssignmentRow, GroupEffect, GroupInput, GroupSnapshot, MemberId } from '../../src/coordinator/group.ts';
import { key, Scene } from './scene.ts';

/** The group before a step, as far as the invariants compare it with the group after. */
interface Before {
  readonly snapshot: GroupSnapshot;
  readonly holders: ReadonlyMap<string, AssignmentRow>;
  readonly revoking: ReadonlySet<string>;
  readonly fresh: boolean;
}

/**
 * A scene whose every step is checked against the invariants of SPEC.md. The checks know nothing of how the group works:
 * they look at its snapshot, at what its effects told an onlooker and a database, and at the inputs.
 */
export class CheckedScene extends Scene {
  readonly topics = new Map<number, number>();
  /** By partition and member the generation since which the member held it last. */
  readonly #lastSince = new Map<string, number>();
  #fresh = true;

  override takeOver(): void {
    super.takeOver();
    this.#fresh = true;
  }

  override step(...inputs: GroupInput[]): GroupEffect[] {
    const before: Before = {
      snapshot: this.group.snapshot(),
      holders: byKey(this.group.snapshot()),
      revoking: new Set(this.onlooker.revoking),
      fresh: this.#fresh,
    };
    const all = this.#fresh ? [...this.#topicInputs(inputs), ...inputs] : inputs;
    for (const input of all) if (input.type === 'topic') this.topics.set(input.topicId, input.partitions);
    const effects = super.step(...all);
    this.#fresh = false;
    this.#singleHolder();
    this.#movesByRevocation(before, all);
    this.#keepsWhatStays(before, effects);
    this.#complete();
    this.#generationOnce(before, all, effects);
    this.#laterEachTime(before);
    this.#toldAll();
    return effects;
  }

  /** The first step after a takeover names every topic. */
  #topicInputs(inputs: readonly GroupInput[]): GroupInput[] {
    const named = new Set(inputs.map((input) => (input.type === 'topic' ? input.topicId : null)));
    return Array.from(this.topics, ([topicId, partitions]) => ({ type: 'topic' as const, topicId, partitions })).filter(
      (input) => !named.has(input.topicId),
    );
  }

  /** 1 */
  #singleHolder(): void {
    const { assignments, members } = this.group.snapshot();
    expect(new Set(assignments.map(key)).size).toBe(assignments.length);
    const ids = members.map((member) => member.memberId);
    for (const row of assignments) expect(ids).toContain(row.memberId);
    expect(members.flatMap((member) => this.group.partitionsOf(member.memberId)).length).toBe(assignments.length);
  }

  /** 2 */
  #movesByRevocation(before: Before, inputs: readonly GroupInput[]): void {
    const joinSeqs = new Map(before.snapshot.members.map((member) => [member.memberId, member.joinSeq]));
    const dropped = new Set(inputs.flatMap((input) => (input.type === 'topic' ? [input.topicId] : [])));
    for (const row of before.snapshot.assignments) {
      const now = this.group.holder(row);
      if (now?.memberId === row.memberId || dropped.has(row.topicId)) continue;
      const stayed = this.group.member(row.memberId)?.joinSeq === joinSeqs.get(row.memberId);
      if (stayed) expect(before.revoking, `${key(row)} was taken from ${row.memberId} unasked`).toContain(key(row));
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
        } else {
          expect(before.revoking, `${key(ref)} stays, and was announced`).toContain(key(ref));
        }
      }
    }
  }

  /** 4 */
  #complete(): void {
    const members = this.group.members();
    for (const [topicId, partitions] of this.topics) {
      if (!members.some((member) => member.topicIds.includes(topicId))) continue;
      for (let partition = 0; partition < partitions; partition++) {
        expect(this.group.holder({ topicId, partition }), `${topicId}/${partition} is free`).toBeDefined();
      }
    }
    if (this.group.state() === 'STABLE') this.#asAssigned();
  }

  /** What the assignor would do with the group as it is: nothing. */
  #asAssigned(): void {
    const members = this.group.members();
    const topics = Array.from(this.topics, ([topicId, partitions]) => ({ topicId, partitions }))
      .filter(({ partitions }) => partitions > 0)
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
    const assignor = builtInAssignors.get(this.group.assignor);
    expect(assignor?.({ members, topics, previous: held })).toEqual(held);
  }

  /** 5 */
  #generationOnce(before: Before, inputs: readonly GroupInput[], effects: readonly GroupEffect[]): void {
    const rise = this.group.generation - before.snapshot.generation;
    expect([0, 1]).toContain(rise);
    const seqs = (members: GroupSnapshot['members']): string => members.map((m) => `${m.memberId} ${m.joinSeq}`).join();
    if (seqs(this.group.members()) !== seqs(before.snapshot.members)) expect(rise).toBe(1);
    const asked = effects.some((effect) => effect.type === 'revoking');
    if (asked) expect(rise).toBe(1);
    const harmless = ['alive', 'drained', 'tick', 'leave'];
    const removed = effects.some((effect) => effect.type === 'removed');
    if (!before.fresh && !removed && inputs.every((input) => harmless.includes(input.type))) expect(rise).toBe(0);
  }

  /** 6 */
  #laterEachTime(before: Before): void {
    for (const row of this.group.snapshot().assignments) {
      const was = before.holders.get(key(row));
      const held = `${key(row)} ${row.memberId}`;
      const last = this.#lastSince.get(held);
      if (was?.memberId === row.memberId && was.sinceGeneration === row.sinceGeneration) continue;
      if (last !== undefined) expect(row.sinceGeneration).toBeGreaterThan(last);
      expect(row.sinceGeneration).toBe(this.group.generation);
      this.#lastSince.set(held, row.sinceGeneration);
    }
  }

  /** 7 and 8 */
  #toldAll(): void {
    const now = this.group.snapshot();
    expect(this.durable.snapshot()).toEqual(now);
    expect(this.onlooker.holders).toEqual(new Map(now.assignments.map((row) => [key(row), row.memberId])));
    const revoking = now.members.flatMap(({ memberId }) => this.group.revokingOf(memberId).map(key));
    expect(this.onlooker.revoking).toEqual(new Set(revoking));
    expect(this.group.state()).toBe(
      now.members.length === 0 ? 'EMPTY' : revoking.length > 0 ? 'RECONCILING' : 'STABLE',
    );
  }

  /** Partitions that are being given back, in order. */
  revoking(): { readonly memberId: MemberId; readonly ref: { topicId: number; partition: number } }[] {
    return this.group
      .members()
      .flatMap(({ memberId }) => this.group.revokingOf(memberId).map((ref) => ({ memberId, ref })));
  }
}

function byKey({ assignments }: GroupSnapshot): Map<string, AssignmentRow> {
  return new Map(assignments.map((row) => [key(row), row]));
}
