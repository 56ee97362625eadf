import type { Partition } from './partition.ts';
import type { MemberRow } from './snapshot.ts';

/** A member as the group keeps it. */
export class Member {
  row: MemberRow;
  readonly held = new Set<Partition>();
  /** When its session ends without a sign of life; Infinity for one that lives as long as its stream. */
  deadlineMs = Infinity;

  constructor(row: MemberRow) {
    this.row = row;
  }

  /** A sign of life. */
  renew(nowMs: number): void {
    const { sessionTimeoutMs } = this.row;
    this.deadlineMs = sessionTimeoutMs === null ? Infinity : nowMs + sessionTimeoutMs;
  }
}

export function sameMemberRow(a: MemberRow, b: MemberRow): boolean {
  return (
    a.memberId === b.memberId &&
    a.clientId === b.clientId &&
    a.host === b.host &&
    a.kind === b.kind &&
    a.sessionTimeoutMs === b.sessionTimeoutMs &&
    a.rebalanceTimeoutMs === b.rebalanceTimeoutMs &&
    a.assignor === b.assignor &&
    a.joinSeq === b.joinSeq &&
    sameTopics(a.topicIds, b.topicIds)
  );
}

export function sameTopics(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((topicId, index) => topicId === b[index]);
}
