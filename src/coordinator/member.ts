import type { AssignmentRow, MemberId, MemberRow, PartitionRef } from './snapshot.ts';

/**
 * What partitions have as their target: one process of an instance after another. So a process that
 * takes the place of another need not look at 100,000 partitions.
 */
interface Post {
  member: Member;
}

/** The group's state of a member. */
export class Member {
  row: MemberRow;
  /**
   * The end of its session without a sign of life; Infinity for a member that lives with its
   * stream.
   */
  deadlineMs = Infinity;
  /** When to check its progress. */
  pollDeadlineMs = Infinity;
  /** It made no progress for its max poll interval: it gets nothing until it does. */
  stalled = false;
  readonly held = new HeldPartitions();
  /** Its place in the last input of an assignor. */
  index = -1;
  /** What it is the target of. */
  post: Post = { member: this };
  /** The partitions of the open turn, one list for each `Gathered` (turn.ts), if it has any. */
  gathered: (PartitionRef[] | null)[] | null = null;

  constructor(row: MemberRow) {
    this.row = row;
  }

  /** Takes the place of another process of its instance. */
  succeed(old: Member): void {
    this.post = old.post;
    this.post.member = this;
  }

  /** A sign of life. */
  renew(nowMs: number): void {
    const { sessionTimeoutMs } = this.row;
    this.deadlineMs = sessionTimeoutMs === null ? Infinity : nowMs + sessionTimeoutMs;
  }

  /** A sign of work. A member with nothing to ack is checked again after one interval. */
  progress(busySinceMs: number): void {
    this.pollDeadlineMs = busySinceMs + this.row.maxPollIntervalMs;
  }
}

export function sameMemberRow(a: MemberRow, b: MemberRow): boolean {
  return (
    a.memberId === b.memberId &&
    a.clientId === b.clientId &&
    a.host === b.host &&
    a.instanceId === b.instanceId &&
    a.kind === b.kind &&
    a.sessionTimeoutMs === b.sessionTimeoutMs &&
    a.rebalanceTimeoutMs === b.rebalanceTimeoutMs &&
    a.maxPollIntervalMs === b.maxPollIntervalMs &&
    a.joinSeq === b.joinSeq &&
    sameOptions(a, b)
  );
}

/** Whether the two rows are the same to an assignor. */
export function sameOptions(a: MemberRow, b: MemberRow): boolean {
  return (
    a.assignor === b.assignor &&
    same(a.topicIds, b.topicIds) &&
    same(a.clientAssignors, b.clientAssignors) &&
    same(a.metadata, b.metadata)
  );
}

function same<T>(a: ArrayLike<T>, b: ArrayLike<T>): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/**
 * The partitions of a member, in the order in which it got them. They are linked to each other: a
 * set takes four times as long, and one step may move 100,000.
 */
class HeldPartitions {
  #first: Partition | null = null;
  #last: Partition | null = null;
  #size = 0;

  get first(): Partition | null {
    return this.#first;
  }

  get size(): number {
    return this.#size;
  }

  add(partition: Partition): void {
    partition.heldBefore = this.#last;
    if (this.#last === null) this.#first = partition;
    else this.#last.heldAfter = partition;
    this.#last = partition;
    this.#size++;
  }

  delete(partition: Partition): void {
    const { heldBefore, heldAfter } = partition;
    if (heldBefore === null) this.#first = heldAfter;
    else heldBefore.heldAfter = heldAfter;
    if (heldAfter === null) this.#last = heldBefore;
    else heldAfter.heldBefore = heldBefore;
    partition.heldBefore = partition.heldAfter = null;
    this.#size--;
  }
}

/**
 * The group's state of a partition. It has one slot for a holder, so two members can never hold it.
 */
export class Partition {
  readonly ref: PartitionRef;
  holder: Member | null = null;
  sinceGeneration = 0;
  /** Its neighbours among the partitions of its holder. */
  heldBefore: Partition | null = null;
  heldAfter: Partition | null = null;
  /** Set while the partition is being revoked: the time at which it is taken at the latest. */
  revokeDeadlineMs: number | null = null;
  /** The partition lost its holder since partitions were last given. */
  isFreed = false;
  /** What the last turn that has changed its holder puts here, and its row before that turn. */
  touchedIn: object | null = null;
  memberBefore: MemberId | null = null;
  generationBefore = 0;
  #target: Post | null = null;

  constructor(ref: PartitionRef) {
    this.ref = ref;
  }

  /** The member that should have it, by the last rebalance. */
  get target(): Member | null {
    return this.#target?.member ?? null;
  }

  set target(member: Member | null) {
    this.#target = member?.post ?? null;
  }

  hold(member: Member, sinceGeneration: number): void {
    this.holder?.held.delete(this);
    this.holder = member;
    this.sinceGeneration = sinceGeneration;
    member.held.add(this);
  }

  letGo(): void {
    this.holder?.held.delete(this);
    this.holder = null;
    this.revokeDeadlineMs = null;
  }

  /** Its durable row; null without a holder. */
  row(): AssignmentRow | null {
    if (this.holder === null) return null;
    const { topicId, partition } = this.ref;
    // Written out, because a spread takes ten times as long, and one step may make 100,000 rows.
    return { topicId, partition, memberId: this.holder.row.memberId, sinceGeneration: this.sinceGeneration };
  }
}
