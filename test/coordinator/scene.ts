import {
  Group,
  type AssignmentRow,
  type GroupChange,
  type GroupEffect,
  type GroupInput,
  type GroupSnapshot,
  type MemberId,
  type MemberRow,
  type PartitionRef,
} from '../../src/coordinator/group.ts';

/** A database of one group in memory: applies what is to be made durable, and refuses what would be no difference. */
export class DurableGroup {
  #generation = 0;
  readonly #members = new Map<MemberId, MemberRow>();
  readonly #assignments = new Map<string, AssignmentRow>();

  apply(change: GroupChange): void {
    const before = JSON.stringify(this.snapshot());
    this.#generation = change.generation;
    for (const memberId of change.removedMembers) must(this.#members.delete(memberId), `${memberId} was not there`);
    for (const ref of change.removedAssignments) must(this.#assignments.delete(key(ref)), `${key(ref)} was free`);
    for (const row of change.putMembers)
      this.#put(this.#members, row.memberId, row, change.removedMembers.includes(row.memberId));
    for (const row of change.putAssignments) {
      const removed = change.removedAssignments.some((ref) => key(ref) === key(row));
      this.#put(this.#assignments, key(row), row, removed);
    }
    must(JSON.stringify(this.snapshot()) !== before, 'a change that changes nothing');
  }

  snapshot(): GroupSnapshot {
    const members = [...this.#members.values()].sort((a, b) => a.joinSeq - b.joinSeq);
    const assignments = [...this.#assignments.values()].sort(byPartition);
    return { generation: this.#generation, members, assignments };
  }

  #put<K, V>(rows: Map<K, V>, id: K, row: V, removed: boolean): void {
    must(!removed, 'put and removed in one change');
    must(JSON.stringify(rows.get(id)) !== JSON.stringify(row), 'a row is put that is there already');
    rows.set(id, row);
  }
}

/** What somebody knows who saw only the effects: who holds what, and what is being given back. */
export class Onlooker {
  readonly holders = new Map<string, MemberId>();
  readonly revoking = new Set<string>();

  constructor(snapshot: GroupSnapshot) {
    for (const row of snapshot.assignments) this.holders.set(key(row), row.memberId);
  }

  see(effect: GroupEffect): void {
    switch (effect.type) {
      case 'persist':
        return;
      case 'assigned':
        for (const ref of effect.added) this.#assigned(effect.memberId, ref);
        return;
      case 'revoking':
        for (const ref of effect.partitions) {
          must(this.holders.get(key(ref)) === effect.memberId, `${key(ref)} is asked back from who does not hold it`);
          must(!this.revoking.has(key(ref)), `${key(ref)} is asked back twice`);
          this.revoking.add(key(ref));
        }
        return;
      case 'revoked':
        for (const ref of effect.partitions) this.#free(effect.memberId, key(ref));
        return;
      case 'removed':
        for (const [ref, memberId] of this.holders) if (memberId === effect.memberId) this.#free(memberId, ref);
    }
  }

  #assigned(memberId: MemberId, ref: PartitionRef): void {
    const holder = this.holders.get(key(ref));
    const keeps = holder === memberId && this.revoking.has(key(ref));
    must(holder === undefined || keeps, `${key(ref)} is given to ${memberId} while ${holder ?? ''} holds it`);
    this.holders.set(key(ref), memberId);
    this.revoking.delete(key(ref));
  }

  #free(memberId: MemberId, ref: string): void {
    must(this.holders.get(ref) === memberId, `${ref} is taken from who does not hold it`);
    this.holders.delete(ref);
    this.revoking.delete(ref);
  }
}

/** A group with its database and an onlooker, and a clock that the test turns. */
export class Scene {
  nowMs = 0;
  group: Group;
  readonly durable = new DurableGroup();
  onlooker: Onlooker;

  constructor() {
    this.group = new Group(this.durable.snapshot(), 0);
    this.onlooker = new Onlooker(this.durable.snapshot());
  }

  step(...inputs: GroupInput[]): GroupEffect[] {
    const effects = this.group.step(inputs, this.nowMs);
    effects.forEach((effect, index) => {
      if (effect.type === 'persist') must(index === 0, 'a persist that does not come first');
      if (effect.type === 'persist') this.durable.apply(effect.change);
      this.onlooker.see(effect);
    });
    return effects;
  }

  /** The broker dies; another one loads what is durable. */
  takeOver(): void {
    this.group = new Group(this.durable.snapshot(), this.nowMs);
    this.onlooker = new Onlooker(this.durable.snapshot());
  }
}

/** A member whose session outlives its stream, unless `sessionTimeoutMs` says null. */
export function join(memberId: string, topicIds: readonly number[] = [1], row: Partial<MemberRow> = {}): GroupInput {
  const member: Omit<MemberRow, 'joinSeq'> = {
    memberId: id(memberId),
    clientId: 'client',
    host: '127.0.0.1',
    kind: 'STREAM',
    sessionTimeoutMs: 30_000,
    rebalanceTimeoutMs: 60_000,
    assignor: 'sticky',
    ...row,
    topicIds,
  };
  return { type: 'join', member };
}

/** A member that lives as long as its stream. */
export function joinByStream(memberId: string, topicIds: readonly number[] = [1]): GroupInput {
  return join(memberId, topicIds, { sessionTimeoutMs: null });
}

export function leave(memberId: string, reason: 'LEFT' | 'STREAM_LOST' = 'LEFT'): GroupInput {
  return { type: 'leave', memberId: id(memberId), reason };
}

export function alive(memberId: string, ...revoked: PartitionRef[]): GroupInput {
  return { type: 'alive', memberId: id(memberId), revoked };
}

export function drained(partition: number, topicId = 1): GroupInput {
  return { type: 'drained', partition: { topicId, partition } };
}

export function topic(partitions: number, topicId = 1): GroupInput {
  return { type: 'topic', topicId, partitions };
}

export const tick: GroupInput = { type: 'tick' };

export function id(memberId: string): MemberId {
  return memberId as MemberId;
}

export function key({ topicId, partition }: PartitionRef): string {
  return `${topicId}/${partition}`;
}

export function byPartition(a: PartitionRef, b: PartitionRef): number {
  return a.topicId - b.topicId || a.partition - b.partition;
}

function must(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}
