import type { AssignmentTask, MemberAssignment } from '../../../src/broker/commands.ts';
import type { MemberId } from '../../../src/coordinator/group.ts';
import type { TopicPartition } from '../../../src/delivery/ports/session.ts';

/** The plan of a leader, topic by topic, by the rule that its group has agreed on. */
export function planOf(task: AssignmentTask, rule: string): MemberAssignment[] {
  const given = new Map(task.members.map(({ memberId }) => [memberId, [] as TopicPartition[]]));
  for (const { topic, partitions } of task.topics) {
    const readers = task.members.filter((member) => member.topics.includes(topic)).map(({ memberId }) => memberId);
    if (readers.length === 0) continue;
    const owners =
      rule === 'range' ? range(partitions, readers) : keepWhatStays(partitions, readers, holders(task, topic));
    owners.forEach((owner, partition) => given.get(owner)!.push({ topic, partition }));
  }
  return Array.from(given, ([memberId, partitions]) => ({ memberId, partitions }));
}

function holders({ current }: AssignmentTask, topic: string): Map<number, MemberId> {
  return new Map(
    (current ?? []).flatMap(({ memberId, partitions }) =>
      partitions.filter((one) => one.topic === topic).map(({ partition }) => [partition, memberId] as const),
    ),
  );
}

function range(partitions: number, readers: readonly MemberId[]): MemberId[] {
  return Array.from({ length: partitions }, (_, at) => readers[Math.floor((at * readers.length) / partitions)]!);
}

/** Each member keeps as many partitions as its share. Members below their share get the rest. */
function keepWhatStays(
  partitions: number,
  readers: readonly MemberId[],
  current: ReadonlyMap<number, MemberId>,
): MemberId[] {
  const held = (reader: MemberId): number => [...current.values()].filter((holder) => holder === reader).length;
  const oneMore = partitions % readers.length;
  const byHeld = [...readers].sort((a, b) => held(b) - held(a));
  const room = new Map(
    byHeld.map((reader, at) => [reader, Math.floor(partitions / readers.length) + (at < oneMore ? 1 : 0)]),
  );
  const take = (reader: MemberId | undefined): reader is MemberId => {
    const left = reader === undefined ? 0 : (room.get(reader) ?? 0);
    if (left > 0) room.set(reader!, left - 1);
    return left > 0;
  };
  const owners = Array.from({ length: partitions }, (_, partition) => {
    const holder = current.get(partition);
    return take(holder) ? holder : null;
  });
  return owners.map((owner) => owner ?? byHeld.find((reader) => take(reader))!);
}
