import type { AssignmentRow, MemberRow, PartitionRef } from './snapshot.ts';

/** The group's state of a member. */
export class Member {
  row: MemberRow;
  readonly held = new Set<Partition>();
  /**
   * The end of its session without a sign of life; Infinity for a member that lives with its
   * stream.
   */
  deadlineMs = Infinity;
  /** When to check its progress. */
  pollDeadlineMs = Infinity;
  /** It made no progress for its max poll interval: it gets nothing until it does. */
  stalled = false;

  constructor(row: MemberRow) {
    this.row = row;
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
 * The group's state of a partition. It has one slot for a holder, so two members can never hold it.
 */
export class Partition {
  readonly ref: PartitionRef;
  holder: Member | null = null;
  sinceGeneration = 0;
  /** The member that should have it, by the last rebalance. */
  target: Member | null = null;
  /** Set while the partition is being revoked: the time at which it is taken at the latest. */
  revokeDeadlineMs: number | null = null;
  /** What the last turn that has changed its holder puts here, and the row before that turn. */
  touchedIn: object | null = null;
  rowBefore: AssignmentRow | null = null;

  constructor(ref: PartitionRef) {
    this.ref = ref;
  }

  hold(member: Member, sinceGeneration: number): void {
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
