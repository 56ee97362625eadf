import type { MemberId } from '../../coordinator/group.ts';
import { Rejection } from '../../errors/rejection.ts';
import type { GroupModel } from './model.ts';

/** Refusals of calls on groups that several machines of delivery say. */

export function fenced(memberId: MemberId): Rejection {
  return new Rejection('MEMBER_FENCED', `member "${memberId}" is not a member of this group (any more): join again`, {
    metadata: { memberId },
  });
}

/** A process that uses an instance id which another one has joined with since. */
export function instanceFenced(memberId: MemberId): Rejection {
  return new Rejection(
    'INSTANCE_FENCED',
    `another process has joined with the group instance id of member "${memberId}"`,
    {
      metadata: { memberId },
    },
  );
}

/** @throws Rejection GROUP_NOT_EMPTY */
export function refuseUnlessEmpty(group: GroupModel): void {
  if (group.members.size > 0) throw groupNotEmpty(group, `it has ${group.members.size} members`);
}

export function groupNotEmpty({ name, members }: GroupModel, why: string): Rejection {
  return new Rejection('GROUP_NOT_EMPTY', `group "${name}" must have no members for this: ${why}`, {
    metadata: { group: name, members: String(members.size) },
  });
}

export function subscriptionNotFound(group: string, topic: string): Rejection {
  return new Rejection('SUBSCRIPTION_NOT_FOUND', `group "${group}" has no subscription to topic "${topic}"`, {
    metadata: { group, topic },
  });
}
