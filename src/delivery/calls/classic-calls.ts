import type { MemberId, MemberRow, PartitionRef } from '../../coordinator/group.ts';
import { groupTaskTooLarge } from '../../errors/rejections/groups.ts';
import { pageStale, syncTimeout } from '../../errors/rejections/members.ts';
import { limits } from '../../limits/limits.ts';
import type {
  AssignmentTask,
  HeartbeatCommand,
  HeartbeatOutcome,
  HeldPartition,
  JoinGroupCommand,
  JoinGroupOutcome,
  MemberAssignment,
  SyncGroupCommand,
  SyncGroupOutcome,
} from '../ports/membership.ts';
import type { ConsumerGroup } from '../groups/consumer-group.ts';
import type { Member } from '../dispatch/member.ts';
import type { GroupModel } from '../groups/model.ts';
import type { GroupContext } from '../groups/context.ts';
import type { Admission } from '../groups/admission.ts';
import type { LoadedGroups } from '../groups/loaded-groups.ts';
import { refuseIfUnsure } from '../dispatch/not-owner.ts';

/**
 * The calls of members that manage their membership: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
 */
export class ClassicCalls {
  readonly #groups: LoadedGroups;
  readonly #admission: Admission;
  readonly #context: GroupContext;

  constructor(groups: LoadedGroups, admission: Admission, context: GroupContext) {
    this.#groups = groups;
    this.#admission = admission;
    this.#context = context;
  }

  async join(host: string, command: JoinGroupCommand): Promise<JoinGroupOutcome> {
    const { sessionTimeoutMs, rebalanceTimeoutMs, assignor, clientAssignors, metadata } = command;
    const options = {
      kind: 'CLASSIC',
      host,
      sessionTimeoutMs,
      rebalanceTimeoutMs,
      assignor,
      clientAssignors,
      metadata,
    } as const;
    const { group, member } = await this.#admission.enter(command, options, true);
    const row = group.row(member.id);
    return {
      memberId: member.id,
      generation: group.generation,
      heartbeatIntervalMs: limits.heartbeatIntervalMs,
      sessionTimeoutMs: row?.sessionTimeoutMs ?? sessionTimeoutMs,
      maxPollIntervalMs: row?.maxPollIntervalMs ?? command.maxPollIntervalMs,
      leaderId: group.leaderId,
      assignor: group.assignor,
      task: planWanted(group, member.id) ? taskOf(group) : null,
    };
  }

  /**
   * Waits for the assignment, unless the call continues to read one. @throws Rejection PAGE_STALE
   * if the member has another assignment by now
   */
  async sync(command: SyncGroupCommand, continued: string | null = null): Promise<SyncGroupOutcome> {
    const group = this.#groups.get(command.group);
    const member = group.member(command.memberId);
    group.alive(command.memberId);
    if (continued === null) await this.#assigned(group, member, command);
    const version = `${group.generation}.${member.assignmentVersion}`;
    if (continued !== null && continued !== version) throw pageStale();
    return { generation: group.generation, version, partitions: heldBy(group, member) };
  }

  async #assigned(group: ConsumerGroup, member: Member, command: SyncGroupCommand): Promise<void> {
    const { knownGeneration, plan } = command;
    if (plan !== null) await group.assign(member.id, plan.generation, plan.members);
    const isNews = (): boolean =>
      knownGeneration === null ||
      group.generation > knownGeneration ||
      member.assignmentVersion !== member.syncedVersion;
    const ready = (): boolean => !group.members.has(member.id) || (!group.awaitsPlan && !group.isMoving && isNews());
    if (!(await group.watch(ready, command.waitMs, command.signal))) {
      throw syncTimeout({ generation: group.generation });
    }
    group.member(command.memberId);
    member.syncedVersion = member.assignmentVersion;
  }

  heartbeat(command: HeartbeatCommand): HeartbeatOutcome {
    const group = this.#groups.get(command.group);
    const member = group.member(command.memberId);
    this.#context.counts.heartbeats++;
    // The sign of life counts even if this broker may have been replaced. If not, the session goes
    // on.
    group.alive(command.memberId, givenBack(group, command));
    refuseIfUnsure(this.#context);
    return {
      generation: group.generation,
      heartbeatIntervalMs: limits.heartbeatIntervalMs,
      ...member.revoking(limits.heartbeatPartitionsMax),
      planWanted: planWanted(group, member.id),
    };
  }

  async leave(groupName: string, memberId: MemberId): Promise<void> {
    const group = this.#groups.get(groupName);
    group.member(memberId);
    group.alive(memberId);
    await group.leave(memberId, 'LEFT');
  }
}

/**
 * The partitions that a heartbeat gives back. A late call does not give back partitions that the
 * member has got after the generation that it names.
 */
function givenBack(group: GroupModel, { memberId, revoked, generation }: HeartbeatCommand): PartitionRef[] {
  return group.refs(revoked).filter((ref) => {
    const holder = group.holder(ref);
    return generation !== null && holder?.memberId === memberId && holder.sinceGeneration <= generation;
  });
}

/**
 * The partitions of the member, in order. Those of a group are in order without a sort. The few of
 * a member in a large group are sorted, because a thousand members may ask at once.
 */
function heldBy(group: GroupModel, member: Member): HeldPartition[] {
  const subscriptions = group.sortedSubscriptions();
  const all = subscriptions.reduce((sum, { logs }) => sum + logs.length, 0);
  if (member.seats.length * seatsAgainstLogs < all) return heldInOrder(member);
  const held: HeldPartition[] = [];
  for (const { logs } of subscriptions) {
    for (const { key, place, seat } of logs) {
      if (key.lane === 0 && seat?.member === member) held.push({ place, revoking: seat.revoking });
    }
  }
  return held;
}

/** A seat takes as long to sort as so many logs to look at. */
const seatsAgainstLogs = 30;

function heldInOrder({ seats }: Member): HeldPartition[] {
  const held = seats.filter(({ feed }) => feed.key.lane === 0);
  held.sort(({ feed: { place: a } }, { feed: { place: b } }) => {
    if (a.topic !== b.topic) return a.topic < b.topic ? -1 : 1;
    return a.partition - b.partition;
  });
  return held.map(({ feed, revoking }) => ({ place: feed.place, revoking }));
}

/** Whether the member is the leader, and must send a plan for the current generation. */
function planWanted(group: GroupModel, memberId: MemberId): boolean {
  const { leaderId, awaitsPlan, preparing, generation, decidedGeneration } = group;
  return leaderId === memberId && awaitsPlan && !preparing && generation === decidedGeneration;
}

/**
 * The input of a plan. Only a group that an older broker has filled can have too large a one.
 * @throws Rejection GROUP_TASK_TOO_LARGE
 */
function taskOf(group: GroupModel): AssignmentTask {
  const names = new Map(Array.from(group.subscriptions.values(), ({ row, topicName }) => [row.topicId, topicName]));
  const rows = group.rows().filter(({ memberId }) => !group.isStalled(memberId));
  const membersBytes = rows.reduce((sum, row) => sum + group.assignableBytes(row), 0);
  if (membersBytes > limits.pageBytesMax) throw groupTaskTooLarge('what the members tell their leader is too large');
  return {
    members: rows.map(({ memberId, clientId, instanceId, topicIds, metadata }) => {
      return { memberId, clientId, instanceId, topics: topicIds.flatMap((id) => names.get(id) ?? []), metadata };
    }),
    topics: Array.from(group.subscriptions.values(), ({ topicName, partitions }) => ({
      topic: topicName,
      partitions,
    })),
    current: membersBytes + currentBytes(group) > limits.pageBytesMax ? null : currentOf(group, rows),
  };
}

/** The most bytes of the current assignment of a group, in protobuf or JSON. */
function currentBytes(group: GroupModel): number {
  const memberBytes = limits.memberIdCharsMax + 40;
  const partitions = group.sortedSubscriptions().map((one) => one.partitions * (one.topicName.length + 56));
  return partitions.reduce((sum, bytes) => sum + bytes, group.memberCount * memberBytes);
}

function currentOf(group: GroupModel, rows: readonly MemberRow[]): MemberAssignment[] {
  return rows.map(({ memberId }) => ({ memberId, partitions: group.members.get(memberId)?.partitions() ?? [] }));
}
