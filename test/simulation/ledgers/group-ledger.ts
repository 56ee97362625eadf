import type { GroupChange, MemberId, RebalanceRow } from '../../../src/coordinator/group.ts';
import type { TopicPartition } from '../../../src/delivery/ports/session.ts';
import type { Rejection } from '../../../src/errors/rejections/rejection.ts';
import type { Database } from '../database/database.ts';
import type { World } from '../world.ts';

/** The receiving member, with the epoch of the broker that sends. */
export interface Recipient {
  readonly epoch: number;
  readonly group: string;
  readonly memberId: MemberId;
}

/** A live process, as its group should know it. */
export interface LiveMember {
  /** Null if its join was rejected or has no answer yet. */
  readonly memberId: MemberId | null;
  readonly topics: readonly string[];
  /** Whether the process never handles a record again. */
  readonly stuck: boolean;
}

/**
 * The assignment that a member got: each partition with the generation since which the member holds
 * it.
 */
interface Told {
  readonly partitions: ReadonlyMap<string, number>;
  /** Whether the client reads too slowly to have been told of later changes. */
  readonly isBehind: () => boolean;
}

/** The holders of a partition, one after the other. */
interface Succession {
  last: string;
  length: number;
  /** The last place of each member. */
  readonly places: Map<MemberId, number>;
}

const nameOf = ({ topic, partition }: TopicPartition): string => `${topic}/${partition}`;

/**
 * Checks what groups make durable and send to members: generations, assignments, fenced members and
 * plans.
 */
export class GroupLedger {
  readonly #world: World;
  readonly #database: Database;
  /** The member of each holding of a partition. */
  readonly #holdings = new Map<string, MemberId>();
  readonly #successions = new Map<string, Succession>();
  /** For each broker and partition the latest place in the succession that got records. */
  readonly #deliveredTo = new Map<string, number>();
  /** The last assignments that each broker has sent to the members of a group. */
  readonly #told = new Map<string, Map<MemberId, Told>>();
  readonly #instances = new Map<MemberId, string>();
  /** Members that were replaced by another process of their instance, each with that member. */
  readonly #successors = new Map<MemberId, MemberId>();
  readonly #plans = new Set<string>();

  constructor(world: World, database: Database) {
    this.#world = world;
    this.#database = database;
  }

  row(name: string) {
    return this.#database.groups.groups.find((group) => group.name === name);
  }

  /** The member that has taken over the instance of this one. */
  successorOf(memberId: MemberId): MemberId | undefined {
    return this.#successors.get(memberId);
  }

  /** The durable holder of the partition. */
  holding(group: string, { topic, partition }: TopicPartition) {
    return this.row(group)?.assignments.get(`${this.#topicId(topic)}/${partition}`);
  }

  /** Checks a change of a group that is being committed. */
  saved(groupId: number, change: GroupChange, epoch: number): void {
    const row = this.#database.groups.groups.find(({ id }) => id === groupId)!;
    const said = `epoch ${epoch} saves generation ${change.generation} of ${row.name}`;
    this.#world.note(`${said}${summaryOf(change)}`);
    this.#world.demand(change.generation >= row.generation, () => `${said}, which is at ${row.generation}`);
    this.#instancesSaved(change);
    for (const one of change.rebalances) this.#rebalanced(one);
    for (const { topicId, partition, memberId, sinceGeneration } of change.putAssignments) {
      const name = `${groupId}:${topicId}/${partition}`;
      const holding = `${name} since ${sinceGeneration}`;
      const holder = this.#holdings.get(holding) ?? memberId;
      this.#world.demand(
        holder === memberId || this.#successors.get(holder) === memberId,
        () => `${said}: ${holding} is given to ${memberId} and was to ${holder}`,
      );
      this.#holdings.set(holding, memberId);
      const before = row.assignments.get(`${topicId}/${partition}`)?.sinceGeneration ?? 0;
      this.#world.demand(sinceGeneration >= before, () => `${said}: ${holding}, and before since ${before}`);
      this.#world.demand(sinceGeneration <= change.generation, () => `${said}: ${holding}`);
      this.#succeeded(name, memberId, sinceGeneration);
    }
  }

  /** Checks that the generation of a message to a member is durable. */
  generationTold({ group, memberId }: Recipient, generation: number): void {
    const durable = this.row(group)?.generation ?? 0;
    this.#world.demand(
      generation <= durable,
      () => `${memberId} of ${group} is told of generation ${generation} when ${durable} is durable`,
    );
  }

  /**
   * Checks an assignment that is sent to a member. No other member of this broker may still have
   * one of its partitions, unless its client does not read. The assignment must have all older
   * partitions that the member has not lost.
   */
  assignmentTold(
    { epoch, group, memberId }: Recipient,
    partitions: readonly TopicPartition[],
    generation: number,
    isBehind: Told['isBehind'] = () => false,
  ): void {
    const told = this.#toldIn(epoch, group);
    // A holding of a later generation is durable, and the broker does not know of it yet.
    const since = (one: TopicPartition): number => {
      const { sinceGeneration } = this.holding(group, one) ?? { sinceGeneration: 0 };
      return sinceGeneration <= generation ? sinceGeneration : 0;
    };
    const own = new Map(partitions.map((one) => [nameOf(one), since(one)]));
    for (const [other, theirs] of told) {
      if (other === memberId || theirs.isBehind()) continue;
      for (const one of own.keys()) {
        this.#world.demand(
          !theirs.partitions.has(one),
          () => `${group}: ${one} is ${memberId}'s while ${other} still has it`,
        );
      }
    }
    for (const [one, sinceGeneration] of told.get(memberId)?.partitions ?? []) {
      if (own.has(one)) continue;
      const [topic, partition] = one.split('/') as [string, string];
      const now = this.holding(group, { topic, partition: Number(partition) });
      this.#world.demand(
        now?.memberId !== memberId || now.sinceGeneration !== sinceGeneration,
        () => `${group}: ${memberId} is told that it has lost ${one}, which it holds since ${sinceGeneration}`,
      );
    }
    told.set(memberId, { partitions: own, isBehind });
  }

  /** Called when the broker sees the end of the member's stream. */
  streamEnded({ epoch, group, memberId }: Recipient): void {
    this.#toldIn(epoch, group).delete(memberId);
  }

  /**
   * Checks that the receiver of records holds or held the partition, and that no later holder got
   * records before.
   */
  delivered({ epoch, group, memberId }: Recipient, of: TopicPartition): void {
    const name = `${this.row(group)!.id}:${this.#topicId(of.topic)}/${of.partition}`;
    const place = this.#successions.get(name)?.places.get(memberId);
    const latest = this.#deliveredTo.get(`${epoch}/${name}`) ?? 0;
    if (place === undefined) this.#world.violated(`${group}: ${nameOf(of)} goes to ${memberId}, whose it never was`);
    else if (place >= latest) this.#deliveredTo.set(`${epoch}/${name}`, place);
    else this.#world.violated(`${group}: ${nameOf(of)} goes to ${memberId}, whose it was before it was another's`);
  }

  /** Checks that a fenced client, which stops, is no longer the member of its instance. */
  refusalTold({ reason, metadata }: Rejection): void {
    if (reason !== 'INSTANCE_FENCED') return;
    const memberId = metadata['memberId'] as MemberId;
    const group = this.#database.groups.groups.find(({ members }) => members.has(memberId));
    this.#world.demand(
      group === undefined,
      () => `${memberId} is told that its instance is another's, and is a member of ${group?.name}`,
    );
  }

  /**
   * Checks a leader's plan that a broker has taken. `durable` is the generation at its arrival. A
   * broker that was replaced without knowing it may take an old plan, but cannot write its result.
   */
  planTaken(epoch: number, group: string, generation: number, durable: number): void {
    this.#world.count('a plan is taken');
    const plan = `the plan for generation ${generation} of ${group}`;
    this.#world.demand(
      generation >= durable || epoch !== this.#database.epoch,
      () => `${plan} is taken, and came in generation ${durable}`,
    );
    this.#world.demand(!this.#plans.has(plan), () => `${plan} is taken twice`);
    this.#plans.add(plan);
  }

  /** What prevents that every member that should have partitions has some; null if nothing does. */
  missing(name: string, live: readonly LiveMember[], mayRefuse: boolean): string | null {
    const row = this.row(name);
    if (row === undefined) return `${name} does not exist`;
    const ids = new Set(live.map(({ memberId }) => memberId));
    for (const memberId of row.members.keys()) {
      if (!ids.has(memberId)) return `${memberId} is a member of ${name}, and no process is it`;
    }
    const holders = new Set(Array.from(row.assignments.values(), ({ memberId }) => memberId));
    for (const { memberId, topics, stuck } of live) {
      const member = memberId === null ? undefined : row.members.get(memberId);
      if (member === undefined) {
        if (stuck || mayRefuse) continue;
        return `a process is not a member of ${name}`;
      }
      if (stuck) continue;
      if (member.topicIds.length !== topics.length) return `${memberId} of ${name} does not read what it wants`;
      if (holders.has(member.memberId) || !this.#isOwed(row.members.values(), member.topicIds)) continue;
      return `${memberId} of ${name} has nothing`;
    }
    return null;
  }

  /**
   * Whether a topic has a partition for each reader, so that every assignor gives each reader one.
   */
  #isOwed(members: Iterable<{ readonly topicIds: readonly number[] }>, topicIds: readonly number[]): boolean {
    const all = [...members];
    return topicIds.some((topicId) => {
      const readers = all.filter((one) => one.topicIds.includes(topicId)).length;
      return this.#database.log.topics.get(topicId)!.row.partitions.length >= readers;
    });
  }

  #instancesSaved({ putMembers, removedMembers }: GroupChange): void {
    for (const { memberId, instanceId } of putMembers) {
      if (instanceId === null) continue;
      this.#instances.set(memberId, instanceId);
      for (const removed of removedMembers) {
        if (this.#instances.get(removed) !== instanceId || this.#successors.has(removed)) continue;
        this.#successors.set(removed, memberId);
        this.#world.note(`${memberId} takes the place of ${removed}`);
        this.#world.count('a process takes the place of another one of its instance');
      }
    }
  }

  #rebalanced({ causes }: RebalanceRow): void {
    for (const { reason } of causes) this.#world.count(`a rebalance because of ${reason}`);
  }

  #succeeded(name: string, memberId: MemberId, sinceGeneration: number): void {
    let succession = this.#successions.get(name);
    if (succession === undefined)
      this.#successions.set(name, (succession = { last: '', length: 0, places: new Map() }));
    const last = `${memberId} since ${sinceGeneration}`;
    if (succession.last === last) return;
    succession.last = last;
    succession.places.set(memberId, ++succession.length);
  }

  #topicId(name: string): number {
    return this.#database.log.idOf(name);
  }

  #toldIn(epoch: number, group: string): Map<MemberId, Told> {
    const name = `${epoch}/${group}`;
    let told = this.#told.get(name);
    if (told === undefined) this.#told.set(name, (told = new Map<MemberId, Told>()));
    return told;
  }
}

function summaryOf({
  putMembers,
  removedMembers,
  putAssignments,
  removedAssignments,
  rebalances,
}: GroupChange): string {
  const parts = [
    ...removedMembers.map((memberId) => `-${memberId}`),
    ...putMembers.map(({ memberId }) => `+${memberId}`),
    ...removedAssignments.map(({ topicId, partition }) => `${topicId}/${partition} to nobody`),
    ...putAssignments.map(({ topicId, partition, memberId }) => `${topicId}/${partition} to ${memberId}`),
    ...rebalances.flatMap(({ causes }) => causes.map(({ reason }) => reason)),
  ];
  return parts.map((part) => `, ${part}`).join('');
}
