import type { MemberId } from '../../coordinator/group.ts';
import { subscriptionCancelled } from '../../errors/rejections/groups.ts';

/** A group, as far as it is subscribed, and its members read topics. */
interface GroupOfReaders {
  readonly name: string;
  readonly subscriptions: ReadonlyMap<number, unknown>;
  row(memberId: MemberId): { readonly topicIds: readonly number[] } | undefined;
}

interface NamedTopics {
  /** The name of a topic; undefined for one that was deleted. */
  topicName(topicId: number): string | undefined;
}

/**
 * @param topicIds the topics that the member wants to read. Default: those that it reads.
 * @throws Rejection SUBSCRIPTION_CANCELLED if the group was subscribed to one for the member.
 */
export function refuseCancelled(
  group: GroupOfReaders,
  topics: NamedTopics,
  memberId: MemberId,
  topicIds?: readonly number[],
): void {
  const own = group.row(memberId)?.topicIds ?? [];
  for (const topicId of topicIds ?? own) {
    if (group.subscriptions.has(topicId) || !own.includes(topicId)) continue;
    const topic = topics.topicName(topicId);
    if (topic !== undefined) throw subscriptionCancelled({ group: group.name, topic });
  }
}
