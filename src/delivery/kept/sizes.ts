import { textBytes, weights } from '../../account/weights.ts';
import type { MemberRow } from '../../coordinator/group.ts';
import type { AckLogSize, GroupSize } from '../ports/store.ts';
import type { KeptBytes } from './kept.ts';

/** What the account counts for the parts of a group. */

export function groupBytes(name: string): number {
  return weights.group + textBytes(name);
}

/** `cursors`: one for each log of the topic. */
export function subscriptionBytes(cursors: number): number {
  return weights.subscription + cursors * weights.cursor;
}

export function memberBytes(row: Omit<MemberRow, 'joinSeq'>): number {
  const texts = [row.memberId, row.clientId, row.host, row.instanceId ?? '', row.assignor];
  let bytes = weights.member + row.topicIds.length * weights.memberTopic + row.metadata.byteLength;
  for (const text of texts) bytes += textBytes(text);
  for (const text of row.clientAssignors) bytes += weights.memberAssignor + textBytes(text);
  return bytes;
}

/** A member as it is, null if the call adds it, and as it will be. */
export interface MemberGrowth {
  readonly from: MemberRow | null;
  readonly to: Omit<MemberRow, 'joinSeq'>;
}

/**
 * What a call may add to a group, without cursors.
 * @param added the name of the group if it is new.
 */
export function addedBytes(added: {
  readonly newGroup: string | null;
  readonly member: MemberGrowth | null;
}): KeptBytes {
  const { newGroup, member } = added;
  const from = member === null || member.from === null ? 0 : memberBytes(member.from);
  const members = member === null ? 0 : memberBytes(member.to) - from;
  return { groups: newGroup === null ? 0 : groupBytes(newGroup), members };
}

/**
 * The cursors that a call may add for a topic with so many logs.
 * @param unheld how many of the cursors no member has; null without a subscription.
 */
export function addedCursorBytes(logs: number, unheld: number | null, isMember: boolean): number {
  const made = unheld === null ? subscriptionBytes(logs) : 0;
  // The member may get all of them.
  return made + (isMember ? (unheld ?? logs) * weights.heldCursor : 0);
}

/** The note of a committed offset. An empty one is part of the cursor. */
export function noteBytes(text: string): number {
  return text === '' ? 0 : weights.note + textBytes(text);
}

/**
 * An estimate for a group that is not loaded. A cursor counts as held, as those of a group with
 * members are.
 */
export function unloadedBytes(name: string, size: GroupSize): KeptBytes {
  const cursor = size.members > 0 ? weights.cursor + weights.heldCursor : weights.cursor;
  return {
    groups: groupBytes(name),
    members: size.members * weights.member + size.memberBytes,
    cursors: size.topicIds.length * weights.subscription + size.cursors * cursor,
    ...foundBytes(size),
  };
}

/** What cursors keep beside their committed offsets. */
export function foundBytes({ notes, noteBytes, holes, attempts }: AckLogSize['size']): KeptBytes {
  return {
    notes: notes * weights.note + noteBytes,
    holes: holes * weights.hole,
    attempts: attempts * weights.attemptRun,
  };
}
