import { Group } from '../../../src/coordinator/group.ts';
import type { GroupEffect, GroupInput, MemberId, MemberRow } from '../../../src/coordinator/group.ts';

/**
 * The coordinator of a group alone. Its decisions count as durable at once. Members release revoked
 * partitions at once, as members with nothing in flight do. A step ends when no partition moves.
 */
export class DrivenGroup {
  readonly group = new Group({ generation: 0, members: [], assignments: [] }, 0);
  /** The number of rows that a store would have written. */
  rowsWritten = 0;

  constructor(topics: number, partitions: number) {
    const each = partitions / topics;
    this.step(Array.from({ length: topics }, (_, at) => ({ type: 'topic', topicId: at + 1, partitions: each })));
  }

  step(inputs: readonly GroupInput[], nowMs = 0): void {
    for (let next = inputs; next.length > 0;) next = this.givenBack(this.group.step(next, nowMs));
  }

  /** One heartbeat. */
  alive(memberId: MemberId, nowMs: number): void {
    this.group.step([{ type: 'alive', memberId, revoked: [] }], nowMs);
  }

  get memberCount(): number {
    return this.group.memberCount;
  }

  /** Counts the rows of a step. @returns the inputs that its effects cause. */
  givenBack(effects: readonly GroupEffect[]): GroupInput[] {
    const drained: GroupInput[] = [];
    for (const effect of effects) {
      if (effect.type === 'refused') throw new Error(`the coordinator rejected an input: ${effect.message}`);
      if (effect.type === 'persist') {
        const { putMembers, removedMembers, putAssignments, removedAssignments } = effect.change;
        this.rowsWritten += putMembers.length + removedMembers.length;
        this.rowsWritten += putAssignments.length + removedAssignments.length;
      } else if (effect.type === 'revoking') {
        for (const partition of effect.partitions) drained.push({ type: 'drained', partition });
      }
    }
    return drained;
  }
}

export function joining(
  name: string,
  topics: number,
  assignor: string,
  options: Partial<Pick<MemberRow, 'instanceId' | 'clientAssignors'>> = {},
): GroupInput {
  return {
    type: 'join',
    member: {
      memberId: name as MemberId,
      clientId: 'bench',
      host: '127.0.0.1',
      instanceId: null,
      kind: 'STREAM',
      sessionTimeoutMs: 1_800_000,
      rebalanceTimeoutMs: 60_000,
      maxPollIntervalMs: 86_400_000,
      assignor,
      clientAssignors: [],
      metadata: new Uint8Array(),
      topicIds: Array.from({ length: topics }, (_, at) => at + 1),
      ...options,
    },
  };
}

export function leaving(name: string): GroupInput {
  return { type: 'leave', memberId: name as MemberId, reason: 'LEFT' };
}
