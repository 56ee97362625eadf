import type {
  FetchedOffset,
  GroupSummary,
  MemberDetails,
  PartitionExtent,
  SubscriptionDetails,
  TopicDetails,
} from './commands.ts';
import type { PartitionStatus, TopicPartition } from '../delivery/ports/session.ts';

/**
 * The most bytes that the entries of list answers need, in protobuf or in JSON, which is the larger
 * one. A name has one byte for each character in both. The constant of an entry stands for all of
 * its fields with their names and longest numbers, but without its texts. A test encodes the
 * largest entries and compares.
 */

export function topicPartitionBytes({ topic }: TopicPartition): number {
  return 56 + topic.length;
}

export function partitionStatusBytes({ topic, memberId }: PartitionStatus): number {
  return 416 + topic.length + (memberId?.length ?? 0);
}

export function memberBytes(member: MemberDetails): number {
  const { memberId, clientId, host, instanceId, topics, partitions, revoking } = member;
  const texts = memberId.length + clientId.length + host.length + (instanceId?.length ?? 0);
  return (
    640 + texts + namesBytes(topics) + sumOf(partitions, topicPartitionBytes) + sumOf(revoking, topicPartitionBytes)
  );
}

export function groupBytes({ name, assignor, leaderId, topics }: GroupSummary): number {
  return 448 + name.length + assignor.length + (leaderId?.length ?? 0) + namesBytes(topics);
}

export function topicBytes({ name, description }: TopicDetails): number {
  return 512 + name.length + textBytes(description);
}

export function partitionInfoBytes(_: PartitionExtent): number {
  return 176;
}

export function subscriptionBytes({ group, topic }: SubscriptionDetails): number {
  return 448 + group.length + topic.length;
}

export function fetchedOffsetBytes({ topic, committed }: FetchedOffset): number {
  return 304 + topic.length + (committed === null ? 0 : textBytes(committed.metadata));
}

function namesBytes(names: readonly string[]): number {
  return sumOf(names, (name) => name.length + 3);
}

/** A text of a client, in which JSON may need six bytes for one character. */
function textBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text));
}

function sumOf<T>(items: readonly T[], bytesOf: (item: T) => number): number {
  return items.reduce((sum, item) => sum + bytesOf(item), 0);
}
