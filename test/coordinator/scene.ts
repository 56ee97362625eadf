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
  type PlannedPartition,
} from '../../src/coordinator/group.ts';

export type GroupOptions = NonNullable<ConstructorParameters<typeof Group>[2]>;

/**
 * A database of one group in memory: applies the durable changes, and fails on one that changes
 * nothing.
 */
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
    const different = JSON.stringify(this.snapshot()) !== before || change.rebalances.length > 0;
    must(different, 'a change that changes nothing');
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
        return;
      case 'replaced':
        for (const [ref, memberId] of this.holders)
          if (memberId === effect.oldMemberId) this.holders.set(ref, effect.memberId);
        return;
      case 'refused':
      case 'assignorFailed':
      case 'rebalanced':
        return;
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

/**
 * A group with its database and an onlooker, a clock that the test turns, and members of which it
 * says what they do.
 */
export class Scene {
  nowMs = 0;
  group: Group;
  readonly durable = new DurableGroup();
  onlooker: Onlooker;
  /**
   * Since when a member has not acked what it was given; who is missing here has nothing to ack.
   */
  readonly busySinceMs = new Map<MemberId, number>();
  readonly options: GroupOptions;
  /** What may still be refused: a join that was gathered is when its rebalance fails. */
  #open: GroupInput[] = [];

  constructor(options: GroupOptions = {}) {
    this.options = options;
    this.group = new Group(this.durable.snapshot(), 0, options);
    this.onlooker = new Onlooker(this.durable.snapshot());
  }

  step(...inputs: GroupInput[]): GroupEffect[] {
    const given = [...this.asked(), ...inputs];
    this.#open.push(...given);
    const effects = this.group.step(given, this.nowMs);
    effects.forEach((effect, index) => {
      if (effect.type === 'persist') must(index === 0, 'a persist that does not come first');
      if (effect.type === 'persist') this.durable.apply(effect.change);
      if (effect.type === 'refused') this.#refused(effect.input);
      this.onlooker.see(effect);
    });
    const first = effects[0];
    const reported = effects.flatMap((effect) => (effect.type === 'rebalanced' ? [effect.rebalance] : []));
    const written = first?.type === 'persist' ? first.change.rebalances : [];
    must(JSON.stringify(reported) === JSON.stringify(written), 'rebalances are told other than written');
    if (!this.group.preparing) this.#open = [];
    return effects;
  }

  #refused(input: GroupInput): void {
    const index = this.#open.indexOf(input);
    must(index >= 0, 'an input is refused that nobody has sent, or twice');
    this.#open.splice(index, 1);
  }

  /** What the shell says of the members that the group asks about. */
  asked(): GroupInput[] {
    return this.group.overdue(this.nowMs).map((memberId) => progress(memberId, this.busySinceMs.get(memberId) ?? null));
  }

  /** The broker dies; another one loads what is durable. */
  takeOver(): void {
    this.group = new Group(this.durable.snapshot(), this.nowMs, this.options);
    this.onlooker = new Onlooker(this.durable.snapshot());
    this.#open = [];
  }

  /** The broker dies before it has written the effects of these inputs, and none is carried out. */
  crash(...inputs: GroupInput[]): void {
    this.group.step(inputs, this.nowMs);
    this.takeOver();
  }

  /** Partitions that are being given back, in order. */
  revoking(): { readonly memberId: MemberId; readonly ref: PartitionRef }[] {
    return this.group
      .members()
      .flatMap(({ memberId }) => revokingOf(this.group, memberId).map((ref) => ({ memberId, ref })));
  }
}

/** Whether an ack of this member that names this generation would count. */
export function accepts(scene: Scene, memberId: string, partition: number, generation: number): boolean {
  const holder = scene.group.holder({ topicId: 1, partition });
  return holder?.memberId === memberId && holder.sinceGeneration <= generation && generation <= scene.group.generation;
}

/** A member whose session outlives its stream, unless `sessionTimeoutMs` says null. */
export function join(memberId: string, topicIds: readonly number[] = [1], row: Partial<MemberRow> = {}): GroupInput {
  const member: Omit<MemberRow, 'joinSeq'> = {
    memberId: id(memberId),
    clientId: 'client',
    host: '127.0.0.1',
    instanceId: null,
    kind: 'STREAM',
    sessionTimeoutMs: 30_000,
    rebalanceTimeoutMs: 60_000,
    maxPollIntervalMs: 300_000,
    assignor: 'sticky',
    clientAssignors: [],
    metadata: new Uint8Array(),
    ...row,
    topicIds,
  };
  return { type: 'join', member };
}

/** A member that lives as long as its stream. */
export function joinByStream(memberId: string, topicIds: readonly number[] = [1]): GroupInput {
  return join(memberId, topicIds, { sessionTimeoutMs: null });
}

/** A process of an instance: it takes the place of an earlier one. */
export function joinInstance(memberId: string, instanceId: string, row: Partial<MemberRow> = {}): GroupInput {
  return join(memberId, [1], { ...row, instanceId });
}

/** A member that can give out partitions by these rules. */
export function joinClassic(memberId: string, clientAssignors: string[] = ['even'], row: Partial<MemberRow> = {}) {
  return join(memberId, [1], { kind: 'CLASSIC', clientAssignors, ...row });
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

/** `null`: the member has nothing to ack. */
export function progress(memberId: string, busySinceMs: number | null): GroupInput {
  return { type: 'progress', memberId: id(memberId), busySinceMs };
}

/** A plan for topic 1: by partition the member. */
export function assign(memberId: string, generation: number, ...owners: string[]): GroupInput {
  const plan = owners.map((owner, partition): PlannedPartition => ({ topicId: 1, partition, memberId: id(owner) }));
  return { type: 'assign', memberId: id(memberId), generation, plan };
}

export function hold(held: boolean, topicId = 1): GroupInput {
  return { type: 'hold', topicId, held };
}

export const remove: GroupInput = { type: 'delete' };

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

/** All partitions that a member holds, also those being revoked; by topic and partition. */
export function partitionsOf(group: Group, memberId: MemberId): PartitionRef[] {
  return group
    .snapshot()
    .assignments.filter((row) => row.memberId === memberId)
    .map(({ topicId, partition }) => ({ topicId, partition }))
    .sort((a, b) => a.topicId - b.topicId || a.partition - b.partition);
}

/** The member's partitions that are being revoked; by topic and partition. */
export function revokingOf(group: Group, memberId: MemberId): PartitionRef[] {
  return partitionsOf(group, memberId).filter((ref) => group.holder(ref)?.revoking === true);
}
